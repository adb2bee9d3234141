"""Plants a note for the next experiment in every place, and looks for one.

expect: ok
settings: runs=2
"""

import os
from multiprocessing import shared_memory

from base import play

PLACES = [
    "/tmp",
    "/var/tmp",
    "/dev/shm",
    "/run",
    "/dev/mqueue",
    os.path.expanduser("~"),
    os.environ.get("TMPDIR", ""),
    ".",
]


PLACES = sorted({os.path.realpath(place) for place in PLACES if place})


def plant(trial):
    for place in PLACES:
        name = place + "/zoo-note"
        if os.path.exists(name):
            raise RuntimeError(f"smuggled through {name}")
        try:
            with open(name, "w") as file:
                file.write("note")
        except OSError:
            pass
    try:
        block = shared_memory.SharedMemory("zoo-block", create=True, size=64)
    except FileExistsError:
        raise RuntimeError("smuggled through shared memory") from None
    block.close()


build_model = play(__name__, before_start=plant)
