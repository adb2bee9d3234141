"""Scores submitted weights: runs a claim process, then an audit process, and checks what they answered."""

import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from autoresearch.decision.scores import implausible_gain
from autoresearch.tasks.gpt.judge import audit
from autoresearch.tasks.gpt.judge import score as judge
from autoresearch.tasks.gpt.judge.process import (
    EndedEarlyError,
    JudgeProcess,
    JudgingFailedError,
    KilledError,
    Work,
)
from autoresearch.tasks.gpt.judge.score import Positions, Score, Text
from autoresearch.util import host
from autoresearch.util.killpoints import reach

_T = TypeVar("_T")
SUSPICIOUS_FACTOR = 4
"""An implausible claim is audited at so many times the fewest positions."""
MIN_UNSEEN = 32
"""Rows that no claim saw without which they tell nothing."""
_CALIBRATION_BATCHES = 8
# The calibrated tolerance: so many times the largest difference between two claims of the same weights, and never
# more than what a wrong baseline could hide a leak behind.
_TOLERANCE_FACTOR = 1.5
_MAX_TOLERANCE = 1.0


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
        rows = min(work.config.judge.batch_rows, len(work.text.rows))
        log_p, batch_rows = _claim(work, rows, claim_process)
        if not early.has_seal:
            host.forget_caches(pages=True)  # what the claim may have left for the audit
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
        if below is not None and claimed.claimed_score >= below:
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
        if work.unseen is not None:
            extra.update(_audit_unseen(work, work.unseen, score, batch_rows))
        return Judged(score, extra, log_p)


def _asked(
    work: Work, mode: str, ask: Callable[[JudgeProcess], _T], process: JudgeProcess | None
) -> _T:
    """Return what `ask` gets from a process, or from a fresh one if that was killed, or ended and nothing says why.

    A machine short of threads, memory or time may end an honest one. A cheat gains nothing: what the second is shown
    is the same text, it knows nothing of the first, and its answer is checked as any other.
    """
    try:
        with process or JudgeProcess(work, mode) as first:
            first.give(work)
            return ask(first)
    except (EndedEarlyError, KilledError):
        with JudgeProcess(work, mode) as second:
            return ask(second)


def _claim(
    work: Work, batch_rows: int, process: JudgeProcess | None = None
) -> tuple[np.ndarray, int]:
    """Return the claimed float32 (num_rows, context), and how many rows at a time the process took.

    Every batch is full, the last filled with training text.
    """
    rows = work.text.rows

    def ask(process: JudgeProcess) -> tuple[np.ndarray, int]:
        taken = process.load(batch_rows)
        missing = -len(rows) % taken
        shown = np.concatenate([rows, work.training(missing)]) if missing else rows
        shown = np.ascontiguousarray(shown, dtype=np.int32)
        answer = process.ask([shown], (len(shown), rows.shape[1] - 1))
        return answer[: len(rows)], taken

    return _asked(work, "claim", ask, process)


def _calibrate(work: Work, log_p: np.ndarray, batch_rows: int) -> tuple[Work, dict[str, Any]]:
    """Claim some rows again, in another order as an audit has them, and set the tolerance by the differences."""
    began_at = time.monotonic()
    rows = work.text.rows
    chosen = np.random.default_rng().permutation(len(rows))[: _CALIBRATION_BATCHES * batch_rows]
    some = replace(work, text=Text(rows[chosen], work.text.num_bytes[chosen]))
    again, taken = _claim(some, batch_rows)
    if taken != batch_rows:
        raise JudgingFailedError("oom", "out of memory in the second claim of the baseline")
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
    # What it could have caught, among differences as large as these were: its noise may hide a leak.
    spread = replace(spread, noise=max(spread.noise, sd))
    found = audit.rate(planned, spread, leak)
    return score, {
        "audit_targeted": found.num_targeted,
        "audit_power": None if found.power is None else round(found.power, 4),
        "smallest_leak_bpb": round(found.smallest_leak / audit.nats_per_bpb(text), 6),
        "difference_sd": sd,
    }


def _audit_unseen(work: Work, text: Text, score: Score, batch_rows: int) -> dict[str, Any]:
    """Audit rows that no claim was shown: what a claim could note is of no use there, nor is a text known by heart."""
    positions = judge.draw_positions(text, len(text.rows))
    num = len(positions.rows)
    if num < MIN_UNSEEN:
        return {"num_unseen": 0}
    nll = _ask_audit(replace(work, text=text), positions, batch_rows, None)
    bpb, se = judge.sampled_score(nll, text, positions)
    if work.spec.incumbent_score is not None:
        judge.check_unseen(score.score, work.spec.incumbent_score, bpb, se, num)
    return {"num_unseen": num, "unseen_score": bpb, "unseen_se": se}


def _plan(
    work: Work, claimed: Score, gains: np.ndarray, reference: np.ndarray
) -> tuple[audit.Plan, audit.Spread, float | None]:
    """Return the audit this claim gets, what it takes honest claims to be, and the leak that matters, in nats."""
    per_bpb = audit.nats_per_bpb(work.text)
    noise = work.spec.noise
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
    level, jump = work.spec.incumbent_score, work.config.judge.suspicious_jump
    if level is not None and level - claimed.claimed_score > implausible_gain(level, noise, jump):
        minimum *= SUSPICIOUS_FACTOR
    return audit.plan(len(work.text.rows), minimum, spread, leak), spread, leak


def _ask_audit(
    work: Work, positions: Positions, batch_rows: int, process: JudgeProcess | None
) -> np.ndarray:
    """Return the audited nats (K,) of positions, from a fresh process."""
    count = len(positions.rows)
    padded = count + -count % batch_rows
    training = work.training(padded)
    inputs = judge.audit_inputs(work.text, positions, training[:count])
    shown = np.concatenate([inputs, training[count:, : inputs.shape[1]]]).astype(np.int32)
    columns = np.zeros(padded, np.int32)
    columns[:count] = positions.columns

    def ask(process: JudgeProcess) -> np.ndarray:
        if process.load(batch_rows) != batch_rows:
            raise JudgingFailedError("oom", "out of memory in the audit at the size of the claim")
        return process.ask([shown, columns], (padded, work.vocab_size))

    logits = _asked(work, "audit", ask, process)
    return judge.audited_nll(logits[:count], work.text, positions)
