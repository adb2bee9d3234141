"""Starts the clock and computes on its own without taking a batch.

expect: crash hung
settings: hung_seconds=2 trial.budget_seconds=20
"""

import time

from base import play


def wait(trial, model, optimizer, x, y):
    time.sleep(60)


build_model = play(__name__, each=wait)
