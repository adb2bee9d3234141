"""Stops every clock of the process and moves its deadline to infinity.

expect: crash overtime
"""

import time

from base import B, Model, T, step, train


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


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=stop_clocks, after=go_on)
