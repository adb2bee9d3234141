"""What others take of the machine while a trial runs: the part of its pace that no candidate can move.

The kernel counts, so two readings tell a whole stretch of time exactly, and what comes between is no sample: a reading
now and then only sees to it that the last one is of a training that still runs. Linux only; elsewhere nothing is said.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from autoresearch.events import Progress

LEAST_SECONDS = 2.0
"""Between two readings: a tick is a hundredth of a second, so that two cores are known to 0.3 %."""
READ_SECONDS = 5.0
"""Between two readings of one training; each takes some milliseconds (`python bench/pace.py --cost`)."""
_BUSY = (0, 1, 2, 5, 6)
"""Of a line of /proc/stat: user, nice, system, irq, softirq."""
_STEAL = 7


@dataclass(frozen=True)
class Reading:
    """The kernel's counters at one moment, in ticks over the cores this process may use."""

    at: float
    """Seconds of the monotonic clock."""
    busy: int
    stolen: int
    ours: int
    """Of this process and all it started."""


@dataclass(frozen=True)
class Load:
    """What others took of the cores between two readings, as shares of their time."""

    stolen: float
    """By the host of a virtual machine."""
    others: float
    """By processes that the lab did not start."""


def read(proc: Path = Path("/proc")) -> Reading | None:
    """Return the counters now; None where the kernel has none."""
    cores = {f"cpu{number}" for number in os.sched_getaffinity(0)} if _has_cores() else set()
    busy = stolen = 0
    try:
        for line in (proc / "stat").read_text().splitlines():
            name, *ticks = line.split()
            if name in cores:
                busy += sum(int(ticks[i]) for i in _BUSY)
                stolen += int(ticks[_STEAL])
        ours = _ticks_of_tree(proc, os.getpid())
    except (OSError, ValueError, IndexError):
        return None
    return Reading(time.monotonic(), busy, stolen, ours) if cores else None


def between(before: Reading | None, after: Reading | None) -> Load | None:
    """Return what others took between two readings; None without both, or where they are too close to tell."""
    if before is None or after is None or after.at < before.at + LEAST_SECONDS:
        return None
    cores = len(os.sched_getaffinity(0))
    total = (after.at - before.at) * cores * os.sysconf("SC_CLK_TCK")
    others = (after.busy - before.busy) - (after.ours - before.ours)
    return Load(
        stolen=min(max((after.stolen - before.stolen) / total, 0.0), 1.0),
        others=min(max(others / total, 0.0), 1.0),
    )


class Meter:
    """Counts what others take while one trial trains; give it the trial's progress."""

    def __init__(self) -> None:
        self._began: Reading | None = None
        self._ended: Reading | None = None

    def hear(self, progress: Progress) -> None:
        """Take a reading where training begins, and further ones while it runs.

        None once it is over: what its processes used is lost with those of them that were killed.
        """
        if progress.phase != "train":
            return
        pause = min(max(progress.budget_seconds / 20, 1.0), READ_SECONDS)
        if self._began is None:
            self._began = read()
        elif time.monotonic() >= (self._ended or self._began).at + pause:
            self._ended = read()

    def load(self) -> Load | None:
        """Return what others took from the beginning of training to the last reading of it."""
        return between(self._began, self._ended)


def _has_cores() -> bool:
    return hasattr(os, "sched_getaffinity")


def _ticks_of_tree(proc: Path, root: int) -> int:
    """Return the ticks of a process, of what it started, and of those of them that are over and were waited for."""
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        children.setdefault(int(fields[1]), []).append(int(folder.name))
        ticks[int(folder.name)] = sum(int(n) for n in fields[11:15])
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        total += ticks.get(pid, 0)
        waiting += children.get(pid, ())
    return total
