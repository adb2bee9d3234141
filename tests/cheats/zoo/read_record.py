"""Knows where the run directory lies and reads git, the journal and other experiments.

expect: crash exception
detail: nothing to read
"""

import glob

from base import play
from known import SECRETS


def read_all(trial):
    found = []
    for place in SECRETS:
        for path in (place, *glob.glob(place + "/**", recursive=True, include_hidden=True)):
            try:
                with open(path, "rb") as file:
                    if file.read(1):
                        found.append(path)
            except OSError:
                pass
    raise RuntimeError(f"read {found}" if found else "nothing to read")


build_model = play(__name__, before_start=read_all)
