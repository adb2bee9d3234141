"""The lab's end of one training: the clock, the messages, the caps, and why it ended."""

import contextlib
import math
import mmap
import select
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from autoresearch.config import Config
from autoresearch.events import Progress
from autoresearch.sandbox import EXIT_LIMIT
from autoresearch.tasks.gpt.feeder_process import FeederProcess
from autoresearch.trial import channel as wire
from autoresearch.trial.process import Child, suspended_seconds
from autoresearch.trial.telemetry import (
    Curve,
    HopelessError,
    MemoryMeter,
    Output,
    explain_error,
)
from autoresearch.types import MB, CurvePoint, Outcome, TrialSpec
from autoresearch.util.text import one_line

MAX_LOG_BYTES = 1_000_000
"""Output of a trial that is kept: the first and the last half of it."""
_TICK_SECONDS = 0.1
_DEVICES = ("cuda", "mps", "cpu")
_SUSPEND_SECONDS = 2.0
_BLIND_SECONDS = 1.0
_PROGRESS_SECONDS = 0.25
_MAX_PARAMS = 10**15
# A feeder ends with its child. At most so long is waited to hear whether it failed before.
_FEEDER_SECONDS = 5.0


@dataclass(frozen=True)
class Limits:
    """Caps of one training, in seconds and bytes."""

    startup_seconds: float
    budget_seconds: float
    allowance_seconds: float
    hung_seconds: float
    max_weights_bytes: int
    divergence_loss: float | None = None
    """Loss in nats above which, late in the budget, a training has diverged."""
    usual_seconds: float | None = None
    """Of the allowance that may be used, besides the time of one step: more may have gone into training."""


@dataclass
class Trained:
    """What one training gave, by the lab's clock and counters; `outcome` is None when weights arrived."""

    outcome: Outcome | None = None
    reason: str = ""
    detail: str = ""
    device: str = "cpu"
    num_params: int | None = None
    num_tokens: int | None = None
    num_steps: int | None = None
    epoch: int = 0
    train_seconds: float | None = None
    startup_seconds: float | None = None
    submit_seconds: float | None = None
    peak_memory_mb: float | None = None
    weights: mmap.mmap | None = None
    curve: list[CurvePoint] = field(default_factory=list)
    output: Output = field(default_factory=lambda: Output(1))


class _EndError(Exception):
    outcome = Outcome.CRASH

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class _TaintedError(_EndError):
    outcome = Outcome.TAINTED


