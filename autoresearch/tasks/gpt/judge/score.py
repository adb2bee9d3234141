"""val_bpb from a claim and an audit. The scorer: numpy only, and nothing here runs or parses what a child made.

Claim c_i = -log p(target_i) as the claim process says, for each position i of N. Audit a_k = the same from full
logits that another process gave for K secret positions without ever having held their targets. With d_k = a_k - c_k

    val_bpb = (sum(c) + N * mean(d)) / (ln 2 * bytes)

is unbiased for what the model scores without seeing ahead, whatever the claim process did; its standard error is that
of N * mean(d). Bits per byte as nanochat and autoresearch define it: nats over targets that stand for bytes (BOS does
not), divided by ln 2 and by the UTF-8 bytes of those targets.

What makes a claim invalid, in this order: wrong numbers (`bad_claim`), a position off by more than the tolerance that
is off again in a fresh process (`claim_mismatch`), a mean of d that is not zero at 1e-6 (`biased_claim`). The last
also asks for at least `MIN_BIAS` nats: below it honest arithmetic has systematic differences (a log-sum-exp
in float32 against one in float64), and the estimator takes any remaining bias out anyway.
"""

import functools
import math
import secrets
from dataclasses import dataclass

import numpy as np

from autoresearch.types import Outcome
from autoresearch.util.stats import student_quantile

JUDGE_VERSION = "1"
BIAS_SIGNIFICANCE = 1e-6
MIN_BIAS = 2e-4
"""Nats a token; about 0.00007 bpb, a tenth of what noise usually is."""

UNSEEN_DEVIATIONS = 4.0
"""Standard errors by which a score on unseen text must fall short; pieces of one document are not independent."""


class NoScoreError(Exception):
    """Judging gave no score.

    Args:
        reason: A word for the record.
        detail: One sentence.
    """

    outcome = Outcome.CRASH

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class InvalidClaimError(NoScoreError):
    """The trial broke the rules of judging.

    Args:
        reason: `bad_claim`, `claim_mismatch`, `biased_claim`, `unseen_text`.
        detail: One sentence with its size.
    """

    outcome = Outcome.INVALID


@dataclass(frozen=True)
class Text:
    """The rows that are judged.

    Attributes:
        rows: int32 (num_rows, context + 1); inputs are all but the last token, targets all but the first.
        num_bytes: int32 (num_rows, context), bytes of each target; 0 where it does not count.
    """

    rows: np.ndarray
    num_bytes: np.ndarray

    @classmethod
    def make(cls, rows: np.ndarray, token_bytes: np.ndarray) -> "Text":
        """Take rows (num_rows, context + 1) and the bytes of each token of the vocabulary."""
        rows = np.ascontiguousarray(rows, dtype=np.int32)
        return cls(rows, np.asarray(token_bytes, np.int32)[rows[:, 1:]])

    @property
    def counts(self) -> np.ndarray:
        """Bool (num_rows, context): the positions that count."""
        counted: np.ndarray = self.num_bytes > 0
        return counted

    @property
    def total_bytes(self) -> int:
        """Bytes of all targets."""
        return int(self.num_bytes.sum(dtype=np.int64))


@dataclass(frozen=True)
class Positions:
    """Secret positions to audit.

    Attributes:
        rows: int (K,), no row twice.
        columns: int (K,): the logits at this input position predict target `columns`.
        weights: float (K,), mean about 1: makes each position that counts equally likely in expectation.
    """

    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray

    def at(self, indices: np.ndarray) -> "Positions":
        """Return some of them."""
        return Positions(self.rows[indices], self.columns[indices], self.weights[indices])

    def joined(self, other: "Positions") -> "Positions":
        """Return these and others after them."""
        return Positions(
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.columns, other.columns]),
            np.concatenate([self.weights, other.weights]),
        )


@dataclass(frozen=True)
class Score:
    """What judging found.

    Attributes:
        score: Bits per byte after the audit's correction.
        claimed_score: As claimed.
        score_se: Standard error of the correction, in bits per byte.
        num_audited: K.
        mean_difference: Mean of d in nats.
        max_difference: Largest absolute d in nats.
    """

    score: float
    claimed_score: float
    score_se: float | None = None
    num_audited: int = 0
    mean_difference: float | None = None
    max_difference: float | None = None


