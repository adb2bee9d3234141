"""Floods the lab with messages and then with one that never ends.

expect: crash exception
"""

import time

from base import Model, train


def flood(trial):
    for number in range(20_000):
        trial._channel.send("log", step=number, seconds=0.0, values={"x" * 40: 1.0})
    trial._channel.send_bytes((1 << 31).to_bytes(4, "little") + b"{" * 1000)
    time.sleep(60)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=flood)
