"""Starts the clock and computes on its own without taking a batch.

expect: crash hung
settings: hung_seconds=2 trial.budget_seconds=20
"""

import time

from base import Model, train


def wait(trial, model, optimizer, x, y):
    time.sleep(60)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, each=wait)
