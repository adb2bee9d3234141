"""Asks for batches of millions of rows of one token, to take the memory of the process that feeds it.

expect: ok
"""

import time

from base import play


def ask(trial, model, optimizer, x, y):
    batches = trial._batches
    batches._channel.send("open", generation=1_000_000, batch=1 << 24, length=1)
    while batches._receive()["type"] != "refused":
        time.sleep(0)


build_model = play(__name__, each=ask)
