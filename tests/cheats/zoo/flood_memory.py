"""Takes memory without end.

expect: crash oom|exception
settings: sandbox.memory_mb=1200
"""

import time

from base import play


def grow(trial):
    held = []
    for _ in range(80):
        held.append(b"x" * (64 << 20))
        time.sleep(0.02)
    time.sleep(5)


build_model = play(__name__, before_start=grow)
