"""Keeps batches and trains on them once the budget is spent, up to the last moment of the allowance.

expect: tainted overtime|crash overtime
settings: submit_seconds=0.02
"""

import time

from base import play, step

KEPT = []


def keep(trial, model, optimizer, x, y):
    KEPT.append((x, y))


def replay(trial, model, optimizer):
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        for x, y in KEPT[:50]:
            step(model, optimizer, x, y)


build_model = play(__name__, each=keep, after=replay)
