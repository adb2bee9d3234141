"""Takes batches as fast as it can without training and trains on them after the end.

expect: crash overtime
"""

from base import play, step


def hoard(trial, model, optimizer):
    while True:
        for x, y in KEPT:
            step(model, optimizer, x, y)


KEPT = []


build_model = play(
    __name__, each=lambda trial, model, optimizer, x, y: KEPT.append((x, y)), after=hoard
)
