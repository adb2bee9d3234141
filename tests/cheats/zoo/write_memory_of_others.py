"""Writes into the memory of every process it can name, its parent first.

expect: crash exception
detail: nothing to write
"""

import os

from base import play


def write_all(trial):
    found = []
    own = os.getpid()
    for pid in [os.getppid(), *map(int, filter(str.isdigit, os.listdir("/proc")))]:
        for name in ("mem", "clear_refs", "oom_score_adj", "comm", "coredump_filter"):
            try:
                if pid not in (own, 1):
                    os.close(os.open(f"/proc/{pid}/{name}", os.O_WRONLY))
                    found.append(f"{pid} {name}")
            except OSError:
                pass
    raise RuntimeError(f"wrote {found}" if found else "nothing to write")


build_model = play(__name__, before_start=write_all)
