"""Which processes there are below one, and what they use."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def descendants(pid: int) -> set[int]:
    """Return the ids of all processes below `pid`, threads not counted."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rsplit(b")", 1)[1].split()
            except (OSError, IndexError):
                continue
            if fields[0] != b"Z":
                children.setdefault(int(fields[1]), []).append(int(name))
    found: list[int] = []
    todo = [pid]
    while todo:
        new = children.get(todo.pop(), [])
        found += new
        todo += new
    return set(found)


def usage(pids: Iterable[int]) -> tuple[int, int]:
    """Return (memory in MB, threads) of processes, shared pages counted by share where possible."""
    memory = threads = 0
    page = os.sysconf("SC_PAGESIZE")
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                fields = file.read().split()
            memory += (int(fields[1]) - int(fields[2])) * page
            with open(f"/proc/{pid}/stat", "rb") as file:
                threads += int(file.read().rsplit(b")", 1)[1].split()[17])
        except (OSError, IndexError, ValueError):
            continue
    return memory >> 20, threads
