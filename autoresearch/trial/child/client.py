"""What train.py holds: `Trial`, its one object to talk to the lab.

It imports nothing of the lab but the wire. Whatever happens in this process can be changed by the code under trial;
so nothing here is trusted: clock, data and score are kept on the other side.
"""

import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from autoresearch.trial.channel import (
    MAX_BATCH_ROWS,
    MAX_BATCH_TOKENS,
    PROTOCOL,
    Channel,
    inherited,
    map_file,
    slot_bytes,
)
from autoresearch.trial.child.weights import clean_state, encode_weights

_CONNECT_SECONDS = 60.0
_MAX_LOGGED = 16

_connection: Channel | None = None
_owner = 0


def connection() -> Channel | None:
    """Return this process's channel to the lab, None outside a trial.

    A forked child is not in the trial: it has only the channel of its parent.
    """
    global _connection, _owner
    if _connection is None and _owner == 0:
        sock = inherited()
        if sock is not None:
            _connection, _owner = Channel(sock, takes_fds=True), os.getpid()
    return _connection if _owner == os.getpid() else None


class DeviceError(RuntimeError):
    """The device that was asked for cannot be used in this process."""


class Trial:
    """One training under the lab's control.

    Attributes:
        device: Where to train; the only one there is.
        seed: Already given to `torch`, `numpy` and `random`.
        vocab_size: Number of token ids.
        max_seq_len: Longest context, in tokens, in training and judging.
        budget_seconds: Seconds of training, counted by the lab from `start()`.
        note: What the result of the trial is to say, one line; submitted with the weights.
    """

    _joined: "Trial | None" = None

    device: torch.device
    seed: int
    vocab_size: int
    max_seq_len: int
    budget_seconds: float

    def __init__(self, channel: Channel, welcome: Mapping[str, Any]) -> None:
        feeder, ring = channel.take_fds(2)
        self._channel = channel
        self._batches = _Batches(feeder, ring)
        self.seed = int(welcome["seed"])
        self.vocab_size = int(welcome["vocab_size"])
        self.max_seq_len = int(welcome["max_seq_len"])
        self.budget_seconds = float(welcome["budget_seconds"])
        self.device = resolve_device(str(welcome["device"]))
        self._started_at: float | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._log = _Log(channel, self.device, min(1.0, max(0.02, self.budget_seconds / 300)))
        self._generator = torch.Generator().manual_seed(self.seed)
        self.note = ""

    @classmethod
    def join(cls) -> "Trial":
        """Join the trial this process was started for and set the seeds of torch, numpy and random.

        Raises:
            SystemExit: there is none, or this is not its one process.
            DeviceError: the device the lab trains on cannot be used here.
        """
        if cls._joined is not None and _owner == os.getpid():
            return cls._joined
        channel = connection()
        if channel is None:
            if _owner or os.environ.get("AUTORESEARCH_FD"):
                raise SystemExit(
                    "a trial is one process on one device: call `Trial.join()` in the process the lab started"
                )
            raise SystemExit(
                "train.py trains under the lab's control, not by itself\n\nhint: run `autoresearch try`"
            )
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise SystemExit("a trial is one process on one device, but WORLD_SIZE is above 1")
        channel.send("join", protocol=PROTOCOL, pid=os.getpid())
        welcome = channel.expect("welcome", timeout=_CONNECT_SECONDS)
        if welcome["protocol"] != PROTOCOL:
            raise SystemExit(f"the lab speaks protocol {welcome['protocol']}, this is {PROTOCOL}")
        try:
            trial = cls(channel, welcome)
        except DeviceError as exc:
            channel.send("joined", device="none", problem=str(exc)[:600])
            raise
        random.seed(trial.seed)
        np.random.seed(trial.seed % 2**32)
        torch.manual_seed(trial.seed)
        channel.send("joined", device=trial.device.type)
        cls._joined = trial
        return trial

    def synthetic_batch(self, B: int, T: int) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: N803
        """Return random tokens (x, y), each (B, T) int64 on the device: compile and warm up on these."""
        self._check_shape(B, T)
        rows = torch.randint(self.vocab_size, (B, T + 1), generator=self._generator)
        rows = rows.to(self.device)
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()

    def start(self) -> None:
        """Start the clock; from here real tokens flow. Warm up and restore the weights before it.

        Raises:
            RuntimeError: train.py has no `build_model` that works, or `start` was called twice.
        """
        if self._started_at is not None:
            raise RuntimeError("`trial.start()` was called twice")
        self._shapes, num_params = _expected(self.vocab_size, self.max_seq_len)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self._channel.send("start", num_params=num_params)
        started = self._channel.expect("started", timeout=_CONNECT_SECONDS)
        self._started_at = float(started["at"])
        self._batches.deadline = float(started["deadline"])

    def batches(self, B: int, T: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:  # noqa: N803
        """Yield real tokens (x, y), each (B, T) int64 on the device, until the budget is spent.

        B and T may differ from call to call, T up to `max_seq_len`.

        Raises:
            RuntimeError: the clock was not started.
        """
        self._check_shape(B, T)
        if self._started_at is None:
            raise RuntimeError("call `trial.start()` before `trial.batches()`: it starts the clock")
        return self._batches.stream(B, T, self.device, self._count_step)

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, 0 to 1, by the lab's clock."""
        if self._started_at is None:
            return 0.0
        return min(1.0, max(0.0, (time.monotonic() - self._started_at) / self.budget_seconds))

    def log(self, **values: Any) -> None:
        """Note numbers for the live view and the curve; cheap, at most a few a second are sent.

        Tensors on the device are kept as they are and read when the device has passed them. `loss` is used to end a
        training that has become NaN or diverged; nothing else is.
        """
        self._log.put(values, self._started_at)

    def flush(self) -> None:
        """Send what was logged last, waiting for the device."""
        self._log.flush()

    def submit(self, model: torch.nn.Module) -> NoReturn:
        """Hand the weights in. The trial is over, and so is this process: nothing after it runs.

        Raises:
            RuntimeError: the weights do not fit what `build_model` makes.
        """
        if self._started_at is None:
            raise RuntimeError("call `trial.start()` and train before `trial.submit()`")
        self._log.flush()
        state = clean_state(model.state_dict(), self._shapes)
        header, tensors = encode_weights(state)
        size = len(header) + sum(t.numel() * t.element_size() for t in tensors)
        sys.stdout.flush()
        sys.stderr.flush()
        num_params = sum(p.numel() for p in model.parameters())
        self._channel.send("submit", size=size, num_params=num_params, note=self.note[:600])
        self._channel.send_bytes(header)
        for tensor in tensors:
            data = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
            if data.numel():
                self._channel.send_bytes(data.numpy())
        self._channel.expect("received", timeout=_CONNECT_SECONDS)
        os._exit(0)

    def _check_shape(self, batch: int, length: int) -> None:
        if batch < 1 or not 1 <= length <= self.max_seq_len:
            raise ValueError(
                f"B must be at least 1 and T between 1 and max_seq_len={self.max_seq_len}, got ({batch}, {length})"
            )
        if batch * (length + 1) > MAX_BATCH_TOKENS or batch > MAX_BATCH_ROWS:
            raise ValueError(
                f"a batch has at most {MAX_BATCH_TOKENS} tokens and {MAX_BATCH_ROWS} rows, got ({batch}, {length})"
            )

    def _count_step(self) -> None:
        self._log.step += 1


class _Batches:
    """The child's end of the ring: takes slots, copies them to the device, gives them back."""

    def __init__(self, feeder: int, ring: int) -> None:
        import socket

        self._channel = Channel(socket.socket(fileno=feeder))
        self._ring = ring
        self._generation = 0
        self._is_over = False
        self.deadline = 0.0

    def stream(
        self, batch: int, length: int, device: torch.device, count: Callable[[], None]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        generation, slots, copy = -1, np.empty((0, 0, 0), np.int32), _Copy(batch, length, device)
        while not self._is_over and time.monotonic() < self.deadline:
            if generation != self._generation:
                generation, slots = self._open(batch, length)
                continue
            message = self._receive()
            if message["type"] == "end":
                self._is_over = True
                return
            if message["type"] != "ready" or message["generation"] != generation:
                continue
            slot = int(message["slot"])
            pair = copy(slots[slot])
            self._channel.send("free", generation=generation, slot=slot)
            count()
            yield pair

    def _open(self, batch: int, length: int) -> tuple[int, np.ndarray]:
        self._generation += 1
        self._channel.send("open", generation=self._generation, batch=batch, length=length)
        while True:
            message = self._receive()
            if message["type"] == "refused":
                raise ValueError(str(message["message"]))
            if message["type"] == "end":
                self._is_over = True
                return self._generation, np.empty((0, 0, 0), np.int32)
            if message["type"] == "opened" and message["generation"] == self._generation:
                break
        size = slot_bytes(batch, length)
        ring = np.frombuffer(map_file(self._ring, is_live=True), np.int32)
        slots = ring.reshape(-1)[: 2 * size // 4].reshape(2, size // 4)
        tokens = batch * (length + 1)
        return self._generation, slots[:, :tokens].reshape(2, batch, length + 1)

    def _receive(self) -> dict[str, Any]:
        return self._channel.receive()


class _Copy:
    """Moves a slot to the device as int64; two pinned buffers in turn on CUDA, so that copies overlap compute."""

    def __init__(self, batch: int, length: int, device: torch.device) -> None:
        self._device = device
        self._pinned: list[tuple[torch.Tensor, torch.cuda.Event]] = []
        self._turn = 0
        if device.type == "cuda":
            for _ in range(2):
                buffer = torch.empty((batch, length + 1), dtype=torch.int32, pin_memory=True)
                self._pinned.append((buffer, torch.cuda.Event()))

    def __call__(self, slot: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (x, y), each (B, T) int64, of a slot (B, T + 1) int32, which may be reused afterwards."""
        if self._pinned:
            buffer, event = self._pinned[self._turn]
            self._turn ^= 1
            event.synchronize()  # the copy that last read this buffer is done
            buffer.numpy()[:] = slot
            rows = buffer.to(self._device, non_blocking=True)
            event.record()
            rows = rows.long()
        else:
            rows = torch.from_numpy(slot.astype(np.int64)).to(self._device)
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


class _Log:
    """Sends logged values at its own rate; never waits for the device."""

    def __init__(self, channel: Channel, device: torch.device, interval: float) -> None:
        self._channel = channel
        self._is_cuda = device.type == "cuda"
        self._interval = interval
        self._next = 0.0
        self._pending: tuple[int, float, dict[str, Any], Any] | None = None
        self._newest: tuple[int, float, dict[str, Any], Any] | None = None
        self.step = 0

    def put(self, values: Mapping[str, Any], started_at: float | None) -> None:
        """Keep `values`; send what is due and ready."""
        now = time.monotonic()
        seconds = 0.0 if started_at is None else now - started_at
        kept = {
            key: value.detach() if isinstance(value, torch.Tensor) else value
            for key, value in list(values.items())[:_MAX_LOGGED]
        }
        entry = (self.step, seconds, kept, None)
        if now < self._next:
            self._newest = entry
            return
        self._newest = None
        if self._pending is None:
            event = None
            if self._is_cuda:
                # Copied by the device, in its turn: to read a tensor there would wait for all that is queued.
                kept = {
                    k: v.to("cpu", non_blocking=True) if isinstance(v, torch.Tensor) else v
                    for k, v in kept.items()
                }
                event = torch.cuda.Event()
                event.record()
            self._pending = (self.step, seconds, kept, event)
        if self._pending[3] is None or self._pending[3].query():
            self._send(self._pending)
            self._pending = None
            self._next = now + self._interval

    def flush(self) -> None:
        """Send the newest values, waiting for the device."""
        for entry in (self._pending, self._newest):
            if entry is not None:
                self._send(entry)
        self._pending = self._newest = None

    def _send(self, entry: tuple[int, float, dict[str, Any], Any]) -> None:
        step, seconds, values, event = entry
        if event is not None:
            event.synchronize()
        numbers: dict[str, float | str] = {}
        for key, value in values.items():
            number = float(value)
            # JSON has no NaN; the lab reads the names.
            numbers[key[:40]] = number if math.isfinite(number) else repr(number)
        self._channel.send("log", step=step, seconds=seconds, values=numbers)


def resolve_device(name: str) -> torch.device:
    """Return the device for `auto`, `cuda`, `mps` or `cpu`.

    Raises:
        DeviceError: this process cannot use the one that is named.
    """
    usable = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "cpu": lambda: True,
    }
    if name == "auto":
        name = next(device for device, is_usable in usable.items() if is_usable())
    elif not usable[name]():
        raise DeviceError(f"torch cannot use `{name}` in this process{_why_not(name)}")
    return torch.device(name, 0) if name == "cuda" else torch.device(name)


def _why_not(name: str) -> str:
    """Return what CUDA says when it is started in vain, after a colon; empty where it says nothing."""
    if name == "cuda":
        try:
            torch.cuda.init()
        except (RuntimeError, AssertionError) as exc:
            return f": {exc}".partition("\n")[0]
    return ""


class _Shapes(TorchFunctionMode):  # type: ignore[misc]
    """Leaves out initial values, of which a model without memory has none: for them torch would import its compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init" or func in (
            torch.Tensor.normal_,
            torch.Tensor.uniform_,
        ):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _expected(vocab_size: int, max_seq_len: int) -> tuple[dict[str, tuple[int, ...]], int]:
    """Return key -> shape of what `build_model` makes, and its number of parameters.

    Built without memory where that works; random generators stay as they were.

    Raises:
        TypeError: there is no `build_model`.
    """
    build = getattr(sys.modules["__main__"], "build_model", None)
    if not callable(build):
        raise TypeError("train.py must define `build_model(vocab_size, max_seq_len, device)`")
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        try:
            with torch.device("meta"), _Shapes():
                model = build(vocab_size, max_seq_len, torch.device("meta"))
        except Exception:  # noqa: BLE001 - some models need real numbers to be built
            model = build(vocab_size, max_seq_len, torch.device("cpu"))
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
    shapes = {
        name: tuple(value.shape)
        for name, value in model.state_dict().items()
        if isinstance(value, torch.Tensor)
    }
    return shapes, sum(p.numel() for p in model.parameters())
