"""Prints a hundred megabytes.

expect: ok
"""

import os

from base import Model, train


def flood(trial):
    line = b"val_bpb 0.1 " * 1000 + b"\n"
    for _ in range(8000):
        os.write(1, line)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=flood)
