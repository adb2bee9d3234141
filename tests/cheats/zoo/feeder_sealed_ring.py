"""Seals the shared ring so that the feeder cannot grow it, to be measured again until luck strikes.

expect: ok|crash
"""

import fcntl

from base import T, play, step


def seal(trial, model, optimizer, x, y):
    ring = trial._batches._ring
    for kind in (fcntl.F_SEAL_GROW, 0x10, fcntl.F_SEAL_WRITE, fcntl.F_SEAL_SEAL):
        try:
            fcntl.fcntl(ring, fcntl.F_ADD_SEALS, kind)
        except OSError:
            pass
    for bx, by in trial.batches(64, T):
        step(model, optimizer, bx, by)


build_model = play(__name__, each=seal)
