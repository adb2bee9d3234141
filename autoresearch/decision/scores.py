"""Scores of experiments: which trials count, which may be compared, and their noise."""

import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from autoresearch.types import NUM_CASES, Experiment, Reason, Session, Trial, TrialResult, Verdict

DOUBTFUL = 0.8
"""A keep with a smaller probability of being real is marked."""


def find(session: Session, number: int) -> Experiment | None:
    """Return experiment `number`, or None."""
    return next((e for e in session.experiments if e.number == number), None)


def is_doubtful(experiment: Experiment) -> bool:
    """Whether a keep may well be luck. A `simpler` one claims no gain and is never doubtful."""
    p = experiment.p_real
    return experiment.reason != Reason.SIMPLER and p is not None and p < DOUBTFUL


def good_trials(experiment: Experiment, setup: str | None = None) -> list[Trial]:
    """Return the trials that count for the experiment's score under a setup (default: its own)."""
    setup = experiment.setup if setup is None else setup
    return [t for t in experiment.trials if t.counts(setup)]


def comparable(a: Experiment, b: Experiment, session: Session) -> tuple[float, float] | None:
    """Return the scores of both under one setup, the current one if possible; None if there is none."""
    setups = [session.setup.key] if session.setup else []
    for setup in [*setups, b.setup, a.setup]:
        one, two = a.score_under(setup), b.score_under(setup)
        if one is not None and two is not None:
            return one, two
    return None


MOST_GAIN = 75.0
"""In units of the noise: of the ideas that help, the prior before a session has one in 10,000 gain more."""


def implausible_gain(level: float, noise: float | None, jump: float) -> float:
    """Return the largest plausible gain of one idea on a score of `level`: `jump` is `[judge] suspicious_jump`."""
    return max(jump * abs(level), MOST_GAIN * (noise or 0.0))


def is_tip_known(session: Session) -> bool:
    """Whether the code at the tip of the branch has a score, as far as the journal knows the tip."""
    return not session.tip or any(
        e.commit == session.tip and e.verdict is Verdict.KEEP for e in session.experiments
    )


def is_measured_tip(experiment: Experiment) -> bool:
    """Whether it measures a commit that stands already: the baseline, a revert, a commit made by hand."""
    return (
        experiment.number == 0
        or experiment.proposer == "baseline"
        or (experiment.commit == experiment.parent and experiment.commit != "")
    )


CORRELATION_PSEUDO_PAIRS = 4.0
"""Pairs of repeats the correlation is shrunk with towards 0, which is the careful side."""
MAX_CORRELATION = 0.9


@dataclass(frozen=True)
class Noise:
    """Luck between trials of the same code."""

    sd: float
    """Best guess in units of the metric."""
    low: float
    high: float
    """Central 90 % range of the guess."""


def trial_seed(session_seed: int, index: int) -> int:
    """Return the seed of the trial `index` of any experiment: the same for all, so that luck cancels."""
    return _derive("trial", session_seed, index)


def confirm_seed(session_seed: int, index: int) -> int:
    """Return the seed of pair `index` of confirmations: never one that a trial of the loop used."""
    used = {trial_seed(session_seed, i) for i in range(64)}
    seed = _derive("confirm", session_seed, index)
    while seed in used:
        seed += 1
    return seed


def _derive(stream: str, session_seed: int, index: int) -> int:
    digest = hashlib.sha256(f"{stream}:{session_seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def setup_of(session: Session, experiment: Experiment | None = None) -> str:
    """Return the key of the setup whose numbers count now; that of an experiment where no run began."""
    if session.setup is not None:
        return session.setup.key
    known = experiment or next(iter(session.experiments), None)
    return known.setup if known is not None else ""


def good_results(experiment: Experiment, setup: str) -> list[TrialResult]:
    """Return the results of the trials that count, in order."""
    return [t.result for t in good_trials(experiment, setup)]


def scores_of(trials: Sequence[TrialResult]) -> list[float]:
    """Return the loss of each good trial."""
    return [t.loss for t in trials if t.loss is not None]


def split_at_verdict(
    experiment: Experiment, trials: list[Trial]
) -> tuple[list[Trial], list[Trial]]:
    """Return the trials the verdict rests on, and those run later as sentinels.

    By the number of trials the verdict names, else by the clock.
    """
    judged = experiment.judged_at
    known = experiment.decision.num_trials if experiment.decision is not None else 0
    if known and all(t.setup == experiment.setup for t in trials):
        return trials[:known], trials[known:]
    now = [t for t in trials if not judged or t.started_at <= judged] or trials[:1]
    return now, trials[len(now) :]


def residual_squares(session: Session, setup: str) -> tuple[float, float]:
    """Return the sum of squares of repeats about their means, and its degrees of freedom.

    The first trial of anything but the baseline is left out where there are repeats: it is why there are
    repeats, so it is lucky more often than not. Trials after the verdict are left out, because the machine may
    have drifted since. What the audits added is taken off.
    """
    squares = degrees = 0.0
    for experiment in session.experiments:
        counted = good_trials(experiment, setup)
        trials = [t.result for t in split_at_verdict(experiment, counted)[0]]
        if not is_measured_tip(experiment):
            trials = trials[1:]
        if len(trials) < 2:
            continue
        scores = scores_of(trials)
        audit = fmean(audit_variance(t) for t in trials)
        own = (len(scores) - 1) * (variance(scores) - audit)
        squares += max(own, 0.0)
        degrees += len(scores) - 1
    return squares, degrees


def seed_correlation(session: Session, setup: str) -> float:
    """Return how much of the luck two experiments share on the same seed.

    Differences between the same two seeds, taken within two experiments, agree where luck belongs to the
    seed. Shrunk towards 0 while such pairs are few.
    """
    by_number = {
        e.number: {t.seed: t.score for t in good_results(e, setup) if t.score is not None}
        for e in session.experiments
    }
    repeated = {n: s for n, s in by_number.items() if len(s) > 1}
    products = norm = pairs = 0.0
    for a, first in repeated.items():
        for b, second in repeated.items():
            shared = sorted(first.keys() & second.keys()) if a < b else []
            for i, j in itertools.pairwise(shared):
                x, y = first[i] - first[j], second[i] - second[j]
                products += x * y
                norm += 0.5 * (x * x + y * y)
                pairs += 1
    if norm <= 0:
        return 0.0
    value = products / norm * pairs / (pairs + CORRELATION_PSEUDO_PAIRS)
    return min(max(value, 0.0), MAX_CORRELATION)


def audit_variance(trial: TrialResult) -> float:
    """Return the variance the audit adds to a score, in squared units of the metric."""
    return (trial.score_se or 0.0) ** 2


def with_cases(noise: float, trials: Sequence[TrialResult]) -> float:
    """Return the noise together with what means over cases err by; the noise alone where there are no cases."""
    errors = [audit_variance(trial) for trial in trials if NUM_CASES in trial.extra]
    return math.sqrt(noise**2 + fmean(errors)) if errors else noise
