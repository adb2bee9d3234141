"""Runs the two halves of judging: asks a claim process, then an audit process, and gives the scorer what they said."""

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from autoresearch.config import Config
from autoresearch.faults import reach
from autoresearch.trial import audit, judge
from autoresearch.trial import channel as wire
from autoresearch.trial.child import EXIT_EXCEPTION, EXIT_OOM
from autoresearch.trial.judge import InvalidClaimError, Positions, Score, Text
from autoresearch.trial.output import one_line
from autoresearch.trial.process import Child
from autoresearch.trial.sandbox import EXIT_LIMIT, Sandbox
from autoresearch.trial.snapshot import Folder
from autoresearch.types import TrialSpec

_SUSPICIOUS_FACTOR = 4
_CALIBRATION_BATCHES = 8
# The calibrated tolerance: so many times the largest difference between two claims of the same weights, and never
# more than what a wrong baseline could hide a leak behind.
_TOLERANCE_FACTOR = 1.5
_MAX_TOLERANCE = 1.0
_EXIT_SECONDS = 3.0


class JudgingFailedError(Exception):
    """The model could not be judged: a crash of what train.py defines.

    Args:
        reason: `oom` or `exception`.
        detail: One sentence.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class TaintedError(Exception):
    """Judging did not come to its end, and not by the model's doing.

    Args:
        reason: `stopped`, or `judge`: a process ended before anything of the candidate had reached it.
        detail: One sentence.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


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
        caches: Compile caches the processes may read; none that a candidate wrote.
        on_phase: Told `claim` and `audit`.
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
    environment: Mapping[str, str] = field(default_factory=dict)
    caches: tuple[Path, ...] = ()
    on_phase: Callable[[str], None] = lambda _: None


