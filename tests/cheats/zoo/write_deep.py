"""Nests folders so deep that whoever removes them runs out of stack, and hides files where no path reaches.

expect: ok|crash exception
"""

import os

from base import Model, train


def nest(trial):
    here = os.getcwd()
    os.chdir(os.environ["HOME"])
    for _ in range(3000):
        os.mkdir("d")
        os.chdir("d")
    with open("hidden", "wb") as file:
        file.write(b"x" * 1_000_000)
    os.chdir(here)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=nest)
