"""Cores and memory of this machine, or of the container that limits them."""

import contextlib
import os
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def num_cores() -> int:
    """Return the cores this process may run on: affinity and the quota of the container respected."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        quota, period = (_GROUPS / "cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


def free_memory_bytes() -> int:
    """Return the memory of this machine that programs may still take."""
    import psutil

    return int(psutil.virtual_memory().available)


def memory_bytes() -> int:
    """Return the memory of this machine, or of the container where that has less."""
    import psutil

    total = int(psutil.virtual_memory().total)
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            total = min(total, int((_GROUPS / name).read_text(encoding="ascii")))
    return total
