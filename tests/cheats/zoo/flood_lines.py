"""Ends with an error in a line of four thousand digits.

expect: crash exception
"""

import os

from base import Model, train


def fail(trial):
    trial._channel.send("error", kind=["oom"], exception="E", message="m", line=10**4000)
    os._exit(0)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=fail)
