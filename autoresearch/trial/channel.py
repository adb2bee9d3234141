"""The wire between a trial and the lab. Protocol version 1.

Sockets. Every child process is started with one connected UNIX stream socket; its descriptor number is in the
environment variable `AUTORESEARCH_FD`. All other descriptors (memory files, the feeder's socket) arrive over it.

Messages. `length: uint32 little-endian, length bytes of ASCII JSON`, an object with a string `type`, at most
`MAX_MESSAGE` bytes. A message that brings descriptors says how many in `num_fds`; they travel as SCM_RIGHTS on its
first byte. The lab's end never accepts descriptors. Nothing is ever pickled.

    train child -> host   join {protocol, pid} | joined {device[, problem]} | start {num_params}
                          | log {step, seconds, values} | submit {size, num_params}, then size raw bytes
                          | error {kind, exception, message, line}
    host -> train child   welcome {protocol, device, seed, vocab_size, max_seq_len, budget_seconds, fds: feeder, ring}
                          | started {at, deadline} | received {}
    train child -> feeder open {generation, batch, length} | free {generation, slot}
    feeder -> train child opened {generation} | ready {generation, slot} | end {} | refused {message}
    judge child -> host   warm {} | ready {batch_rows} | error {...} until it has seen a row, then raw float32 only
    host -> judge child   load {device, vocab_size, max_seq_len, seed, batch_rows, context, fds: weights}
                          | rows {num_rows}, then raw int32 tokens[, positions], once it is sealed

Memory. The ring is a memory file of two slots, each a C-ordered int32 array (batch, length + 1), the slot size rounded
up to pages; it only grows. Rows a judge child gets are int32 (num_rows, context + 1) for a claim, (num_rows, context)
for an audit with int32 (num_rows,) positions. Weights are a safetensors file (8-byte header length, JSON header, data);
tensors that share memory are stored once and named in its metadata under `alias:<key>`. Every process gets new
memory files, sealed where it only reads, so that nothing in them can carry a note to the next process.

Clocks are CLOCK_MONOTONIC in seconds, which all processes of a machine share.
"""

import array
import fcntl
import json
import mmap
import os
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PROTOCOL = 1
FD_VARIABLE = "AUTORESEARCH_FD"
MAX_MESSAGE = 65_536
MAX_FDS = 8
MAX_BATCH_TOKENS = 1 << 25
"""Largest batch in tokens the feeder serves: two slots of 128 MiB."""
MAX_BATCH_ROWS = 1 << 16
"""Most rows of a batch: the feeder keeps a note for each piece of text in a batch that may be taken back."""
NUM_SLOTS = 2

_LENGTH = struct.Struct("<I")

Message = dict[str, Any]


class ProtocolError(Exception):
    """The other end broke the rules of the wire."""


class ClosedError(ProtocolError):
    """The other end is gone."""


