"""Grows the shared ring by an odd number of bytes and by more than there is, so that the feeder stumbles.

expect: ok|crash
"""

import os

from base import Model, T, step, train


def grow(trial, model, optimizer, x, y):
    ring = trial._batches._ring
    for size in (os.fstat(ring).st_size + 1, 100_000_001, 1 << 40, 1 << 62):
        try:
            os.ftruncate(ring, size)
        except OSError:
            pass
    for bx, by in trial.batches(16, T):
        step(model, optimizer, bx, by)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, each=grow)
