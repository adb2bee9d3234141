"""One evaluation: the evaluator's process and one or two candidates, the lab between them.

Two sides are scored by two copies of the evaluator in lockstep: each waits until the other has asked too, then both
calls are made, in turns first (A B, B A, ...), and both answers are delivered. So the two meet the same machine, no
evaluator computes while a call is timed, and none knows which version it scores.
"""

import contextlib
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from autoresearch.tasks.program.side import (
    Bench,
    CheatError,
    FailedError,
    Reader,
    Side,
    StoppedError,
    worker_command,
)
from autoresearch.trial import channel as wire
from autoresearch.trial.process import Child
from autoresearch.trial.snapshot import Folder, write_files
from autoresearch.trial.telemetry import Output
from autoresearch.types import Split
from autoresearch.util import plain

MAX_CALLS = 100_000
_SEND_SECONDS = 60.0
_MAX_LOG_BYTES = 1 << 16


class EvaluatorError(Exception):
    """The evaluator failed; whose fault that is, a run with other code tells.

    Args:
        text: What it said, with its traceback: for the person who wrote it, never for a proposer.
    """


@dataclass(frozen=True)
class Evaluator:
    """The program that scores, and what it may read."""

    file: str
    files: Mapping[str, bytes]
    """Path -> content, `file` among them."""
    folders: Mapping[str, Path] = field(default_factory=dict)
    """Name in its folder -> where that is: data that is not copied."""


@dataclass
class Found:
    """What an evaluation gave for one side."""

    values: list[float] = field(default_factory=list)
    """Of each case; empty where there is no score."""
    figures: dict[str, list[float]] = field(default_factory=dict)
    failure: Exception | None = None
    """FailedError or CheatError: the candidate's doing; EvaluatorError."""
    inputs: str = ""
    """Hash of everything the evaluator handed in."""


@dataclass
class _Seat:
    """A copy of the evaluator and the side it scores."""

    side: Side
    reader: Reader
    found: Found
    asked: tuple[dict[str, Any], bytes] | None = None
    last: FailedError | None = None
    """Of the last call, which the evaluator may have let through."""
    is_over: bool = False
    inputs: Any = field(default_factory=sha256)


