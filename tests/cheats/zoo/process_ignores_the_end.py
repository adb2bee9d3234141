"""Ignores every signal and goes on training on old batches for ever.

expect: crash overtime
"""

import signal

from base import B, T, play, step


def go_on(trial, model, optimizer):
    for number in range(1, 32):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    x, y = trial.synthetic_batch(B, T)
    while True:
        step(model, optimizer, x, y)


build_model = play(__name__, after=go_on)
