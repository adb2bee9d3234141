"""System calls Python has no name for, and what /proc says of a process and its children."""

from __future__ import annotations

import ctypes
import os

MESSAGE = "autoresearch-sandbox: "
MB = 2**20
"""As in `autoresearch.types`, of which nothing is imported here."""

SHARED = ("/tmp", "/dev/shm")  # noqa: S108 - of the child, where it has its own
"""Where bubblewrap puts file systems in memory."""
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS = 1, 8, 38
PR_SET_CHILD_SUBREAPER, PR_CAP_AMBIENT, PR_CAPBSET_DROP = 36, 47, 24
O_PATH = 0o10000000
IS_ARM = os.uname().machine == "aarch64"
LIBC = ctypes.CDLL(None, use_errno=True)
_NUMBERS = {
    "capset": (126, 91),
    "seccomp": (317, 277),
    "cachestat": (451, 451),
    "openat2": (437, 437),
    "pidfd_getfd": (438, 438),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
}
"""Call: its number on x86-64 and on arm64."""


def syscall(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> int:
    """Call the kernel; raise OSError on failure."""
    number = _NUMBERS[name][1 if IS_ARM else 0]
    result = LIBC.syscall(
        number, *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)
    )
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return int(result)


def prctl(option: int, first: int = 0, second: int = 0, third: int = 0) -> None:
    """Set a property of this process; raise OSError on failure."""
    longs = [ctypes.c_ulong(a) for a in (first, second, third, 0)]
    if LIBC.prctl(option, *longs) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option}: {os.strerror(code)}")


def complain(text: str) -> None:
    """Say one line on standard error."""
    try:
        os.write(2, (MESSAGE + text + "\n").encode(errors="replace"))
    except OSError:
        pass


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


def usage(pids: Iterable[int], folders: Iterable[str] = SHARED) -> tuple[int, int]:
    """Return (memory in MB, threads) of processes: what they have of their own, and what they hold as files in memory.

    A page that several share, as after a fork, is counted once.

    Args:
        pids: The processes.
        folders: Where they may have a file system in memory for themselves.
    """
    memory = threads = 0
    files: dict[tuple[int, int], int] = {}
    for pid in pids:
        try:
            memory += own_memory(pid)
            with open(f"/proc/{pid}/stat", "rb") as file:
                threads += int(file.read().rsplit(b")", 1)[1].split()[17])
            files.update(memory_files(pid))
            files.update(memory_folders(pid, folders))
        except (OSError, IndexError, ValueError):
            continue
    return (memory + sum(files.values())) // MB, threads


def own_memory(pid: int) -> int:
    """Return bytes of a process that are no file, its share of each page; before Linux 5.3 the whole of each."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            found = [line.split() for line in file if line.startswith((b"Pss_Anon:", b"SwapPss:"))]
        if len(found) == 2:
            return 1024 * sum(int(words[1]) for words in found)
    except OSError:
        pass  # of another user, whom this one may not look at
    with open(f"/proc/{pid}/statm", "rb") as file:
        fields = file.read().split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGESIZE")


def memory_folders(pid: int, folders: Iterable[str]) -> Iterator[tuple[tuple[int, int], int]]:
    """Yield (device, 0) and bytes in use of the file systems that a process has at `folders` and this one has not."""
    for folder in folders:
        try:
            device = os.stat(f"/proc/{pid}/root{folder}").st_dev
            if device == os.stat(folder).st_dev:
                continue
            found = os.statvfs(f"/proc/{pid}/root{folder}")
        except OSError:
            continue
        yield (device, 0), (found.f_blocks - found.f_bfree) * found.f_frsize


def memory_files(pid: int) -> Iterator[tuple[tuple[int, int], int]]:
    """Yield (device, inode) and bytes of the files without a name, in memory, that a process holds open."""
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        try:
            if os.readlink(f"{folder}/{name}").startswith("/memfd:"):
                found = os.stat(f"{folder}/{name}")
                yield (found.st_dev, found.st_ino), 512 * found.st_blocks
        except OSError:
            continue
