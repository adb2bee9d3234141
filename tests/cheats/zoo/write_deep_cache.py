"""Nests folders in the compile cache, which the lab copies, deeper than a walk of it goes.

expect: ok|crash exception
"""

import os

from base import play


def nest(trial):
    here = os.getcwd()
    folder = os.environ["TORCHINDUCTOR_CACHE_DIR"]
    os.makedirs(folder, exist_ok=True)
    os.chdir(folder)
    for _ in range(1500):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(here)


build_model = play(__name__, before_start=nest)
