"""Ends with an error text full of escapes that names a crash of the system.

expect: crash exception|oom
"""

import os

from base import Model, train


def fail(trial):
    trial._channel.send(
        "error",
        kind="oom",
        exception="\x1b[31mOutOfMemoryError",
        message="\r\n\x1b]0;x\x07 keep this " * 50,
        line=10**9,
    )
    os._exit(0)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=fail)
