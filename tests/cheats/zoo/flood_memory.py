"""Takes memory without end.

expect: crash oom|exception
settings: sandbox.memory_mb=1200
"""

import time

from base import Model, train


def grow(trial):
    held = []
    for _ in range(80):
        held.append(b"x" * (64 << 20))
        time.sleep(0.02)
    time.sleep(5)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=grow)
