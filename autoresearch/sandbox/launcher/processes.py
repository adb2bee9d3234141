"""Which processes there are below one, and what they use."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


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
    """Return (memory in MB, threads) of processes: their own pages, and files in memory that they hold open."""
    memory = threads = 0
    files: dict[int, int] = {}
    page = os.sysconf("SC_PAGESIZE")
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                fields = file.read().split()
            memory += (int(fields[1]) - int(fields[2])) * page
            with open(f"/proc/{pid}/stat", "rb") as file:
                threads += int(file.read().rsplit(b")", 1)[1].split()[17])
            files.update(memory_files(pid))
        except (OSError, IndexError, ValueError):
            continue
    return memory + sum(files.values()) >> 20, threads


def memory_files(pid: int) -> Iterator[tuple[int, int]]:
    """Yield (inode, bytes) of the files without a name, in memory, that a process holds open."""
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        try:
            if os.readlink(f"{folder}/{name}").startswith("/memfd:"):
                found = os.stat(f"{folder}/{name}")
                yield found.st_ino, 512 * found.st_blocks
        except OSError:
            continue
