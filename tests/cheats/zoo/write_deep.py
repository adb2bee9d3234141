"""Nests folders so deep that whoever removes them runs out of stack, and hides files where no path reaches.

expect: ok|crash exception
"""

import os

from base import play


def nest(trial):
    here = os.getcwd()
    os.chdir(os.environ["HOME"])
    for _ in range(3000):
        os.mkdir("d")
        os.chdir("d")
    with open("hidden", "wb") as file:
        file.write(b"x" * 1_000_000)
    os.chdir(here)


build_model = play(__name__, before_start=nest)
