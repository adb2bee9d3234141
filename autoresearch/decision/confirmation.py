"""Confirmation: which trials to run on fresh seeds, and whether they confirm the gain.

Pure planning and analysis; `session/confirm.py` runs the trials.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from autoresearch.decision.scores import pace_of
from autoresearch.types import (
    REFERENCE_SCORE,
    Confirmation,
    Decision,
    Question,
    Reason,
    Session,
    TrialResult,
)
from autoresearch.util.stats import student_cdf, student_quantile

if TYPE_CHECKING:
    from autoresearch.config import SessionConfig

CONFIRM_SHARE = 0.15
"""Largest share of the time limit kept free for the confirmation."""
MIN_PAIRS = 2
"""Pairs of trials without which there is no interval."""
EARLY_LOOKS = range(3, 8)
"""Pairs after which a confirmation may end early."""
EARLY_LEVEL = 0.005
"""Error spent at each of them."""
LAST_LEVELS = {2: 0.05, 3: 0.05, 4: 0.047, 5: 0.044, 6: 0.042, 7: 0.040, 8: 0.0385}
"""Planned pairs -> error left for the last look, 5 % over all of them: `python bench/keep_rule.py --looks`."""
PACES_APART = 0.02
"""Difference of two paces (log) from which the pair is run once more."""


def level_at(num_pairs: int, planned: int) -> float:
    """Return the two-sided error allowed at a look after so many of the planned pairs; 0 where none is taken.

    A confirmation ends at the first look whose interval leaves 0 out, and over all looks errs in 5 % of A/A cases.
    """
    if num_pairs >= planned:
        return LAST_LEVELS[min(max(num_pairs, MIN_PAIRS), max(LAST_LEVELS))]
    return EARLY_LEVEL if num_pairs in EARLY_LOOKS else 0.0


def is_settled(
    reference: Sequence[TrialResult], candidate: Sequence[TrialResult], planned: int
) -> bool:
    """Whether the pairs so far answer the question, so that the rest of those planned need not be run."""
    deltas = [theirs - ours for ours, theirs in paired(reference, candidate)]
    level = level_at(len(deltas), planned)
    if not level or len(deltas) >= planned:
        return False
    delta, error = _mean(deltas)
    return abs(delta) > student_quantile(1 - level / 2, len(deltas) - 1) * error > 0


def is_apart(one: TrialResult, two: TrialResult) -> bool:
    """Whether two trials of a pair ran at paces that differ, by what others took of the machine."""
    paces = [sum(pace_of(trial).values()) for trial in (one, two)]
    return abs(paces[0] - paces[1]) > PACES_APART


def _mean(deltas: Sequence[float]) -> tuple[float, float]:
    """Return the mean and its standard error."""
    n = len(deltas)
    mean = sum(deltas) / n
    return mean, math.sqrt(sum((d - mean) ** 2 for d in deltas) / (n - 1) / n)


def confirmation_reserve_seconds(
    settings: "SessionConfig", trial_seconds: float, limit_seconds: float
) -> float:
    """Return the seconds to keep free at the end of a session.

    The smaller of what `confirm_trials` of each side take and `CONFIRM_SHARE` of the time there is; 0 where there is
    no confirmation, or where that share is too short for one: the session then ends unconfirmed.
    A limit of 0 is none.
    """
    needed = 2 * settings.confirm_trials * trial_seconds
    if limit_seconds <= 0:
        return needed
    share = CONFIRM_SHARE * limit_seconds
    if affordable_pairs(share, trial_seconds, MIN_PAIRS) < MIN_PAIRS:
        return 0.0
    return min(needed, share)


def affordable_pairs(
    seconds: float | None, trial_seconds: float, wanted: int, *, num_arms: int = 2
) -> int:
    """Return how many rounds of one trial an arm fit into `seconds`, at most `wanted`; None is no limit."""
    if seconds is None or trial_seconds <= 0:
        return wanted
    return max(0, min(wanted, int(seconds // (num_arms * trial_seconds))))


def carry_over(session: Session, confirmation: Confirmation) -> Confirmation:
    """Return a confirmation with what validation says of the same two experiments.

    That is the difference of their posterior levels, from which luck is taken off; it stays None where one of the
    two was never kept or was not measured under the present setup.
    """
    from autoresearch.decision.belief import (
        estimates,  # numpy is not for screens that show the result
    )

    known = estimates(session)
    ours, theirs = known.get(confirmation.reference), known.get(confirmation.candidate)
    if ours is None or theirs is None or ours.level is None or theirs.level is None:
        return confirmation
    sign = session.metric.sign
    delta = sign * (theirs.level - ours.level)  # levels are losses
    reach = 1.96 * math.hypot(ours.level_sd or 0.0, theirs.level_sd or 0.0)
    edge = confirmation.low if sign > 0 else confirmation.high
    is_alarm = sign * (edge - delta) > reach
    return replace(confirmation, validation_delta=delta, is_alarm=is_alarm)


def p_carries(confirmation: Confirmation, decision: Decision | None) -> float | None:
    """Return the probability that a change that was left out is a gain, by both validation and test.

    Three effects are weighed by how well they predict the test difference (Student's likelihood): the gain it was
    kept for, with the probability it had then; nothing, and a harm of the same size, with half of the rest each. A
    test that is too blurred to tell them apart leaves the probability where it was.

    Returns:
        None where it was kept for no gain (`simpler`, or a commit made by hand) or the test has no spread.
    """
    if decision is None or decision.reason == Reason.SIMPLER or not decision.p_real:
        return None
    sign = -1 if confirmation.is_maximized else 1
    if decision.estimate is None or sign * decision.estimate >= 0:
        return None
    c, degrees = confirmation, confirmation.num_trials - 1
    error = (c.high - c.delta) / student_quantile(0.975, degrees)
    if error <= 0:
        return None
    before = min(decision.p_real, 0.999)
    gain = decision.estimate / decision.p_real

    def likelihood(effect: float) -> float:
        return math.pow(1 + ((c.delta - effect) / error) ** 2 / degrees, -(degrees + 1) / 2)

    real = before * likelihood(gain)
    luck = (1 - before) * 0.5 * (likelihood(0.0) + likelihood(-gain))
    return real / (real + luck)


def paired(
    reference: Sequence[TrialResult], candidate: Sequence[TrialResult]
) -> list[tuple[float, float]]:
    """Return (reference, candidate) scores of the seeds that both sides have.

    Where one of the two was run beside the other, both scores are those of that trial.
    """
    ours = {t.seed: t for t in reference if t.ok}
    theirs = {t.seed: t for t in candidate if t.ok}
    pairs: list[tuple[float, float]] = []
    for seed in (seed for seed in ours if seed in theirs):
        one, two = ours[seed], theirs[seed]
        assert one.score is not None
        assert two.score is not None
        pairs.append(
            (
                two.extra.get(REFERENCE_SCORE, one.score),
                one.extra.get(REFERENCE_SCORE, two.score),
            )
        )
    return pairs


def confirm(
    reference_trials: Sequence[TrialResult],
    candidate_trials: Sequence[TrialResult],
    question: Question,
    *,
    setup: str,
    at: str,
    planned: int = 0,
) -> Confirmation:
    """Answer a question by the trials of both on the same fresh seeds, all under `setup`.

    Where they might have ended early, out of `planned` pairs, the interval is that of the look at which they did.

    Nothing is taken from the session: no prior, no noise, so the difference is unbiased and its interval
    (Student's, over the differences of pairs) holds whatever the search did.

    A trial that failed is left out with its partner.

    Raises:
        ValueError: fewer than two pairs, or trials of different splits.
    """
    pairs = paired(reference_trials, candidate_trials)
    if len(pairs) < MIN_PAIRS:
        raise ValueError(f"a confirmation needs two pairs of good trials, got {len(pairs)}")
    splits = {t.split for t in (*reference_trials, *candidate_trials) if t.ok}
    if len(splits) != 1:
        raise ValueError(f"trials of different splits cannot be compared: {sorted(splits)}")
    deltas = [theirs - ours for ours, theirs in pairs]
    n = len(deltas)
    delta, error = _mean(deltas)
    is_early = planned > n and is_settled(reference_trials, candidate_trials, planned)
    level = 0.05 if not planned else level_at(n, planned if is_early else n)
    half = student_quantile(1 - level / 2, n - 1) * error
    is_maximized = any(t.is_maximized for t in reference_trials)
    gain = delta if is_maximized else -delta
    p_real = 0.5 if gain == 0 else float(gain > 0)
    if error > 0:
        p_real = student_cdf(gain / error, n - 1)
    return Confirmation(
        **vars(question),
        split=splits.pop(),
        delta=delta,
        low=delta - half,
        high=delta + half,
        p_real=p_real,
        num_trials=n,
        reference_score=sum(ours for ours, _ in pairs) / n,
        candidate_score=sum(theirs for _, theirs in pairs) / n,
        is_maximized=is_maximized,
        setup=setup,
        at=at,
    )


Carried = Literal["carries", "unclear", "does not"]

LEFT_OUT = "without-"
"""How the trials of the best without one change are marked in the journal, before its number."""
CARRIES_ABOVE, IDLE_BELOW = 0.95, 0.2
"""Probabilities of being a gain between which it is unclear whether a kept change carries the gain."""


def headline(session: Session) -> Confirmation | None:
    """Return the newest confirmation of the present best against the baseline."""
    return next((c for c in reversed(_of_best(session)) if c.kind == "session"), None)


def left_out(session: Session) -> dict[int, Confirmation]:
    """Return, by number, the newest comparison of the best with and without a kept change."""
    standing = {e.number for e in session.kept}
    return {
        c.reference: c for c in _of_best(session) if c.kind == "each" and c.reference in standing
    }


def carried(confirmation: Confirmation) -> Carried:
    """Return whether a change that was left out carries the gain."""
    p = confirmation.p_carries
    if confirmation.is_gain or (p is not None and p > CARRIES_ABOVE):
        return "carries"
    return "does not" if p is not None and p < IDLE_BELOW else "unclear"


def further(session: Session) -> tuple[Confirmation, ...]:
    """Return the newest answer to each question that is neither the headline nor a change left out."""
    return newest(c for c in _of_best(session) if c.kind not in {"session", "each"})


def newest(confirmations: Iterable[Confirmation]) -> tuple[Confirmation, ...]:
    """Return the last confirmation of each question, in the order the questions were first asked."""
    return tuple({c.question: c for c in confirmations}.values())


def _of_best(session: Session) -> list[Confirmation]:
    if session.best == 0:
        return []
    return [c for c in session.confirmations if c.candidate == session.best]
