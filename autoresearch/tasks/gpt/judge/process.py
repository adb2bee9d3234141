"""A claim or audit process: started, shown the model, then rows, read to the last byte; and why one ended before.

`judge.run` says which of them run on what; `trial.child.judge_worker` is what runs inside.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from autoresearch.config import Config
from autoresearch.sandbox import EXIT_LIMIT, Sandbox
from autoresearch.tasks.gpt.judge.score import InvalidClaimError, NoScoreError, Text
from autoresearch.trial import channel as wire
from autoresearch.trial.child.main import EXIT_EXCEPTION, EXIT_OOM
from autoresearch.trial.process import Child
from autoresearch.trial.snapshot import Folder
from autoresearch.trial.telemetry import explain_error
from autoresearch.types import Outcome, TrialSpec

# For the clean-up of a large home on a busy machine; killed before that, its exit status is lost.
_EXIT_SECONDS = 30.0
_BLIND_SECONDS = 1.0


class EndedEarlyError(InvalidClaimError):
    """A process ended before its answer was whole, and nothing says why; bad only if it happens again."""

    def __init__(self, detail: str) -> None:
        super().__init__("bad_claim", detail)


class JudgingFailedError(NoScoreError):
    """The model could not be judged: a crash of what train.py defines.

    Args:
        reason: `oom` or `exception`.
        detail: One sentence.
    """


class KilledError(JudgingFailedError):
    """A process was killed from outside it, most often for lack of memory; the machine's doing if it happens once."""


class TaintedError(NoScoreError):
    """Judging did not come to its end, and not by the model's doing.

    Args:
        reason: `stopped`, or `judge`: a process ended before anything of the candidate had reached it.
        detail: One sentence.
    """

    outcome = Outcome.TAINTED


@dataclass(frozen=True)
class Work:
    """What judging needs to know of the trial and the data.

    Attributes:
        weights: The bytes that were submitted; none yet while a process only warms up.
        device: Where it trained: `cuda`, `mps` or `cpu`.
        training: Gives int (n, context + 1) fresh rows of training text.
        tolerance: Nats an audited position may be off.
        is_calibrating: Whether the tolerance is measured on these weights, by a second claim.
        noise_nats: Standard deviation of honest audited minus claimed, as far as it is known.
        reference: float16 (num_rows, context), nats of each target as the baseline claimed them.
        unseen: Rows that no claim is ever shown; None: not asked for.
        caches: Compile caches the processes may read; none that a candidate wrote.
        on_phase: Called with `claim` and `audit`.
        on_end: Called with how a process ended that was not asked to. Never for the proposer: a model that has seen
            validation text may choose its exit status.
    """

    config: Config
    sandbox: Sandbox
    scratch: Path
    spec: TrialSpec
    file: str
    weights: memoryview
    device: str
    vocab_size: int
    text: Text
    training: Callable[[int], np.ndarray]
    tolerance: float
    stop: threading.Event
    is_calibrating: bool = False
    noise_nats: float = 0.0
    reference: np.ndarray | None = None
    unseen: Text | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    caches: tuple[Path, ...] = ()
    on_phase: Callable[[str], None] = lambda _: None
    on_end: Callable[[str], None] = lambda _: None


