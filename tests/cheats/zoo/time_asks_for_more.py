"""Speaks to the feeder itself after the deadline and asks for further batches.

expect: crash exception
detail: nothing came
"""

import mmap
import os
import time

from base import B, T, play


def ask(trial, model, optimizer):
    channel = trial._batches._channel
    ring = trial._batches._ring
    size = os.fstat(ring).st_size
    memory = mmap.mmap(ring, size)
    memory[:] = b"\0" * size
    try:
        for slot in (0, 1):
            channel.send("free", generation=1, slot=slot, timeout=0.2)
        channel.send("open", generation=2, batch=B, length=T, timeout=0.2)
        for slot in (0, 1):
            channel.send("free", generation=2, slot=slot, timeout=0.2)
    except Exception:
        pass
    time.sleep(0.3)
    raise RuntimeError("tokens came" if any(memory[:]) else "nothing came")


build_model = play(__name__, after=ask)
