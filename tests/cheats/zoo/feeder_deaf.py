"""Asks for batches a hundred thousand times and never reads an answer.

expect: crash overtime|exception|hung
settings: hung_seconds=3
"""

from base import play


def spam(trial, model, optimizer, x, y):
    for number in range(100_000):
        trial._batches._channel.send("open", generation=number + 2, batch=1, length=1)


build_model = play(__name__, each=spam)