def check_claim(log_p: np.ndarray, text: Text) -> None:
    """Check claimed float32 (num_rows, context) log probabilities.

    Raises:
        InvalidClaimError: one is not finite or above zero.
    """
    counted = log_p[text.counts]
    num_bad = int(np.count_nonzero(~np.isfinite(counted)))
    if num_bad:
        raise InvalidClaimError(
            "bad_claim",
            f"{num_bad} of {counted.size} log probabilities are not finite (NaN or p = 0)",
        )
    num_above = int(np.count_nonzero(counted > 0.0))
    if num_above:
        raise InvalidClaimError(
            "bad_claim",
            f"{num_above} of {counted.size} probabilities are above 1, up to exp({float(counted.max()):.3g})",
        )


def claimed_score(log_p: np.ndarray, text: Text) -> Score:
    """Return the score as claimed, without an audit."""
    bpb = _to_bpb(_sum_nll(log_p, text), text)
    return Score(score=bpb, claimed_score=bpb)


def draw_positions(
    text: Text, num_positions: int, rng: np.random.Generator | None = None
) -> Positions:
    """Draw positions to audit: rows without repetition, in each one position that counts.

    Args:
        text: The rows.
        num_positions: K; fewer if there are fewer rows.
        rng: Only tests give one; by default a fresh secret seed.
    """
    rng = rng or np.random.default_rng(secrets.randbits(256))
    per_row = text.counts.sum(axis=1)
    candidates = np.flatnonzero(per_row)
    rows = rng.permutation(candidates)[:num_positions]
    # The n-th position that counts, n uniform.
    nth = (rng.random(len(rows)) * per_row[rows]).astype(np.int64)
    order = np.cumsum(text.counts[rows], axis=1)
    columns = (order <= nth[:, None]).sum(axis=1)
    weights = per_row[rows] * (len(candidates) / per_row.sum())
    return Positions(rows, columns, weights)


def audit_inputs(text: Text, positions: Positions, training: np.ndarray) -> np.ndarray:
    """Return int32 (K, context): each row up to its position, then training text.

    Args:
        text: The rows.
        positions: What to audit.
        training: int (K, at least context) tokens of the training split.
    """
    context = text.rows.shape[1] - 1
    prefix = np.arange(context)[None, :] <= positions.columns[:, None]
    inputs = np.where(prefix, text.rows[positions.rows, :-1], training[:, :context])
    return np.ascontiguousarray(inputs, dtype=np.int32)


def audited_nll(logits: np.ndarray, text: Text, positions: Positions) -> np.ndarray:
    """Return float64 (K,) nats from float32 (K, vocab_size) logits, by a log-softmax of our own.

    Raises:
        InvalidClaimError: they are no logits.
    """
    targets = text.rows[positions.rows, positions.columns + 1]
    nll = np.empty(len(logits))
    for start in range(0, len(logits), 256):
        chunk = logits[start : start + 256].astype(np.float64)
        top = chunk.max(axis=1)
        with np.errstate(invalid="ignore", over="ignore"):
            total = np.exp(chunk - top[:, None]).sum(axis=1)
            chosen = chunk[np.arange(len(chunk)), targets[start : start + 256]]
            nll[start : start + 256] = np.log(total) + top - chosen
    if not np.isfinite(nll).all():
        bad = int(np.count_nonzero(~np.isfinite(nll)))
        raise InvalidClaimError(
            "bad_claim", f"{bad} of {len(nll)} audited positions are not finite"
        )
    return nll


def differences(log_p: np.ndarray, nll: np.ndarray, positions: Positions) -> np.ndarray:
    """Return d (K,): audited minus claimed nats."""
    claimed = -log_p[positions.rows, positions.columns].astype(np.float64)
    difference: np.ndarray = nll - claimed
    return difference


