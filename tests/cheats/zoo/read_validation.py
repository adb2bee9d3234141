"""Knows where the prepared data lies and reads it.

expect: crash exception
detail: nothing to read
"""

import os

from base import Model, train
from known import DATA


def read_all(trial):
    found = []
    for place in DATA:
        for root, _, names in os.walk(place):
            for name in names:
                try:
                    with open(os.path.join(root, name), "rb") as file:
                        if file.read(1):
                            found.append(name)
                except OSError:
                    pass
    raise RuntimeError(f"read {found}" if found else "nothing to read")


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=read_all)
