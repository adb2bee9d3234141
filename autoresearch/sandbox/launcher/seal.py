"""The seal: a process that was shown rows can tell no later process anything through the machine.

A filter that a judge's child puts itself under before it runs code that is not ours asks the broker for every call
that looks up a path, starts a process or makes a kernel object. Before rows are sent the broker begins to refuse
them, no file is open, and every file that is mapped is in memory as a whole, so that touching it changes nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import time

from .inside import IN_ALL_THREADS, LISTENING, install_filter
from .kernel import syscall

VARIABLE = "AUTORESEARCH_SEAL"
"""Holds the number of the socket to the keeper, which has the filter."""
_PRIVATE = ("/memfd:", "/proc/", "/sys/", "/dev/", "/SYSV", "/tmp/", "[")  # noqa: S108 - no file is made
_SETTLE_SECONDS, _PATIENCE_SECONDS = 0.005, 2.0
_MAX_SHARE = 0.75
"""Of the memory of this machine that may be mapped files."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


def enter_seal() -> None:
    """Put this process, and all it will start, under the filter of its keeper, if it has one for it."""
    number = os.environ.pop(VARIABLE, "")
    if not number:
        return
    import _socket

    with_keeper = _socket.socket(fileno=int(number))
    listener = install_filter(with_keeper.recv(1 << 16), LISTENING | IN_ALL_THREADS)
    # Sending a descriptor is already refused; the keeper takes it.
    with_keeper.send(b"%d" % listener)
    with_keeper.recv(1)
    os.close(listener)
    with_keeper.close()


def take_listener(channel: Any) -> int | None:
    """Return the listener of a child that put itself under the filter, None if it ended before."""
    import _socket

    try:
        data, extra, _, _ = channel.recvmsg(16, 64)
    except ConnectionResetError:
        return None  # without having read the filter
    found = [content for _, kind, content in extra if kind == _socket.SCM_CREDENTIALS]
    if not data or not found:
        return None
    process = os.pidfd_open(struct.unpack("=3i", found[0])[0])
    try:
        return syscall("pidfd_getfd", process, int(data), 0)
    finally:
        os.close(process)
        channel.send(b"x")


class Seal:
    """What must hold of the processes of a child before they are shown rows, and after."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.private = (*_PRIVATE, spec["home"] + "/")
        self.patient = set(spec["patient"])
        self.files: dict[tuple[int, int], tuple[int, int]] = {}
        """Device and inode: descriptor and size."""

    def close(self, pids: Iterable[int], wait: Callable[[float], None]) -> str:
        """Make sure that `pids`, whose further calls are refused, leave no note; return what is against it, or ''.

        Args:
            pids: All processes of the child.
            wait: Waits so many seconds, and answers the calls that come meanwhile.
        """
        pids = list(pids)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            # A call that was let through just before may still be on its way.
            wait(_SETTLE_SECONDS)
            if not any(self.is_busy(pid) for pid in pids):
                break
            if time.monotonic() > deadline:
                return "a thread of it waits in a call that is refused by then"
        try:
            if any(self.has_open_file(pid) for pid in pids):
                return "it holds a file open; close files before `build_model` returns"
            for pid in pids:
                self.hold_mapped(pid)
            self.touch()
        except OSError as error:
            return f"its files cannot be looked at: {error.strerror}"
        except OverflowError:
            return "it maps more files than the memory of this machine holds"
        return ""

    def is_busy(self, pid: int) -> bool:
        """Whether a thread of `pid` is in a call that a sealed process may not make."""
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            return False  # it is gone
        for thread in threads:
            try:
                with open(f"/proc/{pid}/task/{thread}/syscall") as file:
                    number = file.read().split()[0]
            except (OSError, IndexError):
                continue
            if number.isdigit() and int(number) not in self.patient:
                return True
        return False

    def has_open_file(self, pid: int) -> bool:
        """Whether `pid` holds a file of a disk open."""
        folder = f"/proc/{pid}/fd"
        for name in os.listdir(folder):
            try:
                is_file = os.stat(f"{folder}/{name}").st_mode & 0o170000 == 0o100000
                if is_file and not os.readlink(f"{folder}/{name}").startswith(self.private):
                    return True
            except FileNotFoundError:
                continue  # closed meanwhile
        return False

    def hold_mapped(self, pid: int) -> None:
        """Hold open what `pid` has mapped of files that others may read too."""
        most = os.sysconf("SC_PAGESIZE") * os.sysconf("SC_PHYS_PAGES") * _MAX_SHARE
        with open(f"/proc/{pid}/maps", errors="surrogateescape") as lines:
            paths = {line.split(None, 5)[5].rstrip("\n") for line in lines if "/" in line}
        for path in paths:
            if path.startswith(self.private):
                continue
            try:
                file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError as error:
                if error.errno == errno.EMFILE:
                    raise
                continue  # replaced since, by an update of the system
            found = os.fstat(file)
            identity = (found.st_dev, found.st_ino)
            is_new = found.st_size and identity not in self.files
            if is_new and found.st_mode & 0o170000 == 0o100000:
                self.files[identity] = (file, found.st_size)
                if sum(size for _, size in self.files.values()) > most:
                    raise OverflowError
            else:
                os.close(file)

    def touch(self) -> None:
        """Have every page of what is held in memory."""
        import mmap

        page = os.sysconf("SC_PAGESIZE")
        for file, size in self.files.values():
            if count_in_memory(file, size) < size / page:
                with mmap.mmap(file, size, prot=mmap.PROT_READ) as data:
                    data[::page]


def count_in_memory(file: int, size: int) -> int:
    """Return the number of pages of a file in memory; 0 where the kernel does not say (before 6.5, others' files)."""
    counts = ctypes.create_string_buffer(40)
    try:
        syscall("cachestat", file, struct.pack("=QQ", 0, size), counts, 0)
    except OSError:
        return 0
    return int(struct.unpack_from("=Q", counts)[0])
