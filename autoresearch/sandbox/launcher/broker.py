"""Answers the calls that Landlock cannot judge, and those of a judge's child before and after it is sealed."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import time

from .kernel import IS_ARM, LIBC, O_PATH, descendants, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Broker:
    """Answers the calls that Landlock cannot judge, doing them itself on checked names.

    Connections to local sockets reach only sockets inside the private home. Names in /dev/shm live
    in a private folder, so that nothing stays there. On kernels whose Landlock does not keep signals in,
    signals reach only the child's own tree. What concerns none of these continues in the kernel, where
    Landlock still judges it: a name swapped under our eyes gains nothing.
    """

    _RECEIVE, _SEND, _ADD, _VALID = 0xC0502100, 0xC0182101, 0x40182103, 0x40082102
    _CONTINUE, _ADD_AND_SEND = 1, 2
    _BENEATH = 0x08 | 0x04 | 0x02
    _MAX_WAITING = 256
    """Connections that may wait at a time; one whose caller was killed waits on."""
    _CLONE, _CLONE_THREAD = (220 if IS_ARM else 56), 0x10000
    _MAX_THREADS = 64
    """That a sealed child may still start; their number is a note, of six bits."""

    def __init__(self, listener: int, root: int, spec: dict[str, Any]) -> None:
        import fcntl

        self.ioctl = fcntl.ioctl
        self.listener = listener
        self.is_sealed = False
        self.num_threads = 0
        self.calls: dict[int, Callable[..., Any]] = {}
        if spec["backend"] == "landlock":
            self.stand_in(root, spec)

    def stand_in(self, root: int, spec: dict[str, Any]) -> None:
        """Prepare to do what Landlock cannot judge."""
        self.home = home = spec["home"]
        self.short = spec["temporary"]
        self.root = root
        self.needs_network = spec["needs_network"]
        self.ports = spec["ports"]
        self.num_waiting = 0
        self.home_descriptor = os.open(home, O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        shared = os.path.join(home, ".shm")
        os.makedirs(shared, mode=0o700, exist_ok=True)
        self.shared = os.open(shared, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        column = 1 if IS_ARM else 0
        table = {
            self.connect: ((42, 203),),
            self.open: ((2, -1), (257, 56)),
            self.link: ((86, -1), (265, 37)),
            self.unlink: ((87, -1), (263, 35)),
            self.kill: ((62, 129), (200, 130), (234, 131), (129, 138), (297, 240)),
        }
        self.calls = {pair[column]: call for call, pairs in table.items() for pair in pairs}
        self.undirected = {2, 86, 87} if not IS_ARM else set()
        """Calls without a directory argument."""

    def answer(self) -> None:
        """Receive one call and answer it."""
        buffer = bytearray(80)
        try:
            self.ioctl(self.listener, self._RECEIVE, buffer)
        except OSError:
            return  # the caller died meanwhile
        identity, pid, _, number, _, _, *arguments = struct.unpack("=QIIiIQ6Q", buffer)
        call = self.calls.get(number)
        if self.is_sealed:
            is_thread = number == self._CLONE and arguments[0] & self._CLONE_THREAD
            self.num_threads += bool(is_thread)
            if is_thread and self.num_threads <= self._MAX_THREADS:
                self.reply(identity, 0, flags=self._CONTINUE)
            else:
                self.reply(identity, -errno.EPERM)
        elif call is None:
            self.reply(identity, 0, flags=self._CONTINUE)
        elif call == self.connect:
            self.answer_aside(identity, pid, number, arguments)
        else:
            self.guard(call, identity, pid, number, arguments)

    def answer_for(self, seconds: float) -> None:
        """Answer what comes within so many seconds."""
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            if any(event & select.POLLIN for _, event in poll.poll(1000 * left)):
                self.answer()

    def answer_aside(self, identity: int, pid: int, number: int, arguments: list[int]) -> None:
        """Connect in a thread: it may block, and then the caller waits, never the keeper."""
        import _thread

        if self.num_waiting >= self._MAX_WAITING:
            self.reply(identity, -errno.EAGAIN)
            return

        def connect() -> None:
            try:
                self.guard(self.connect, identity, pid, number, arguments)
            finally:
                self.num_waiting -= 1

        self.num_waiting += 1
        try:
            _thread.start_new_thread(connect, ())
        except RuntimeError:  # this machine has no thread left: the caller's bad luck, not its end
            self.num_waiting -= 1
            self.reply(identity, -errno.EAGAIN)

    def guard(
        self, call: Callable[..., Any], identity: int, pid: int, number: int, arguments: list[int]
    ) -> None:
        """Run one call; a failure is the caller's."""
        try:
            result = call(identity, pid, number, arguments)
        except OSError as error:
            result = -(error.errno or errno.EPERM)
        except (ValueError, IndexError, OverflowError, struct.error):
            result = -errno.EINVAL
        if result is None:
            self.reply(identity, 0, flags=self._CONTINUE)
        elif result != "sent":
            self.reply(identity, result)

    def reply(self, identity: int, value: int, flags: int = 0) -> None:
        """Send the result: 0, a negative error number, or on with it in the kernel."""
        try:
            self.ioctl(self.listener, self._SEND, struct.pack("=QqiI", identity, 0, value, flags))
        except OSError:
            pass  # the caller died meanwhile

    def read(self, identity: int, pid: int, address: int, size: int) -> bytes:
        """Return `size` bytes of the caller's memory, fewer where the next page is not mapped."""
        descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(descriptor, size, address)
        finally:
            os.close(descriptor)
        self.ioctl(self.listener, self._VALID, struct.pack("=Q", identity))
        return data

    def name(self, identity: int, pid: int, address: int) -> bytes | None:
        """Return the name in /dev/shm that a path argument means, or None for any other path."""
        path = self.read(identity, pid, address, 4096).split(b"\0", 1)[0]
        if not path.startswith(b"/dev/shm/"):
            return None
        name = path[9:]
        if not name or b"/" in name or name in (b".", b".."):
            raise OSError(errno.EACCES, "not a name")
        return name

    def open(self, identity: int, pid: int, number: int, arguments: list[int]) -> str | None:
        """Open a name in /dev/shm in the private folder and give the descriptor to the caller."""
        first = 0 if number in self.undirected else 1
        flags, mode = arguments[first + 1] & 0x7FFFFFFF, arguments[first + 2] & 0o777
        if not flags & (os.O_EXCL | os.O_NOFOLLOW):
            return None
        name = self.name(identity, pid, arguments[first])
        if name is None:
            return None
        # Never wait: the folder is the child's, who may have put a fifo there.
        own = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(name, flags | own, mode | 0o600, dir_fd=self.shared)
        try:
            if os.fstat(descriptor).st_mode & 0o170000 != 0o100000:
                raise OSError(errno.EACCES, "not a file")
            keep = os.O_CLOEXEC if flags & os.O_CLOEXEC else 0
            request = struct.pack("=QIIII", identity, self._ADD_AND_SEND, descriptor, 0, keep)
            self.ioctl(self.listener, self._ADD, request)
        finally:
            os.close(descriptor)
        return "sent"

    def link(self, identity: int, pid: int, number: int, arguments: list[int]) -> int | None:
        """Link two names in /dev/shm."""
        old, new = (0, 1) if number in self.undirected else (1, 3)
        source = self.name(identity, pid, arguments[old])
        target = self.name(identity, pid, arguments[new])
        if source is None and target is None:
            return None
        if source is None or target is None:
            return -errno.EXDEV
        os.link(
            source, target, src_dir_fd=self.shared, dst_dir_fd=self.shared, follow_symlinks=False
        )
        return 0

    def unlink(self, identity: int, pid: int, number: int, arguments: list[int]) -> int | None:
        """Remove a name in /dev/shm."""
        name = self.name(identity, pid, arguments[0 if number in self.undirected else 1])
        if name is None:
            return None
        os.unlink(name, dir_fd=self.shared)
        return 0

    def connect(self, identity: int, pid: int, number: int, arguments: list[int]) -> int:
        """Connect a caller's socket, to a local one inside the private home only."""
        del number
        size = arguments[2] & 0xFFFFFFFF
        if not 2 <= size <= 128:
            return -errno.EINVAL
        address = self.read(identity, pid, arguments[1], size)
        family = struct.unpack_from("=H", address)[0]
        if family != 1:
            if not self.needs_network or family not in (2, 10, 16):
                return -errno.EACCES
            port = struct.unpack_from(">H", address, 2)[0]
            if family != 16 and self.ports is not None and port not in self.ports:
                return -errno.EACCES
            return self.connect_to(pid, arguments[0], address)
        path = address[2:].split(b"\0", 1)[0].decode(errors="surrogateescape")
        if not path:
            return -errno.ECONNREFUSED
        path = os.path.normpath(os.path.join(os.readlink(f"/proc/{pid}/cwd"), path))
        if path.startswith(self.short + "/"):
            path = os.path.realpath(self.short) + path[len(self.short) :]
        if not path.startswith(self.home + "/"):
            return -errno.EACCES
        inner = path[len(self.home) + 1 :].encode(errors="surrogateescape") + b"\0"
        how = struct.pack("=QQQ", O_PATH | os.O_CLOEXEC, 0, self._BENEATH)
        target = syscall("openat2", self.home_descriptor, inner, how, len(how))
        try:
            link = struct.pack("=H", 1) + f"/proc/self/fd/{target}".encode() + b"\0"
            return self.connect_to(pid, arguments[0], link)
        finally:
            os.close(target)

    def connect_to(self, pid: int, descriptor: int, address: bytes) -> int:
        """Connect socket `descriptor` of process `pid` to `address`; return the result."""
        process = os.pidfd_open(thread_group(pid))
        try:
            duplicate = syscall("pidfd_getfd", process, descriptor & 0xFFFFFFFF, 0)
        finally:
            os.close(process)
        try:
            if LIBC.connect(duplicate, address, len(address)) != 0:
                return -ctypes.get_errno()
            return 0
        finally:
            os.close(duplicate)

    def kill(self, identity: int, pid: int, number: int, arguments: list[int]) -> int | None:
        """Let a signal through when it stays in the child's own tree."""
        del identity, number
        target = struct.unpack("=i", struct.pack("=I", arguments[0] & 0xFFFFFFFF))[0]
        if target == -1:
            return -errno.EPERM
        if target <= 0:
            group = -target or os.getpgid(pid)
            return None if os.getsid(group) == self.root else -errno.EPERM
        return None if target in descendants(os.getpid()) else -errno.EPERM


def thread_group(pid: int) -> int:
    """Return the process of a thread."""
    with open(f"/proc/{pid}/status") as lines:
        for line in lines:
            if line.startswith("Tgid:"):
                return int(line.split()[1])
    return pid


def send_descriptor(channel: Any, descriptor: int) -> None:
    """Hand a descriptor over to the keeper (SCM_RIGHTS)."""
    import _socket

    data = struct.pack("=i", descriptor)
    channel.sendmsg([b"x"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, data)])


def receive_descriptor(channel: Any) -> int | None:
    """Return the descriptor the child sent, or None when it died first."""
    data, extra, _, _ = channel.recvmsg(1, 64)
    if not data or not extra:
        return None
    return int(struct.unpack("=i", extra[0][2][:4])[0])
