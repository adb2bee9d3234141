"""Reads what waits in the ring, gives nothing back and asks again, to see more text than is counted.

expect: ok
"""

from base import T, play


def read_on(trial, model, optimizer, x, y):
    batches, seen = trial._batches, 0
    while seen < 100 and not DONE:  # 1.6 million tokens
        batches._generation += 1
        batches._channel.send("open", generation=batches._generation, batch=256, length=T)
        ready = set()
        while len(ready) < 2:
            message = batches._receive()
            if message["type"] == "ready" and message["generation"] == batches._generation:
                ready.add(message["slot"])
        seen += 2
    DONE.append(seen)


DONE = []


build_model = play(__name__, each=read_on)
