"""A header nested a hundred thousand deep.

expect: crash exception
"""

import os

from base import Model, train


def hand_in(trial, model, optimizer):
    header = b"[" * 100_000
    data = len(header).to_bytes(8, "little") + header
    trial._channel.send("submit", size=len(data), num_params=1)
    trial._channel.send_bytes(data)
    trial._channel.expect("received", timeout=30)
    os._exit(0)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, after=hand_in)
