"""Fills its folder.

expect: crash exception|oom
settings: sandbox.disk_mb=64
"""

import os
import time

from base import Model, train


def fill(trial):
    for number in range(400):
        with open(f"{os.environ['HOME']}/{number}", "wb") as file:
            file.write(b"x" * (2 << 20))
        time.sleep(0.01)
    time.sleep(5)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=fill)
