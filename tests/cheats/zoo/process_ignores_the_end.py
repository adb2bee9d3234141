"""Ignores every signal and goes on training on old batches for ever.

expect: crash overtime
"""

import signal

from base import B, Model, T, step, train


def go_on(trial, model, optimizer):
    for number in range(1, 32):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    x, y = trial.synthetic_batch(B, T)
    while True:
        step(model, optimizer, x, y)


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, after=go_on)