class Evaluation:
    """Scores sides; use as a context manager, which starts all processes at once.

    Args:
        bench: What the processes share.
        evaluator: The program that scores.
        sides: One or two versions, already started.
        label: For the evaluator's folder.
    """

    def __init__(
        self, bench: Bench, evaluator: Evaluator, sides: Sequence[Side], label: str
    ) -> None:
        self._bench = bench
        self._evaluator = evaluator
        self._sides = sides
        self._label = label
        self._seconds = 0.0
        self.output = Output(_MAX_LOG_BYTES)
        """What the evaluator printed."""

    @property
    def seconds(self) -> float:
        """What the evaluator itself took, calls apart."""
        return self._seconds

    @contextlib.contextmanager
    def _process(self) -> Iterator[list[Reader]]:
        with contextlib.ExitStack() as opened:
            folder = opened.enter_context(Folder(self._bench.scratch, self._label, {}))
            folder.work.mkdir()
            write_files(folder.work, self._evaluator.files)
            for name, place in self._evaluator.folders.items():
                link = folder.work / name.rstrip("/")
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(place)
            ours, theirs = map(opened.enter_context, wire.pair())
            second = [theirs.fileno()] * (len(self._sides) - 1)
            child = Child(
                "program",
                config=self._bench.config,
                sandbox=self._bench.sandbox,
                folder=folder,
                argv=worker_command("evaluate", folder.work / self._evaluator.file, *second),
                is_heard=True,
                inherit=second,
                read_only=tuple(self._evaluator.folders.values()),
            )
            opened.callback(child.close)
            for side in self._sides:  # all at once, once the evaluator's end begins
                opened.callback(side.end)
            theirs.close()
            channels = [child.channel, wire.Channel(ours)][: len(self._sides)]
            yield [Reader(child, channel, self.output, self._bench) for channel in channels]

    def run(self, seed: int, split: Split) -> list[Found]:
        """Return what was found for each side, in their order.

        Raises:
            EvaluatorError: it cannot be started.
            StoppedError: the session was stopped.
        """
        with self._process() as readers:
            deadline = time.monotonic() + self._bench.config.trial.startup_seconds
            for side in self._sides:
                try:
                    side.ready()
                except FailedError as exc:
                    return [Found(failure=exc if s is side else None) for s in self._sides]
            try:
                head, _ = readers[0].frame(deadline)
            except (TimeoutError, wire.ClosedError, plain.PlainError) as exc:
                raise EvaluatorError(f"it did not start: {exc}\n{self.output.tail}") from exc
            if head.get("op") != "ready":
                raise EvaluatorError(str(head.get("text")))
            order = list(self._sides)
            random.SystemRandom().shuffle(order)
            seats = [_Seat(s, r, Found()) for s, r in zip(order, readers, strict=True)]
            readers[0].send(
                plain.pack({"op": "go", "seed": seed, "split": split}),
                time.monotonic() + _SEND_SECONDS,
            )
            for turn in range(MAX_CALLS + 1):
                self._listen(seats)
                waiting = [seat for seat in seats if seat.asked is not None]
                if not waiting:
                    break
                answers = [
                    (seat, self._answer(seat)) for seat in (waiting if turn % 2 else waiting[::-1])
                ]
                for seat, answer in answers:
                    self._deliver(seat, answer)
            else:
                for seat in seats:
                    _fail(
                        seat,
                        EvaluatorError(
                            f"it makes more than {MAX_CALLS:,} calls; put cases together"
                        ),
                    )
            for seat in seats:
                seat.found.inputs = seat.inputs.hexdigest()
            return [next(s.found for s in seats if s.side is side) for side in self._sides]

    def _listen(self, seats: Sequence[_Seat]) -> None:
        """Wait until every copy of the evaluator has asked for something or is over."""
        limit = self._bench.config.judge.timeout_seconds
        for seat in seats:
            if seat.is_over:
                continue
            began = time.monotonic()
            try:
                head, body = seat.reader.frame(began + limit - self._seconds)
                self._hear(seat, head, body)
            except TimeoutError:
                _fail(seat, EvaluatorError(f"it took more than {limit:g} s besides its calls"))
            except (wire.ClosedError, plain.PlainError) as exc:
                _fail(seat, EvaluatorError(f"it ended without a score: {exc}\n{self.output.tail}"))
            finally:
                self._seconds += time.monotonic() - began

    def _hear(self, seat: _Seat, head: dict[str, Any], body: bytes) -> None:
        if head.get("op") == "score":
            value = plain.decode(body, is_finite=True)
            seat.found.values, seat.found.figures = value["values"], value["figures"]
            seat.is_over = True
        elif head.get("op") == "error":
            failure: Exception = EvaluatorError(str(head.get("text")))
            if head.get("is_wrong"):
                failure = FailedError("wrong_answer", "an answer breaks the rules of the task")
            elif head.get("call") == "bad_answer":
                text = "an answer is no plain data, or holds a number that is not finite"
                failure = FailedError("bad_answer", text)
            elif head.get("call") and seat.last is not None:
                failure = seat.last
            _fail(seat, failure)
        else:
            seat.asked = head, body

    def _answer(self, seat: _Seat) -> bytes | None:
        """Do what a copy of the evaluator asked for; None where there is nothing to say any more."""
        assert seat.asked is not None
        head, body = seat.asked
        seat.asked = None
        op, name = head.get("op"), str(head.get("name", ""))
        try:
            if op == "call":
                seat.inputs.update(name.encode() + b"\0" + body)
                seconds = head.get("seconds")
                limit = float(seconds) if isinstance(seconds, int | float) else None
                answer, spent, peak = seat.side.call(name, body, limit)
                return plain.pack({"op": "done", "seconds": spent, "memory_mb": peak}, answer)
            if op == "restart":
                seat.side.restart()
                return plain.pack({"op": "done"})
            return plain.pack({"op": "done"}, seat.side.read(str(head.get("path"))))
        except FailedError as exc:
            seat.last = exc
            return plain.pack({"op": "failed", "kind": exc.kind, "text": str(exc)})
        except CheatError as exc:
            _fail(seat, exc)
            return None

    def _deliver(self, seat: _Seat, answer: bytes | None) -> None:
        if answer is None:
            return
        try:
            seat.reader.send(answer, time.monotonic() + _SEND_SECONDS)
        except (TimeoutError, wire.ClosedError) as exc:
            _fail(seat, EvaluatorError(f"it reads no answer: {exc}\n{self.output.tail}"))


def _fail(seat: _Seat, failure: Exception) -> None:
    seat.found.failure = seat.found.failure or failure
    seat.is_over = True


__all__ = ["Evaluation", "Evaluator", "EvaluatorError", "Found", "StoppedError"]
