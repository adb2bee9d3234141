"""Scores of experiments: which trials count, which may be compared, and their noise."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

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


def audit_variance(trial: TrialResult) -> float:
    """Return the variance the audit adds to a score, in squared units of the metric."""
    return (trial.score_se or 0.0) ** 2


LOAD = "load"
"""Key in `TrialResult.extra`: what others took of the machine while it trained, as shares of the cores' time."""
LOADS = ("stolen", "others")
"""What stands under it: a host's and other programs' part."""


def pace_of(trial: TrialResult) -> dict[str, float]:
    """Return the log of what each load left of the machine, 0 or below; empty where nothing was counted.

    A record may come from elsewhere, so a share is taken for at most nine tenths, and what is no number for none.
    """
    load = trial.extra.get(LOAD)
    shares = {name: load.get(name) for name in LOADS} if isinstance(load, dict) else {}
    return {
        name: math.log1p(-min(max(float(share), 0.0), 0.9))
        for name, share in shares.items()
        if isinstance(share, int | float) and math.isfinite(share)
    }


def with_cases(noise: float, trials: Sequence[TrialResult]) -> float:
    """Return the noise together with what means over cases err by; the noise alone where there are no cases."""
    errors = [audit_variance(trial) for trial in trials if NUM_CASES in trial.extra]
    return math.sqrt(noise**2 + fmean(errors)) if errors else noise
