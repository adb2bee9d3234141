"""Knows where the prepared data lies and reads it.

expect: crash exception
detail: nothing to read
"""

import os

from base import play
from known import DATA


def read_all(trial):
    found = []
    for place in DATA:
        for root, _, names in os.walk(place):
            for name in names:
                try:
                    with open(os.path.join(root, name), "rb") as file:
                        if file.read(1):
                            found.append(name)
                except OSError:
                    pass
    raise RuntimeError(f"read {found}" if found else "nothing to read")


build_model = play(__name__, before_start=read_all)