class JudgeProcess:
    """A claim or audit process with a folder, memory files and a deadline of its own.

    Args:
        work: What is judged.
        mode: `claim` or `audit`.
    """

    def __init__(self, work: Work, mode: str) -> None:
        self._work = work
        self._mode = mode
        self._stage = "start"
        self._folder = Folder(work.scratch, f"{work.spec.label}-{mode}", work.spec.files)
        try:
            self._child = self._start()
        except BaseException:
            self._folder.__exit__()
            raise
        self._deadline = time.monotonic() + work.config.judge.timeout_seconds

    def _start(self) -> Child:
        work = self._work
        return Child(
            self._mode,
            config=work.config,
            sandbox=work.sandbox,
            folder=self._folder,
            file=work.file,
            environment=work.environment,
            caches=work.caches,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()
        self._folder.__exit__()

    def give(self, work: Work) -> None:
        """Tell one that was started before there were weights what it is to judge."""
        self._work = work

    def load(self, batch_rows: int) -> int:
        """Let it load train.py and the weights, once it has imported torch.

        One that ended before that is started once more.

        Returns:
            The rows it takes at a time.

        Raises:
            JudgingFailedError: train.py, `build_model` or the weights failed.
            InvalidClaimError: it broke the protocol or was late.
            TaintedError: it did not start.
        """
        try:
            self._send_load(batch_rows)
        except TaintedError as exc:
            if exc.reason == "stopped":
                raise
            self._child.close()
            self._child = self._start()
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
            InvalidClaimError: the answer was short or late.
        """
        fds = [wire.sealed_file("rows", [array.data]) for array in arrays]
        self._stage = "answer"
        try:
            self._child.channel.send("rows", fds=fds, timeout=10.0, num_rows=len(arrays[0]))
        except wire.ClosedError as exc:
            raise self._ended() from exc
        finally:
            for fd in fds:
                os.close(fd)
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
        left = self._deadline - time.monotonic()
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
        """Say why the process is gone, from its exit code alone; not the code itself once it has seen rows."""
        # Its exit code comes a moment after its channel closes; a kill would write over it.
        self._child.wait(_EXIT_SECONDS)
        self._child.kill()
        code = self._child.exit_code
        if self._stage == "start":
            detail = f"the {self._mode} process did not start: exit status {code}"
            return TaintedError("judge", detail)
        if code in (EXIT_OOM, -9):
            return JudgingFailedError("oom", f"out of memory in the {self._mode} of judging")
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
            return InvalidClaimError("bad_claim", detail)
        return InvalidClaimError(
            "bad_claim", f"the {self._mode} process ended before its answer was whole"
        )


@dataclass(frozen=True)
class Judged:
    """A score and how it came about.

    Attributes:
        score: The numbers.
        extra: Further figures, JSON values.
        log_p: float32 (num_rows, context), the claim.
    """

    score: Score
    extra: dict[str, Any]
    log_p: np.ndarray


def explain_error(message: Mapping[str, Any], where: str = "") -> tuple[str, str]:
    """Return (reason, detail) of an `error` message of a child, cleaned; its words are data."""
    name = one_line(str(message.get("exception", "")), 80) or "an exception"
    text = one_line(str(message.get("message", "")), 300)
    line = message.get("line")
    place = f" (train.py line {line})" if type(line) is int and 0 < line < 10**6 else ""
    detail = f"{name}: {text}" if text else name
    reason = "oom" if message.get("kind") == "oom" else "exception"
    return reason, f"{where + ': ' if where else ''}{detail}{place}"


def judge_weights(work: Work, claim_process: JudgeProcess | None = None) -> Judged:
    """Judge submitted weights.

    Args:
        work: What and how.
        claim_process: One that was started early, warm; it is closed here.

    Raises:
        InvalidClaimError: the rules were broken.
        JudgingFailedError: the model could not be judged.
        TaintedError: the session ends, or a process did not start.
    """
    started_at = time.monotonic()
    with contextlib.ExitStack() as stack:
        work.on_phase("claim")
        # It has imported torch by the time the claim is done; it sees train.py only afterwards, if it is needed.
        early = stack.enter_context(JudgeProcess(work, "audit"))
        with claim_process or JudgeProcess(work, "claim") as process:
            process.give(work)
            batch_rows = process.load(min(work.config.judge.batch_rows, len(work.text.rows)))
            log_p = _claim(work, process, batch_rows)
        judge.check_claim(log_p, work.text)
        claimed = judge.claimed_score(log_p, work.text)
        reach("claimed")
        claimed_at = time.monotonic()
        extra: dict[str, Any] = {
            "judge_version": judge.JUDGE_VERSION,
            "batch_rows": batch_rows,
            "claim_seconds": round(claimed_at - started_at, 3),
        }
        below = work.spec.audit_below
        if not work.spec.audit and below is not None and claimed.claimed_bpb >= below:
            return Judged(claimed, extra, log_p)
        work.on_phase("audit")
        if work.is_calibrating:
            work, figures = _calibrate(work, log_p, batch_rows)
            extra.update(figures)
        score, figures = _audit(work, log_p, claimed, batch_rows, early)
        extra.update(figures)
        reach("audited")
        extra["audit_seconds"] = round(time.monotonic() - claimed_at, 3)
        extra["tolerance"] = work.tolerance
        extra["mean_difference"] = score.mean_difference
        extra["max_difference"] = score.max_difference
        return Judged(score, extra, log_p)


def _claim(work: Work, process: JudgeProcess, batch_rows: int) -> np.ndarray:
    """Return the claimed float32 (num_rows, context); every batch is full, the last filled with training text."""
    rows = work.text.rows
    missing = -len(rows) % batch_rows
    shown = np.concatenate([rows, work.training(missing)]) if missing else rows
    shown = np.ascontiguousarray(shown, dtype=np.int32)
    answer = process.ask([shown], (len(shown), rows.shape[1] - 1))
    return answer[: len(rows)]


def _calibrate(work: Work, log_p: np.ndarray, batch_rows: int) -> tuple[Work, dict[str, Any]]:
    """Claim some rows again, in another order as an audit has them, and set the tolerance by the differences."""
    began_at = time.monotonic()
    rows = work.text.rows
    chosen = np.random.default_rng().permutation(len(rows))[: _CALIBRATION_BATCHES * batch_rows]
    some = replace(work, text=Text(rows[chosen], work.text.num_bytes[chosen]))
    with JudgeProcess(work, "claim") as process:
        if process.load(batch_rows) != batch_rows:
            raise JudgingFailedError("oom", "out of memory in the second claim of the baseline")
        again = _claim(some, process, batch_rows)
    judge.check_claim(again, some.text)
    d = (again - log_p[chosen])[some.text.counts]
    largest = float(np.abs(d).max())
    tolerance = max(work.tolerance, min(_MAX_TOLERANCE, _TOLERANCE_FACTOR * largest))
    noise = max(work.noise_nats, float(d.std()))
    return replace(work, tolerance=tolerance, noise_nats=noise), {
        "calibration_difference": largest,
        "calibration_seconds": round(time.monotonic() - began_at, 3),
    }


def _audit(
    work: Work, log_p: np.ndarray, claimed: Score, batch_rows: int, process: JudgeProcess | None
) -> tuple[Score, dict[str, Any]]:
    text = work.text
    reference = audit.frequency_reference(text) if work.reference is None else work.reference
    gains = audit.gains_on(log_p, reference, text)
    planned, spread, leak = _plan(work, claimed, gains, reference)
    rng = np.random.default_rng(secrets.randbits(256))
    uniform = judge.draw_positions(text, planned.num_uniform, rng)
    targeted = audit.draw_targeted(text, gains, uniform.rows, planned.num_targeted, rng)
    del gains, reference
    positions = uniform.joined(targeted)
    nll = _ask_audit(work, positions, batch_rows, process)
    d = judge.differences(log_p, nll, positions)
    off = judge.off_positions(d, work.tolerance)
    if len(off):
        again = positions.at(off)
        repeated = _ask_audit(work, again, batch_rows, None)
        judge.check_repeated(judge.differences(log_p, repeated, again), work.tolerance, len(d))
    num = len(uniform.rows)
    judge.check_bias(d[:num], uniform.weights)
    score = judge.audited_score(log_p, d[:num], text, uniform)
    score = replace(score, num_audited=len(d), max_difference=float(np.abs(d).max()))
    sd = float(np.std(d[:num]))
    # What it could have caught, among differences as large as these were: noise of its own may hide a leak.
    spread = replace(spread, noise=max(spread.noise, sd))
    found = audit.rate(planned, spread, leak)
    return score, {
        "audit_targeted": found.num_targeted,
        "audit_power": None if found.power is None else round(found.power, 4),
        "smallest_leak_bpb": round(found.smallest_leak / audit.nats_per_bpb(text), 6),
        "difference_sd": sd,
    }


def _plan(
    work: Work, claimed: Score, gains: np.ndarray, reference: np.ndarray
) -> tuple[audit.Plan, audit.Spread, float | None]:
    """Return the audit this claim gets, what it takes honest claims to be, and the leak that matters, in nats."""
    per_bpb = audit.nats_per_bpb(work.text)
    noise = work.spec.noise_bpb
    leak = None if noise is None else audit.LEAK_FACTOR * noise * per_bpb
    spread = audit.measure_spread(
        gains,
        reference,
        work.text,
        tolerance=work.tolerance,
        noise=work.noise_nats,
        leak_nats=leak,
    )
    minimum = work.config.judge.audit_positions
    suspicious = work.spec.suspicious_below
    if suspicious is not None and claimed.claimed_bpb < suspicious:
        minimum *= _SUSPICIOUS_FACTOR
    return audit.plan(len(work.text.rows), minimum, spread, leak), spread, leak


def _ask_audit(
    work: Work, positions: Positions, batch_rows: int, process: JudgeProcess | None
) -> np.ndarray:
    """Return the audited nats (K,) of positions, from a fresh process."""
    with process or JudgeProcess(work, "audit") as fresh:
        if fresh.load(batch_rows) != batch_rows:
            raise JudgingFailedError("oom", "out of memory in the audit at the size of the claim")
        count = len(positions.rows)
        padded = count + -count % batch_rows
        training = work.training(padded)
        inputs = judge.audit_inputs(work.text, positions, training[:count])
        shown = np.concatenate([inputs, training[count:, : inputs.shape[1]]]).astype(np.int32)
        columns = np.zeros(padded, np.int32)
        columns[:count] = positions.columns
        logits = fresh.ask([shown, columns], (padded, work.vocab_size))
    return judge.audited_nll(logits[:count], work.text, positions)