class Channel:
    """Messages over one connected stream socket.

    Args:
        sock: The socket; the channel owns it from now on.
        takes_fds: Whether descriptors are accepted. Only children say yes.
    """

    def __init__(self, sock: socket.socket, *, takes_fds: bool = False) -> None:
        self._sock = sock
        self._takes_fds = takes_fds
        self._buffer = bytearray()
        self._fds: list[int] = []

    def fileno(self) -> int:
        """Return the descriptor, for `select`."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket and every descriptor that was not taken."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        self._sock.close()

    def send(
        self, type_: str, *, fds: Sequence[int] = (), timeout: float | None = None, **fields: Any
    ) -> None:
        """Send one message, with descriptors if there are any.

        Raises:
            ClosedError: the other end is gone, or does not read within `timeout` seconds.
            ProtocolError: the message is too long.
        """
        if fds:
            fields["num_fds"] = len(fds)
        body = json.dumps({"type": type_, **fields}, separators=(",", ":")).encode()
        if len(body) > MAX_MESSAGE:
            raise ProtocolError(f"message `{type_}` of {len(body)} bytes is too long")
        data = memoryview(_LENGTH.pack(len(body)) + body)
        try:
            self._sock.settimeout(timeout)
            if fds:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                sent = self._sock.sendmsg([data], rights)
                data = data[sent:]
            self._sock.sendall(data)
        except OSError as exc:
            raise ClosedError(f"cannot send `{type_}`: {exc}") from exc

    def send_bytes(self, data: "ReadableBuffer") -> None:
        """Send raw bytes that a message announced.

        Raises:
            ClosedError: the other end is gone.
        """
        try:
            self._sock.settimeout(None)
            self._sock.sendall(data)
        except OSError as exc:
            raise ClosedError(f"cannot send data: {exc}") from exc

    def receive(self, timeout: float | None = None) -> Message:
        """Wait for one message.

        Raises:
            TimeoutError: none came within `timeout` seconds.
            ClosedError: the other end is gone.
            ProtocolError: it is no message.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (message := self._next()) is None:
            self._fill(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return message

    def expect(self, *types: str, timeout: float | None = None) -> Message:
        """Wait for one message of one of these types.

        Raises:
            ProtocolError: another message came; see also `receive`.
        """
        message = self.receive(timeout)
        if message["type"] not in types:
            raise ProtocolError(f"expected {' or '.join(types)}, got `{message['type'][:40]}`")
        return message

    def poll(self) -> bool:
        """Take what has arrived; call when the socket is readable.

        Returns:
            False if the other end is gone.
        """
        try:
            self._fill(0.0)
        except TimeoutError:
            pass
        except ClosedError:
            return False
        return True

    def next_message(self) -> Message | None:
        """Return the next message already here, if a whole one is.

        Raises:
            ProtocolError: it is no message.
        """
        return self._next()

    def read_into(self, view: memoryview, timeout: float | None) -> int:
        """Read raw bytes that a message announced, as many as are here or arrive within `timeout`.

        Returns:
            The number of bytes put at the start of `view`, at least 1.

        Raises:
            TimeoutError: none came.
            ClosedError: the other end is gone.
        """
        if self._buffer:
            count = min(len(self._buffer), len(view))
            view[:count] = self._buffer[:count]
            del self._buffer[:count]
            return count
        try:
            self._sock.settimeout(None if timeout is None else max(timeout, 1e-6))
            count = self._sock.recv_into(view)
        except TimeoutError:
            raise
        except OSError as exc:
            raise ClosedError(str(exc)) from exc
        if count == 0:
            raise ClosedError("the other end is gone")
        return count

    def write_from(self, view: memoryview, timeout: float) -> int:
        """Send raw bytes that a message announced, as many as the other end has room for within `timeout`.

        Returns:
            The number of bytes from the start of `view`, at least 1.

        Raises:
            TimeoutError: it has no room.
            ClosedError: the other end is gone.
        """
        try:
            self._sock.settimeout(max(timeout, 1e-6))
            return self._sock.send(view)
        except TimeoutError:
            raise
        except OSError as exc:
            raise ClosedError(str(exc)) from exc

    def read_all(self, view: memoryview) -> None:
        """Fill `view` with raw bytes that a message announced.

        Raises:
            ClosedError: the other end is gone.
        """
        while view:
            view = view[self.read_into(view, None) :]

    def take_no_fds(self) -> None:
        """Accept descriptors no longer."""
        self._takes_fds = False

    def take_fds(self, count: int) -> list[int]:
        """Return the first `count` descriptors that came, in the order they were sent.

        Raises:
            ProtocolError: fewer came.
        """
        if len(self._fds) < count:
            raise ProtocolError(f"expected {count} descriptors, got {len(self._fds)}")
        taken, self._fds = self._fds[:count], self._fds[count:]
        return taken

    def _fill(self, timeout: float | None) -> None:
        try:
            self._sock.settimeout(None if timeout is None else max(timeout, 1e-6))
            if self._takes_fds:
                data, ancillary, _, _ = self._sock.recvmsg(65_536, socket.CMSG_SPACE(4 * MAX_FDS))
                self._keep_fds(ancillary)
            else:
                data = self._sock.recv(65_536)
        except TimeoutError:
            raise
        except OSError as exc:
            raise ClosedError(str(exc)) from exc
        if not data:
            raise ClosedError("the other end is gone")
        self._buffer += data

    def _keep_fds(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
                self._fds.extend(fds)
                for fd in fds:
                    os.set_inheritable(fd, False)

    def _next(self) -> Message | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > MAX_MESSAGE:
            raise ProtocolError(f"a message of {length} bytes is too long")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as exc:
            raise ProtocolError("a message is not JSON") from exc
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise ProtocolError("a message has no type")
        return message


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected stream sockets, neither inheritable."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def inherited() -> socket.socket | None:
    """Return the socket this process was started with, or None outside a trial."""
    text = os.environ.get(FD_VARIABLE, "")
    if not text.isdigit():
        return None
    fd = int(text)
    try:
        os.set_inheritable(fd, False)
        return socket.socket(fileno=fd)
    except OSError:
        return None


def memory_file(name: str, size: int = 0, *, can_be_sealed: bool = True) -> int:
    """Return the descriptor of a new nameless file in memory of `size` zero bytes.

    It cannot shrink, so that a mapping of it never faults.

    Args:
        name: Shown by debuggers only.
        size: In bytes.
        can_be_sealed: Whether who holds it may forbid writing or growth; not if a child holds it too.
    """
    if sys.platform == "linux":
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        last = 0 if can_be_sealed else fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | last)
    else:
        fd, path = tempfile.mkstemp(prefix=f"autoresearch-{name}-")
        os.unlink(path)  # noqa: PTH108 - there is only the name mkstemp gave
    if size:
        os.ftruncate(fd, size)
    return fd


def sealed_file(name: str, parts: Iterable["ReadableBuffer"]) -> int:
    """Return the descriptor of a new file in memory that holds `parts` and never changes again.

    Raises:
        OSError: there is no memory or no descriptor left.
    """
    fd = memory_file(name)
    try:
        for part in parts:
            view = memoryview(part).cast("B")
            while view:
                view = view[os.write(fd, view[: 1 << 30]) :]
        if sys.platform == "linux":
            seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def map_file(
    fd: int, *, writable: bool = False, is_live: bool = False, size: int | None = None
) -> mmap.mmap:
    """Map a memory file.

    Args:
        fd: Stays open.
        size: How much of it, from the start; None is all there is, for files that the other end cannot grow.
        writable: Map it shared, to write.
        is_live: Map it shared, to read what others write; without it the file must not change any more (a private
            mapping, since older kernels refuse a shared one of a sealed file).
    """
    size = os.fstat(fd).st_size if size is None else size
    if writable:
        return mmap.mmap(fd, size)
    flags = mmap.MAP_SHARED if is_live else mmap.MAP_PRIVATE
    return mmap.mmap(fd, size, flags=flags, prot=mmap.PROT_READ)


def slot_bytes(batch: int, length: int) -> int:
    """Return the bytes of one ring slot: int32 (batch, length + 1), rounded up to pages."""
    size = 4 * batch * (length + 1)
    page = mmap.PAGESIZE
    return (size + page - 1) // page * page
