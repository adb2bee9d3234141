"""The feeder: a process of the lab that fills the ring with training tokens and counts what is taken.

    main(["", HOST, CHILD, RING, COUNTERS])     # inherited descriptors: two sockets, two memory files

It runs outside the sandbox, so that the child never touches the data. It knows the deadline: no token leaves it
before the host says `go`, none after the deadline, and never more than two batches are ahead of the child.
The host reads its counters from a memory file that the child does not have.

    host -> feeder   setup {path, seed, max_seq_len} | go {deadline}

It says nothing to the host: what the child and the feeder say to each other is in channel.py.
"""

import contextlib
import os
import select
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np

from autoresearch.tasks.gpt.data.dataset import Dataset
from autoresearch.tasks.gpt.data.packing import Packer
from autoresearch.trial.channel import (
    MAX_BATCH_ROWS,
    MAX_BATCH_TOKENS,
    NUM_SLOTS,
    Channel,
    ClosedError,
    ProtocolError,
    map_file,
    slot_bytes,
)

COUNTER_NAMES = ("num_steps", "num_tokens", "epoch", "taken_at_ns")
COUNTERS_BYTES = 8 * len(COUNTER_NAMES)


class Counters:
    """Numbers the feeder keeps and the host reads, in shared memory.

    Args:
        fd: A memory file of `COUNTERS_BYTES`.
        writable: True in the feeder.
    """

    def __init__(self, fd: int, *, writable: bool) -> None:
        self._values = np.frombuffer(map_file(fd, writable=writable, is_live=True), np.int64)

    def __getitem__(self, name: str) -> int:
        """Return a counter."""
        return int(self._values[COUNTER_NAMES.index(name)])

    def __setitem__(self, name: str, value: int) -> None:
        """Set a counter."""
        self._values[COUNTER_NAMES.index(name)] = value


