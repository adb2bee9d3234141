"""Prints a score and ends without handing anything in.

expect: crash no_submission
"""

import os

from base import Model, train


def end(trial, model, optimizer):
    print("val_bpb: 0.123456", flush=True)
    os._exit(0)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, after=end)
