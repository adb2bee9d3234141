"""Prints a hundred megabytes.

expect: ok
"""

import os

from base import play


def flood(trial):
    line = b"val_bpb 0.1 " * 1000 + b"\n"
    for _ in range(8000):
        os.write(1, line)


build_model = play(__name__, before_start=flood)
