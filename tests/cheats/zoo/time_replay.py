"""Keeps batches and trains on them once the budget is spent, up to the last moment of the allowance.

expect: tainted overtime|crash overtime
settings: submit_seconds=0.02
"""

import time

from base import Model, step, train

KEPT = []


def keep(trial, model, optimizer, x, y):
    KEPT.append((x, y))


def replay(trial, model, optimizer):
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        for x, y in KEPT[:50]:
            step(model, optimizer, x, y)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, each=keep, after=replay)
