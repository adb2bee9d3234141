"""Is the gain real: which trials to run on fresh seeds, and what they say together.

Pure planning and analysis; `lab/confirming.py` runs the trials.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from autoresearch.config import Config
from autoresearch.lab.noise import confirm_seed
from autoresearch.lab.normal import student_cdf, student_quantile
from autoresearch.types import Confirmation, TrialResult

Side = Literal["reference", "candidate"]


@dataclass(frozen=True)
class PlannedTrial:
    """One trial of a confirmation."""

    side: Side
    index: int
    """Of the pair; both sides of a pair share the seed."""
    seed: int


def confirm_plan(session_seed: int, num_trials: int, *, first: int = 0) -> list[PlannedTrial]:
    """Return the trials in the order to run: pairs on fresh seeds, who goes first alternating.

    A slow drift of the machine then falls on both sides alike.

    Args:
        session_seed: Of the session.
        num_trials: Of each side.
        first: Index of the first pair: how many pairs earlier confirmations used.
    """
    there: tuple[Side, Side] = ("reference", "candidate")
    back: tuple[Side, Side] = ("candidate", "reference")
    return [
        PlannedTrial(side, index, confirm_seed(session_seed, index))
        for index in range(first, first + num_trials)
        for side in (there if (index - first) % 2 == 0 else back)
    ]


def confirmation_reserve_seconds(config: Config, trial_seconds: float) -> float:
    """Return the seconds to keep free at the end of a session.

    The smaller of `confirm_share` of its hours and what `confirm_trials` of each side take; 0 where
    there is no confirmation.
    """
    needed = 2 * config.session.confirm_trials * trial_seconds
    if config.session.hours > 0:
        return min(needed, config.session.confirm_share * config.session.hours * 3600)
    return needed


def affordable_pairs(seconds: float | None, trial_seconds: float, wanted: int) -> int:
    """Return how many pairs of trials fit into `seconds`, at most `wanted`; None is no limit."""
    if seconds is None:
        return wanted
    if trial_seconds <= 0:
        return wanted
    return max(0, min(wanted, int(seconds // (2 * trial_seconds))))


def paired(
    reference: Sequence[TrialResult], candidate: Sequence[TrialResult]
) -> list[tuple[float, float]]:
    """Return (reference, candidate) scores of the seeds that both sides have."""
    ours = {t.seed: t.bpb for t in reference if t.ok and t.bpb is not None}
    theirs = {t.seed: t.bpb for t in candidate if t.ok and t.bpb is not None}
    return [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]


def confirm(
    reference_trials: Sequence[TrialResult],
    candidate_trials: Sequence[TrialResult],
    *,
    reference: int,
    candidate: int,
    setup: str,
    at: str,
    budget_seconds: float,
    kind: str = "session",
    note: str = "",
    confidence: float = 0.95,
) -> Confirmation:
    """Compare two experiments by their trials on the same fresh seeds.

    Nothing is taken from the session: no prior, no noise, so the difference is unbiased and its interval
    (Student's, over the differences of pairs) holds whatever the search did.

    Args:
        reference_trials: Of one split and one setup; what failed is left out with its partner.
        candidate_trials: Likewise.
        reference: Number of the experiment compared against.
        candidate: Number of the experiment in question.
        setup: Key of the setup of all these trials.
        at: UTC time, ISO 8601.
        budget_seconds: Of these trials.
        kind: See `types.Confirmation`.
        note: For a person.
        confidence: Of the interval.

    Raises:
        ValueError: fewer than two pairs, or trials of different splits.
    """
    pairs = paired(reference_trials, candidate_trials)
    if len(pairs) < 2:
        raise ValueError(f"a confirmation needs two pairs of good trials, got {len(pairs)}")
    splits = {t.split for t in (*reference_trials, *candidate_trials) if t.ok}
    if len(splits) != 1:
        raise ValueError(f"trials of different splits cannot be compared: {sorted(splits)}")
    deltas = [theirs - ours for ours, theirs in pairs]
    n = len(deltas)
    delta = sum(deltas) / n
    error = math.sqrt(sum((d - delta) ** 2 for d in deltas) / (n - 1) / n)
    half = student_quantile(0.5 + confidence / 2, n - 1) * error
    p_real = 0.5 if delta == 0 else float(delta < 0)
    if error > 0:
        p_real = student_cdf(-delta / error, n - 1)
    return Confirmation(
        reference=reference,
        candidate=candidate,
        split=splits.pop(),
        delta=delta,
        low=delta - half,
        high=delta + half,
        p_real=p_real,
        num_trials=n,
        reference_bpb=sum(ours for ours, _ in pairs) / n,
        candidate_bpb=sum(theirs for _, theirs in pairs) / n,
        budget_seconds=budget_seconds,
        setup=setup,
        at=at,
        kind=kind,
        note=note,
    )
