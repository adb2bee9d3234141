"""Stops every clock of the process and moves its deadline to infinity.

expect: crash overtime
"""

import time

from base import B, T, play, step


def stop_clocks(trial):
    now = time.monotonic()
    for name in ("monotonic", "time", "perf_counter", "process_time"):
        setattr(time, name, lambda: now)
    trial.budget_seconds = 1e9


def go_on(trial, model, optimizer):
    trial._batches.deadline = float("inf")
    trial._batches._is_over = False
    while True:
        for x, y in trial.batches(B, T):
            step(model, optimizer, x, y)
        x, y = trial.synthetic_batch(B, T)
        step(model, optimizer, x, y)


build_model = play(__name__, before_start=stop_clocks, after=go_on)