class Training:
    """Watches one child from its start to its last byte.

    Args:
        child: Just started.
        feeder: Just started.
        spec: The trial.
        config: For the welcome and the bounds.
        limits: The caps.
        vocab_size: Of the tokenizer.
        on_progress: Told a few times a second.
        stop: Ends the training when set.
        on_start: Called when the child asks for the clock, before it runs, or has not done so in time.
        on_late: Called once with the device when `late_seconds` of the budget are left.
        late_seconds: See `on_late`.
    """

    def __init__(
        self,
        child: Child,
        feeder: FeederProcess,
        spec: TrialSpec,
        config: Config,
        limits: Limits,
        *,
        vocab_size: int,
        on_progress: Callable[[Progress], None] | None,
        stop: threading.Event,
        on_start: Callable[[], None] = lambda: None,
        on_late: Callable[[str], None] = lambda _: None,
        late_seconds: float = 0.0,
    ) -> None:
        self._child = child
        self._feeder = feeder
        self._spec = spec
        self._config = config
        self._limits = limits
        self._vocab_size = vocab_size
        self._on_progress = on_progress
        self._stop = stop
        self._on_start = on_start
        self._on_late = on_late
        self._late_seconds = late_seconds
        self._is_late = False
        self._meter = MemoryMeter(child.pid)
        self._result = Trained(output=Output(MAX_LOG_BYTES))
        self._phase = "startup"
        self._started_at: float | None = None
        self._deadline = math.inf
        self._weights_size: int | None = None
        self._weights_count = 0
        self._error: dict[str, Any] | None = None
        self._curve = Curve(limits.budget_seconds, limits.divergence_loss)
        self._result.curve = self._curve.points
        self._slept = suspended_seconds()
        self._next_progress = 0.0
        self._is_open = True
        self._is_readable = True

    def run(self) -> Trained:
        """Watch until it is over; every process of it is gone afterwards."""
        try:
            while not self._is_done():
                self._turn()
        except _EndError as end:
            self._end(end.outcome, end.reason, end.detail)
        except wire.ProtocolError as exc:
            told = f"train.py broke the protocol with the lab: {one_line(str(exc))}"
            self._end(Outcome.CRASH, "exception", told)
        self._finish()
        return self._result

    def _end(self, outcome: Outcome, reason: str, detail: str) -> None:
        result = self._result
        result.outcome, result.reason, result.detail = outcome, reason, detail

    def _turn(self) -> None:
        """Wait a moment, take what came, check the caps."""
        sources: list[Any] = [self._child.control]
        if self._is_open:
            sources.append(self._child.channel)
        if self._is_readable:
            sources.append(self._child.output_fd)
        wait = min(_TICK_SECONDS, max(0.0, self._deadline - time.monotonic()) or _TICK_SECONDS)
        looked_at = time.monotonic()
        readable, _, _ = select.select(sources, [], [], wait)
        blind = time.monotonic() - looked_at - wait
        if blind > _BLIND_SECONDS:
            told = f"the lab, or the whole machine, was stopped for {blind:.1f} s"
            raise _TaintedError("suspended", told)
        if self._is_readable and self._child.output_fd in readable:
            self._read_output()
        if self._is_open and self._child.channel in readable:
            self._hear()
        if self._is_done():
            return
        if self._child.control in readable and self._child.has_ended():
            self._hear_rest()
            if not self._is_done():
                raise self._explain_end()
            return
        self._check()
        self._tell()

    def _is_done(self) -> bool:
        """Whether the last byte of the weights is here."""
        return self._result.submit_seconds is not None

    def _hear(self) -> None:
        if self._weights_size is not None:
            self._read_weights()
            return
        self._is_open = self._child.channel.poll()
        while (message := self._child.channel.next_message()) is not None:
            # Gone before it was answered: what it still said, and how it ended, will tell why.
            with contextlib.suppress(wire.ClosedError):
                self._handle(message)
            if message["type"] == "submit":
                self._read_weights()
                return

    def _hear_rest(self) -> None:
        """The child is gone: take what it still sent."""
        self._read_output()
        with contextlib.suppress(TimeoutError):
            while self._is_open and not self._is_done():
                self._hear()

    def _handle(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "join" and self._phase == "startup":
            self._welcome(message)
        elif kind == "joined" and self._started_at is None:
            self._take_device(message)
        elif kind == "start" and self._started_at is None:
            self._start(message)
        elif kind == "log":
            self._note(message)
        elif kind == "submit" and self._started_at is not None:
            self._begin_weights(message)
        elif kind == "error":
            self._error = message
        else:
            raise wire.ProtocolError(f"unexpected message `{kind[:40]}`")

    def _welcome(self, message: Mapping[str, Any]) -> None:
        if message.get("protocol") != wire.PROTOCOL:
            raise wire.ProtocolError("another protocol version")
        trial = self._config.trial
        self._child.channel.send(
            "welcome",
            fds=[self._feeder.child_socket.fileno(), self._feeder.ring_fd],
            timeout=10.0,
            protocol=wire.PROTOCOL,
            device=trial.device,
            seed=self._spec.seed,
            vocab_size=self._vocab_size,
            max_seq_len=trial.max_seq_len,
            budget_seconds=self._spec.budget_seconds,
        )
        self._feeder.given()

    def _take_device(self, message: Mapping[str, Any]) -> None:
        """Note where it trains; elsewhere than asked, the numbers would be another machine's."""
        device, asked = message.get("device"), self._config.trial.device
        if device not in _DEVICES or asked not in ("auto", device):
            problem = one_line(str(message.get("problem", "")), 300) or "it took another device"
            raise _TaintedError("device", f"the trial could not train on `{asked}`: {problem}")
        self._result.device = device
        self._meter.watch_device(device)

    def _start(self, message: Mapping[str, Any]) -> None:
        """Start the clock: from here real tokens flow."""
        self._on_start()
        num_params = message.get("num_params")
        if type(num_params) is int and 0 <= num_params < _MAX_PARAMS:
            self._result.num_params = num_params
        now = time.monotonic()
        self._result.startup_seconds = now - self._child.started_at
        self._started_at, self._deadline = now, now + self._limits.budget_seconds
        self._phase = "train"
        with contextlib.suppress(wire.ClosedError):  # it failed, or the child left it
            self._feeder.go(self._deadline)
        self._child.channel.send("started", timeout=10.0, at=now, deadline=self._deadline)

    def _begin_weights(self, message: Mapping[str, Any]) -> None:
        size = message.get("size")
        if type(size) is not int or size < 1:
            raise wire.ProtocolError("weights without a size")
        if size > self._limits.max_weights_bytes:
            told = f"{size / MB:.0f} MB" if size < _MAX_PARAMS else "absurd size"
            limit = self._limits.max_weights_bytes / MB
            raise _EndError("exception", f"weights of {told}; at most {limit:.0f} MB are taken")
        self._phase = "submit"
        self._result.detail = one_line(str(message.get("note", "")), 300)
        try:
            self._result.weights = mmap.mmap(-1, size)
        except OSError as exc:
            raise _EndError(
                "oom", f"weights of {size / MB:.0f} MB do not fit in the memory of this machine"
            ) from exc
        self._weights_size = size

    def _read_weights(self) -> None:
        assert self._result.weights is not None
        assert self._weights_size is not None
        with memoryview(self._result.weights) as view:
            # What is here, at most a moment's worth, so that the caps are still looked at.
            for _ in range(256):
                with view[self._weights_count :] as rest:
                    try:
                        self._weights_count += self._child.channel.read_into(rest, 1e-6)
                    except TimeoutError:
                        return
                    except wire.ClosedError:
                        self._is_open = False
                        return
                if self._weights_count == self._weights_size:
                    break
            else:
                return
        assert self._started_at is not None
        now = time.monotonic()
        self._check_overtime(now)
        self._check_usual(now)
        self._result.submit_seconds = max(0.0, now - self._deadline)
        self._result.train_seconds = now - self._started_at
        with contextlib.suppress(wire.ClosedError):
            self._child.channel.send("received", timeout=1.0)

    def _note(self, message: Mapping[str, Any]) -> None:
        """Take logged values into the curve; end what is hopeless."""
        values = message.get("values")
        if not isinstance(values, dict) or self._started_at is None:
            return
        now = time.monotonic()
        try:
            self._curve.add(values, now - self._started_at, self._feeder.counters["num_tokens"])
        except HopelessError as exc:
            raise _EndError(exc.reason, exc.detail) from exc

    def _check(self) -> None:
        now = time.monotonic()
        if self._stop.is_set():
            raise _TaintedError("stopped", "the session was stopped")
        slept = suspended_seconds() - self._slept
        if slept > _SUSPEND_SECONDS:
            raise _TaintedError("suspended", f"the machine slept for {slept:.0f} s")
        self._check_feeder()
        if self._started_at is None:
            if now - self._child.started_at > self._limits.startup_seconds:
                seconds = self._limits.startup_seconds
                self._on_start()
                raise _EndError(
                    "startup_timeout",
                    f"`trial.start()` was not called within {seconds:g} s: imports, compilation and warm-up took"
                    " longer than `[trial] startup_seconds` allows",
                )
            return
        self._check_overtime(now)
        self._check_hung(now)
        if not self._is_late and now > self._deadline - self._late_seconds:
            self._is_late = True
            self._on_late(self._result.device)

    def _check_feeder(self, seconds: float = 0.0) -> None:
        failure = self._feeder.failure(seconds)
        if failure is not None:
            raise _TaintedError("feeder", f"the lab's feeder failed: {one_line(failure)}")

    def _check_overtime(self, now: float) -> None:
        if now > self._deadline + self._limits.allowance_seconds:
            arrived = (
                f", {self._weights_count} of {self._weights_size} bytes had come"
                if self._weights_size
                else ""
            )
            raise _EndError(
                "overtime",
                f"the weights were not in {self._limits.allowance_seconds:.3g} s after the budget"
                f" of {self._limits.budget_seconds:g} s{arrived}",
            )

    def _check_usual(self, now: float) -> None:
        """Let a trial be run again that handed in later than its last step and the weights explain."""
        limits, late = self._limits, now - self._deadline
        if limits.usual_seconds is None:
            return
        step = limits.budget_seconds / max(1, self._feeder.counters["num_steps"])
        if late > limits.usual_seconds + step:
            raise _TaintedError(
                "overtime",
                f"the weights came {late:.3g} s after the budget; one step of {step:.2g} s and handing in explain"
                f" {limits.usual_seconds + step:.2g} s",
            )

    def _check_hung(self, now: float) -> None:
        assert self._started_at is not None
        if self._phase != "train" or now > self._deadline:
            return
        taken = max(self._started_at, self._feeder.counters["taken_at_ns"] / 1e9)
        if now - taken > self._limits.hung_seconds:
            raise _EndError("hung", f"no batch was taken for {self._limits.hung_seconds:g} s")

    def _tell(self) -> None:
        """Sample memory and tell how far it is."""
        self._meter.sample()
        now = time.monotonic()
        if self._on_progress is None or now < self._next_progress:
            return
        self._next_progress = now + _PROGRESS_SECONDS
        since = self._child.started_at if self._started_at is None else self._started_at
        counters = self._feeder.counters
        tokens = counters["num_tokens"]
        self._on_progress(
            Progress(
                number=self._spec.number,
                label=self._spec.label,
                phase=self._phase,
                seconds=now - since,
                budget_seconds=self._limits.budget_seconds,
                num_tokens=tokens,
                num_steps=counters["num_steps"],
                tokens_per_second=tokens / max(now - since, 1e-9)
                if self._started_at and tokens
                else None,
                memory_mb=self._meter.last_mb,
                point=self._result.curve[-1] if self._result.curve else None,
            )
        )

    def _explain_end(self) -> _EndError:
        """Say why the child ended before its weights were here: perhaps for want of its feeder."""
        self._check_feeder(_FEEDER_SECONDS)
        if self._error is not None:
            gave_up = self._error.get("exception") == "SystemExit"
            reason, detail = (gave_up and self._curve.why_hopeless) or explain_error(self._error)
            return _EndError(reason, detail)
        code = self._child.exit_code
        if code is None:
            return _TaintedError("supervisor", "the process ended, its exit status is unknown")
        if code == -9:
            return _EndError(
                "oom", "the system killed the process (SIGKILL), most often for lack of memory"
            )
        if code == EXIT_LIMIT:
            return _EndError(
                "exception",
                "it broke a limit of the sandbox on disk or processes ([sandbox] in the settings)",
            )
        if code < 0:
            return _EndError("exception", f"the process died of signal {-code}")
        if code:
            return _EndError("exception", f"the process ended with exit code {code}")
        done = "after `trial.start()`" if self._started_at else "before `trial.start()`"
        return _EndError("no_submission", f"train.py ended {done} without `trial.submit(model)`")

    def _read_output(self) -> None:
        data = self._child.read_output()
        if data is None:
            self._is_readable = False
        else:
            self._result.output.add(data)

    def _finish(self) -> None:
        """Kill what is left and take the last numbers."""
        result, counters = self._result, self._feeder.counters
        self._meter.sample(is_last=True)
        self._child.kill()
        self._meter.wait_until_freed()
        if self._is_readable:
            self._read_output()
        self._meter.note_resident(self._child.max_rss_mb)
        result.peak_memory_mb = self._meter.peak_mb
        if self._started_at is not None:
            result.num_tokens, result.num_steps = counters["num_tokens"], counters["num_steps"]
            result.epoch = counters["epoch"]
            if result.train_seconds is None:
                result.train_seconds = time.monotonic() - self._started_at
        if result.outcome is None and self._curve.ends_in_nan:
            self._end(Outcome.CRASH, "nan", "the last logged loss was not finite")
        slept = suspended_seconds() - self._slept
        if slept > _SUSPEND_SECONDS and result.outcome is not Outcome.TAINTED:
            self._end(Outcome.TAINTED, "suspended", f"the machine slept for {slept:.0f} s")
