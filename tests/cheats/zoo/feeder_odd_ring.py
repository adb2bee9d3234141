"""Grows the shared ring by an odd number of bytes and by more than there is, so that the feeder stumbles.

expect: ok|crash
"""

import os

from base import T, play, step


def grow(trial, model, optimizer, x, y):
    ring = trial._batches._ring
    for size in (os.fstat(ring).st_size + 1, 100_000_001, 1 << 40, 1 << 62):
        try:
            os.ftruncate(ring, size)
        except OSError:
            pass
    for bx, by in trial.batches(16, T):
        step(model, optimizer, bx, by)


build_model = play(__name__, each=grow)