class Ring:
    """The feeder's end of the two slots.

    Args:
        fd: The memory file, shared with the child.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.generation = 0
        self.shape = (0, 0)
        self.slots: np.ndarray = np.empty((0, 0, 0), np.int32)
        self.free: list[int] = []

    def open(self, generation: int, batch: int, length: int) -> None:
        """Lay the slots out for batches of int32 (batch, length + 1); what was in them is dropped."""
        size = slot_bytes(batch, length)
        if os.fstat(self._fd).st_size < NUM_SLOTS * size:
            os.ftruncate(self._fd, NUM_SLOTS * size)
        # The child may have grown it, by any number of bytes.
        memory = map_file(self._fd, writable=True, size=NUM_SLOTS * size)
        flat = np.frombuffer(memory, np.int32)
        used = flat.reshape(NUM_SLOTS, -1)[:, : batch * (length + 1)]
        self.slots = used.reshape(NUM_SLOTS, batch, length + 1)
        self.generation, self.shape, self.free = generation, (batch, length), list(range(NUM_SLOTS))


class Feeder:
    """Serves one trial; see the module."""

    def __init__(
        self,
        host: Channel,
        child: Channel,
        ring: Ring,
        counters: Counters,
        packer: Packer,
        max_seq_len: int,
    ) -> None:
        self._packer = packer
        self._host = host
        self._child = child
        self._ring = ring
        self._counters = counters
        self._max_seq_len = max_seq_len
        self._deadline: float | None = None
        self._is_over = False
        self._has_taken = False

    def run(self) -> None:
        """Serve until the host or the child is gone, or the child breaks the rules."""
        self._take_orders()  # what came with the setup, where the child was ready first
        while True:
            wait = None if self._deadline is None else self._deadline - time.monotonic()
            if self._is_over:
                wait = None
            readable, _, _ = select.select(
                [self._host, self._child], [], [], None if wait is None else max(0.0, wait)
            )
            if self._host in readable and not self._hear_host():
                return
            if self._child in readable and not self._hear_child():
                return
            if self._deadline is not None and not self._is_over:
                if time.monotonic() >= self._deadline:
                    self._end()
                else:
                    self._fill()

    def _hear_host(self) -> bool:
        if not self._host.poll():
            return False
        self._take_orders()
        return True

    def _take_orders(self) -> None:
        while (message := self._host.next_message()) is not None:
            if message["type"] == "go":
                self._deadline = float(message["deadline"])

    def _hear_child(self) -> bool:
        if not self._child.poll():
            return False
        while (message := self._child.next_message()) is not None:
            try:
                if message["type"] == "open":
                    self._open(message)
                elif message["type"] == "free":
                    self._take(message)
                else:
                    raise ProtocolError("unknown message")
            except (ArithmeticError, LookupError, TypeError, ValueError) as exc:
                # Never the lab's own failure: that would have the trial repeated.
                raise ProtocolError(f"a message of the child: {exc}") from exc
        return True

    def _open(self, message: dict[str, Any]) -> None:
        generation, batch, length = (message.get(k) for k in ("generation", "batch", "length"))
        if not all(type(n) is int and 0 < n < 1 << 31 for n in (generation, batch, length)):
            raise ProtocolError("open without numbers")
        assert isinstance(generation, int)
        assert isinstance(batch, int)
        assert isinstance(length, int)
        is_too_large = batch * (length + 1) > MAX_BATCH_TOKENS or batch > MAX_BATCH_ROWS
        if length > self._max_seq_len or is_too_large:
            text = f"a batch of ({batch}, {length}) is not served: T is at most {self._max_seq_len}"
            self._child.send("refused", message=text)
            return
        if self._is_over:
            self._child.send("end")
            return
        self._take_back()
        self._ring.open(generation, batch, length)
        self._child.send("opened", generation=generation)

    def _take_back(self) -> None:
        """Serve again, in the new shape, what waits in the slots: the child did not take it.

        One that opens again and again without taking anything reads what it is shown; then that counts.
        """
        if not self._ring.generation:
            return
        waiting = NUM_SLOTS - len(self._ring.free)
        batch, length = self._ring.shape
        if self._has_taken:
            self._packer.take_back(waiting, waiting * batch * length)
        else:
            self._count(waiting)
        self._has_taken = False

    def _take(self, message: dict[str, Any]) -> None:
        """The child copied a slot: count it, and have it filled again."""
        slot = message.get("slot")
        if message.get("generation") != self._ring.generation or type(slot) is not int:
            return
        if self._ring.generation == 0:
            raise ProtocolError("a slot given back before there was one")
        if slot in self._ring.free or not 0 <= slot < NUM_SLOTS:
            raise ProtocolError("a slot given back twice")
        self._ring.free.append(slot)
        self._count(1)
        self._has_taken = True

    def _count(self, num_batches: int) -> None:
        batch, length = self._ring.shape
        self._counters["num_tokens"] += num_batches * batch * length
        self._counters["num_steps"] += num_batches
        self._counters["taken_at_ns"] = time.monotonic_ns()

    def _fill(self) -> None:
        while self._ring.free:
            slot = self._ring.free.pop(0)
            self._packer.fill(self._ring.slots[slot])
            self._counters["epoch"] = int(self._packer.epoch)
            if self._deadline is None or time.monotonic() >= self._deadline:
                self._ring.slots[slot] = 0
                self._end()
                return
            self._child.send("ready", generation=self._ring.generation, slot=slot)

    def _end(self) -> None:
        self._is_over = True
        self._child.send("end")


def main(argv: list[str]) -> None:
    """Serve one trial over the inherited descriptors `argv[1:5]`."""
    host_fd, child_fd, ring_fd, counters_fd = (int(text) for text in argv[1:5])
    host = Channel(socket.socket(fileno=host_fd))
    child = Channel(socket.socket(fileno=child_fd))
    setup = host.expect("setup")
    store = Dataset.open(Path(setup["path"])).store("train")
    packer = Packer(store, seed=int(setup["seed"]))
    counters = Counters(counters_fd, writable=True)
    max_seq_len = int(setup["max_seq_len"])
    feeder = Feeder(host, child, Ring(ring_fd), counters, packer, max_seq_len)
    with contextlib.suppress(ClosedError, ProtocolError):
        feeder.run()
