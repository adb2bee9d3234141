"""Puts a link to what it may not read where its compile cache is copied from.

expect: ok
"""

import os
import shutil

from base import Model, train
from known import SECRETS


def link(trial):
    folder = os.path.dirname(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    shutil.rmtree(folder, ignore_errors=True)
    os.symlink(os.path.dirname(SECRETS[0]), folder)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=link)