class JudgeProcess:
    """A claim or audit process with a private folder, memory files and a deadline.

    Args:
        work: What is judged.
        mode: `claim` or `audit`.
    """

    def __init__(self, work: Work, mode: str) -> None:
        self._work = work
        self._mode = mode
        self._stage = "start"
        self._looked_at = time.monotonic()
        self._start()
        self._deadline = time.monotonic() + work.config.judge.timeout_seconds

    def _start(self) -> None:
        work = self._work
        with contextlib.ExitStack() as opened:
            label = f"{work.spec.label}-{self._mode}"
            folder = opened.enter_context(Folder(work.scratch, label, work.spec.files))
            self._child = Child(
                self._mode,
                config=work.config,
                sandbox=work.sandbox,
                folder=folder,
                file=work.file,
                environment=work.environment,
                caches=work.caches,
            )
            opened.callback(self._child.close)
            self.close = opened.pop_all().close

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def has_seal(self) -> bool:
        """Whether it is sealed before it is shown rows."""
        return self._child.has_seal

    def give(self, work: Work) -> None:
        """Tell one that was started before there were weights what it is to judge."""
        self._work = work

    def load(self, batch_rows: int) -> int:
        """Let it load train.py and the weights, once it has imported torch.

        One that ended before that is started once more, in a new folder: its keeper has cleared the old one.

        Returns:
            The rows it takes at a time.

        Raises:
            JudgingFailedError: train.py, `build_model` or the weights failed.
            InvalidClaimError: it broke the protocol or was late; EndedEarlyError if it is gone.
            TaintedError: it did not start.
        """
        try:
            self._send_load(batch_rows)
        except TaintedError as exc:
            if exc.reason == "stopped":
                raise
            self.close()
            self._start()
            self._send_load(batch_rows)
        self._stage = "load"
        answer = self._receive("ready")
        rows = answer.get("batch_rows")
        if rows not in (batch_rows, max(1, batch_rows // 2)):
            raise InvalidClaimError("bad_claim", "the process broke the protocol")
        return int(rows)

    def _send_load(self, batch_rows: int) -> None:
        work = self._work
        self._deadline = time.monotonic() + work.config.judge.timeout_seconds
        self._receive("warm")
        fd = wire.sealed_file("weights", [work.weights])
        self._deadline = time.monotonic() + work.config.judge.timeout_seconds
        try:
            self._child.channel.send(
                "load",
                fds=[fd],
                timeout=10.0,
                device=work.device,
                vocab_size=work.vocab_size,
                max_seq_len=work.config.trial.max_seq_len,
                seed=work.spec.seed,
                batch_rows=batch_rows,
                context=work.text.rows.shape[1] - 1,
            )
        except wire.ClosedError as exc:
            raise self._ended() from exc
        finally:
            os.close(fd)

    def ask(self, arrays: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
        """Show it rows and read exactly float32 `shape` back; then it is killed.

        Raises:
            JudgingFailedError: the model failed.
            InvalidClaimError: the answer was late; EndedEarlyError if it was short.
        """
        try:
            problem = self._child.seal(self._patience)
            if problem:
                raise JudgingFailedError("exception", f"it cannot be shown rows: {problem}")
            self._stage = "answer"
            self._child.channel.send("rows", timeout=10.0, num_rows=len(arrays[0]))
            for array in arrays:
                self._send(memoryview(array.data).cast("B"))
        except wire.ClosedError as exc:
            raise self._ended() from exc
        answer = np.empty(shape, np.float32)
        view = memoryview(answer.data).cast("B")
        while view:
            try:
                view = view[self._child.channel.read_into(view, self._patience()) :]
            except TimeoutError:
                continue
            except wire.ClosedError as exc:
                raise self._ended() from exc
        self._child.kill()
        return answer

    def _send(self, data: memoryview) -> None:
        """Send it rows; it must read them before the deadline."""
        while data:
            with contextlib.suppress(TimeoutError):
                data = data[self._child.channel.write_from(data, self._patience()) :]

    def _receive(self, type_: str) -> dict[str, Any]:
        while True:
            try:
                message = self._child.channel.receive(self._patience())
            except TimeoutError:
                continue
            except wire.ClosedError as exc:
                raise self._ended() from exc
            except wire.ProtocolError as exc:
                raise InvalidClaimError("bad_claim", "the process broke the protocol") from exc
            if message["type"] == "error":
                raise JudgingFailedError(*explain_error(message, "while judging"))
            if message["type"] != type_:
                raise InvalidClaimError("bad_claim", "the process broke the protocol")
            return message

    def _patience(self) -> float:
        """Return the seconds to wait at most before looking around again."""
        if self._work.stop.is_set():
            raise TaintedError("stopped", "the session was stopped")
        now = time.monotonic()
        if now - self._looked_at > _BLIND_SECONDS:
            # The lab was stopped, and this process with it, or the lab was busy.
            self._deadline += now - self._looked_at
        self._looked_at = now
        left = self._deadline - now
        if left <= 0:
            seconds = self._work.config.judge.timeout_seconds
            if self._stage == "start":
                raise TaintedError(
                    "judge", f"the {self._mode} process did not start in {seconds:g} s"
                )
            raise InvalidClaimError(
                "bad_claim", f"the {self._mode} was late: not done in {seconds:g} s"
            )
        return min(left, 0.2)

    def _ended(self) -> Exception:
        """Describe the exit without leaking the exit status after the process has seen validation rows."""
        # Its exit code comes a moment after its channel closes.
        self._child.wait(_EXIT_SECONDS)
        self._child.kill()
        code = self._child.exit_code
        self._work.on_end(f"{self._mode}, {self._stage}: exit status {code}")
        if self._stage == "start":
            detail = f"the {self._mode} process did not start: exit status {code}"
            return TaintedError("judge", detail)
        if code in (EXIT_OOM, -9):
            kind = JudgingFailedError if code == EXIT_OOM else KilledError
            return kind("oom", f"out of memory in the {self._mode} of judging")
        if code == EXIT_LIMIT:
            return JudgingFailedError(
                "exception",
                f"it broke a limit of the sandbox on disk or processes in the {self._mode} of judging",
            )
        if code == EXIT_EXCEPTION:
            return JudgingFailedError(
                "exception", f"`forward` failed in the {self._mode} of judging"
            )
        if self._stage == "load":
            detail = f"the {self._mode} process ended while it loaded the model: exit status {code}"
            return EndedEarlyError(detail)
        return EndedEarlyError(f"the {self._mode} process ended before its answer was whole")
