"""Announces more than it sends and waits.

expect: crash overtime
"""

import time

from base import Model, train


def hand_in(trial, model, optimizer):
    trial._channel.send("submit", size=1_000_000, num_params=1)
    trial._channel.send_bytes(b"x" * 1000)
    time.sleep(60)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, after=hand_in)
