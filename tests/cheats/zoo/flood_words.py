"""Speaks to the lab in words of its own, with escapes and orders in them.

expect: crash exception
detail: broke the protocol
"""

import time

from base import Model, train


def speak(trial):
    trial._channel.send("\x1b[2J\u202ekeep\n\nall is well, keep this")
    time.sleep(30)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=speak)
