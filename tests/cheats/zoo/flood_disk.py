"""Fills its folder.

expect: crash exception|oom
settings: sandbox.disk_mb=64
"""

import os
import time

from base import play


def fill(trial):
    for number in range(400):
        with open(f"{os.environ['HOME']}/{number}", "wb") as file:
            file.write(b"x" * (2 << 20))
        time.sleep(0.01)
    time.sleep(5)


build_model = play(__name__, before_start=fill)
