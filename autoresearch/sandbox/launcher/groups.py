"""Control groups: limits on memory and processes, where the system lets us make one."""

from __future__ import annotations

import os
import time

from .kernel import MB

_PREFIX = "autoresearch-"
_MOST_USED = "memory.max_usage_in_bytes"
_MIN_AGE_SECONDS = 60.0
"""Of an empty group before anyone but its maker removes it: a keeper of another container, whose process
is invisible here, may be about to move its child in."""


class Group:
    """A control group for memory and processes, where the system lets us make one."""

    def __init__(self, memory_mb: int, max_processes: int) -> None:
        self.directories: list[str] = []
        self.memory_mb = memory_mb
        try:
            self._make(memory_mb, max_processes)
        except OSError:
            self.remove()

    def _make(self, memory_mb: int, max_processes: int) -> None:
        with open("/proc/self/cgroup") as lines:
            entries = [line.strip().split(":", 2) for line in lines]
        for _, controllers, path in entries:
            if not controllers and os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
                # Version 2: a group with processes has no child groups with limits, so a sibling.
                parent = os.path.dirname("/sys/fs/cgroup" + path.rstrip("/"))
                with open(parent + "/cgroup.subtree_control") as enabled:
                    if not {"memory", "pids"} <= set(enabled.read().split()):
                        continue
                directory = self._add(parent)
                if memory_mb:
                    put(directory + "/memory.max", memory_mb * MB)
                    try_put(directory + "/memory.swap.max", 0)
                put(directory + "/pids.max", max_processes)
            for name in set(controllers.split(",")) & {"memory", "pids"}:
                directory = self._add(f"/sys/fs/cgroup/{name}{path.rstrip('/')}")
                if name == "memory" and memory_mb:
                    put(directory + "/memory.limit_in_bytes", memory_mb * MB)
                    try_put(directory + "/memory.memsw.limit_in_bytes", memory_mb * MB)
                elif name == "pids":
                    put(directory + "/pids.max", max_processes)

    def _add(self, parent: str) -> str:
        clear_left_behind(parent)
        directory = f"{parent}/{_PREFIX}{os.getpid()}-{os.urandom(4).hex()}"
        os.mkdir(directory)
        self.directories.append(directory)
        return directory

    def join(self) -> None:
        """Move the calling process in, if the group is still there; `holds` tells."""
        for directory in self.directories:
            try_put(directory + "/cgroup.procs", 0)

    def holds(self, pid: int) -> bool:
        """Whether the limits of the group are those of process `pid`."""
        return bool(self.directories) and all(pid in members(path) for path in self.directories)

    def processes(self) -> set[int]:
        """Return the ids of everything in the group, escaped daemons included."""
        return {pid for directory in self.directories for pid in members(directory)}

    def was_out_of_memory(self) -> bool:
        """Whether the kernel killed something for the limit."""
        for directory in self.directories:
            for name in ("memory.events", "memory.oom_control"):
                try:
                    with open(f"{directory}/{name}") as lines:
                        for line in lines:
                            if line.startswith("oom_kill ") and int(line.split()[1]) > 0:
                                return True
                except OSError:
                    pass
        return False

    def remove(self) -> None:
        """Take the groups away again."""
        for directory in self.directories:
            for _ in range(50):
                try:
                    os.rmdir(directory)
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.01)
                    continue
                break
        self.directories = []


def memory_of(pid: int) -> tuple[int, int, int] | None:
    """Return (in use, most in use with cached files, cached files) in bytes of the group that a keeper made for `pid`.

    In use is what is no file of a disk: own pages and files in memory. None where there is no such group.
    """
    try:
        with open(f"/proc/{pid}/cgroup") as lines:
            entries = [line.rstrip("\n").split(":", 2) for line in lines]
    except OSError:
        return None
    for _, controllers, path in entries:
        is_second = not controllers
        if f"/{_PREFIX}" not in path or not (is_second or "memory" in controllers.split(",")):
            continue
        directory = "/sys/fs/cgroup" + ("" if is_second else "/memory") + path
        own, peak = ("anon", "memory.peak") if is_second else ("total_rss", _MOST_USED)
        files, shared = ("file", "shmem") if is_second else ("total_cache", "total_shmem")
        try:
            with open(directory + "/memory.stat") as lines:
                found = {name: int(value) for name, value in map(str.split, lines)}
            used, cached = found[own] + found[shared], found[files] - found[shared]
        except (OSError, ValueError, KeyError):
            continue
        try:
            with open(f"{directory}/{peak}") as file:
                return used, int(file.read()), cached
        except (OSError, ValueError):  # before Linux 5.19
            return used, used + cached, cached
    return None


def clear_left_behind(parent: str) -> None:
    """Remove the groups below `parent` that killed keepers left; the kernel refuses where a process is in one."""
    for name in os.listdir(parent):
        if not name.startswith(_PREFIX):
            continue
        directory, pid = f"{parent}/{name}", name.split("-")[1]
        try:
            is_old = time.time() - os.stat(directory).st_mtime > _MIN_AGE_SECONDS
            if is_old and not os.path.exists(f"/proc/{pid}"):
                os.rmdir(directory)
        except OSError:
            pass


def members(directory: str) -> set[int]:
    """Return the ids of the processes in one control group."""
    try:
        with open(directory + "/cgroup.procs") as lines:
            return {int(line) for line in lines}
    except OSError:
        return set()


def put(path: str, value: int) -> None:
    """Write a number into a control file."""
    with open(path, "w") as file:
        file.write(str(value))


def try_put(path: str, value: int) -> None:
    """Write a number into a control file that may be missing."""
    try:
        put(path, value)
    except OSError:
        pass