def off_positions(d: np.ndarray, tolerance: float) -> np.ndarray:
    """Return the indices of positions that are off by more than `tolerance` nats."""
    return np.flatnonzero(np.abs(d) > tolerance)


def check_repeated(d: np.ndarray, tolerance: float, num_audited: int) -> None:
    """Judge the positions that were off, audited again in a fresh process.

    Raises:
        InvalidClaimError: one is off again.
    """
    off = np.abs(d) > tolerance
    if off.any():
        raise InvalidClaimError(
            "claim_mismatch",
            f"{int(off.sum())} of {num_audited} audited positions differ from the claim by up to "
            f"{float(np.abs(d).max()):.3g} nats (allowed {tolerance:.3g}): the model looks ahead, mixes rows "
            "or is no pure function of its input",
        )


def check_bias(d: np.ndarray, weights: np.ndarray) -> None:
    """Judge the mean of d.

    Raises:
        InvalidClaimError: it is not zero at `BIAS_SIGNIFICANCE`.
    """
    if len(d) < 2:
        return
    weighted = d * weights
    mean = float(weighted.mean())
    se = float(weighted.std(ddof=1)) / math.sqrt(len(d))
    if abs(mean) > max(MIN_BIAS, critical_value(len(d) - 1) * se):
        word = "better" if mean > 0 else "worse"
        raise InvalidClaimError(
            "biased_claim",
            f"claimed probabilities are {word} than audited ones by {abs(mean):.3g} nats a token on average "
            f"(standard error {se:.2g}, {len(d)} positions): the model sees what it should not, or its "
            "probabilities do not sum to one",
        )


def audited_score(log_p: np.ndarray, d: np.ndarray, text: Text, positions: Positions) -> Score:
    """Return the score after the correction by the audited differences d (K,)."""
    num_counted = int(np.count_nonzero(text.counts))
    weighted = d * positions.weights
    claimed = _sum_nll(log_p, text)
    se = float(weighted.std(ddof=1)) / math.sqrt(len(d)) if len(d) > 1 else 0.0
    return Score(
        score=_to_bpb(claimed + num_counted * float(weighted.mean()), text),
        claimed_score=_to_bpb(claimed, text),
        score_se=_to_bpb(num_counted * se, text),
        num_audited=len(d),
        mean_difference=float(weighted.mean()),
        max_difference=float(np.abs(d).max()),
    )


def sampled_score(nll: np.ndarray, text: Text, positions: Positions) -> tuple[float, float]:
    """Return bits per byte as the nats (K,) of positions alone tell it, and its standard error."""
    num_bytes = text.num_bytes[positions.rows, positions.columns] * positions.weights
    nats = nll * positions.weights
    ratio = nats.sum() / num_bytes.sum()
    spread = np.std(nats - ratio * num_bytes, ddof=1) * math.sqrt(len(nll)) / num_bytes.sum()
    return float(ratio) / math.log(2), float(spread) / math.log(2)


def check_unseen(
    bpb: float, incumbent_score: float, unseen_score: float, se: float, num: int
) -> None:
    """Judge what a model scores on rows that no claim saw.

    Raises:
        InvalidClaimError: it is nearer to the incumbent's score than to its own, by `UNSEEN_DEVIATIONS`.
    """
    if unseen_score - UNSEEN_DEVIATIONS * se > (bpb + incumbent_score) / 2:
        raise InvalidClaimError(
            "unseen_text",
            f"on {num} rows that no claim saw it scores {unseen_score:.4f} bits per byte (standard error {se:.2g}),"
            f" not {bpb:.4f}: it knows the rows that are judged",
        )


@functools.cache
def critical_value(degrees: int) -> float:
    """Return the two-sided critical value of Student's t at `BIAS_SIGNIFICANCE`."""
    return -student_quantile(BIAS_SIGNIFICANCE / 2, degrees)


def _sum_nll(log_p: np.ndarray, text: Text) -> float:
    return -float(np.sum(log_p, where=text.counts, dtype=np.float64))


def _to_bpb(nats: float, text: Text) -> float:
    return nats / (math.log(2) * text.total_bytes)
