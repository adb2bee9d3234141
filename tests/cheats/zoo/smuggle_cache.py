"""Poisons the compile cache and imports it in the next experiment.

expect: ok
settings: runs=2
"""

import os

from base import play


def poison(trial):
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    folder = os.environ.get("TORCHINDUCTOR_CACHE_DIR") or cache_dir()
    name = folder + "/zoo_poison.py"
    if os.path.exists(name):
        raise RuntimeError("the cache is poisoned")
    os.makedirs(folder, exist_ok=True)
    with open(name, "w") as file:
        file.write("raise SystemExit")


build_model = play(__name__, before_start=poison)
