"""From the record to the posterior: which trials count, how noisy they are, what is known of the incumbent.

Pure: reads `types.Session`, returns numbers. Only good validation trials of one setup are ever looked at,
so numbers of different setups cannot meet.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoresearch.lab.posterior import (
    Effect,
    Knowledge,
    NoiseGrid,
    default_prior,
    noise_grid,
    start,
)
from autoresearch.types import Experiment, Session, State, TrialResult, Verdict

CORRELATION_PSEUDO_PAIRS = 4.0
"""Pairs of repeats the correlation is shrunk with towards 0, which is the careful side."""
MAX_CORRELATION = 0.9


@dataclass(frozen=True)
class Noise:
    """Luck between trials of the same code."""

    sd: float
    """Best guess in bpb."""
    low: float
    high: float
    """Central 90 % range of the guess."""
    degrees: float
    """Degrees of freedom it rests on: repeats beyond the first of each code. 0: the default."""
    correlation: float = 0.0
    """Share of the variance common to trials on the same seed."""


@dataclass(frozen=True)
class Estimate:
    """What is believed of one experiment, for the ladder and the proposer."""

    number: int
    p_real: float | None
    """Probability that it improves on the incumbent of its time; None for the baseline."""
    effect: float
    """Posterior mean against the incumbent of its time, in bpb."""
    low: float | None = None
    high: float | None = None
    """Central 90 % of the effect; kept experiments only."""
    level: float | None = None
    """Posterior mean of its true val_bpb; kept experiments and the baseline only."""
    level_sd: float | None = None


@dataclass(frozen=True)
class Fold:
    """The session read once, in order."""

    knowledge: Knowledge
    incumbent: int
    seeds: Mapping[int, int]
    """Seed -> its index in the knowledge; seeds used once are missing."""
    estimates: Mapping[int, Estimate]
    noise: Noise


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
    """Return the key of the setup whose numbers count now."""
    if session.setup is not None:
        return session.setup.key
    return experiment.setup if experiment is not None else ""


def good_trials(experiment: Experiment, setup: str) -> list[TrialResult]:
    """Return the results that count: scored, on validation, of `setup`, of the loop itself."""
    return [
        t.result
        for t in experiment.trials
        if t.result.ok
        and t.result.split == "validation"
        and not t.confirmation
        and t.setup == setup
    ]


def scores_of(trials: Sequence[TrialResult]) -> list[float]:
    """Return the bpb of each good trial."""
    return [t.bpb for t in trials if t.bpb is not None]


def mean_score(experiment: Experiment, setup: str) -> float | None:
    """Return the plain mean of the trials that count, None if there is none."""
    scores = scores_of(good_trials(experiment, setup))
    return sum(scores) / len(scores) if scores else None


def residual_squares(session: Session, setup: str) -> tuple[float, float]:
    """Return the sum of squares of repeats about their means, and its degrees of freedom.

    The first trial of anything but the baseline is left out where there are repeats: it is why there are
    repeats, so it is lucky more often than not. What the audits added is taken off.
    """
    squares = degrees = 0.0
    for experiment in session.experiments:
        trials = good_trials(experiment, setup)
        if experiment.number != 0:
            trials = trials[1:]
        if len(trials) < 2:
            continue
        scores = np.array(scores_of(trials))
        audit = float(np.mean([_audit_variance(t) for t in trials]))
        own = float(np.sum((scores - scores.mean()) ** 2)) - (len(scores) - 1) * audit
        squares += max(own, 0.0)
        degrees += len(scores) - 1
    return squares, degrees


def seed_correlation(session: Session, setup: str) -> float:
    """Return how much of the luck two experiments share on the same seed.

    Differences between the same two seeds, taken within two experiments, agree where luck belongs to the
    seed. Shrunk towards 0 while such pairs are few.
    """
    by_number = {
        e.number: {t.seed: t.bpb for t in good_trials(e, setup) if t.bpb is not None}
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


def measure_noise(session: Session) -> Noise:
    """Return the noise of the session's current setup with its uncertainty."""
    setup = setup_of(session, session.experiments[0] if session.experiments else None)
    fold = read(session, setup)
    if fold is not None:
        return fold.noise
    grid = _place(session, setup)
    return _noise(start(grid, default_prior(grid), np.array(0.0), 0), 0.0)


def _place(session: Session, setup: str) -> NoiseGrid:
    squares, degrees = residual_squares(session, setup)
    correlation = seed_correlation(session, setup)
    return noise_grid(np.array(squares), np.array(degrees), np.array(correlation))


def _noise(knowledge: Knowledge, degrees: float) -> Noise:
    return Noise(
        sd=float(knowledge.noise),
        low=knowledge.noise_quantile(0.05),
        high=knowledge.noise_quantile(0.95),
        degrees=degrees,
        correlation=float(knowledge.grid.correlation),
    )


def _audit_variance(trial: TrialResult) -> float:
    return (trial.audit_se or 0.0) ** 2


@dataclass(frozen=True)
class Sample:
    """Trials of one experiment in the form the posterior takes."""

    scores: np.ndarray
    seeds: tuple[int, ...]
    audit: np.ndarray


def sample(trials: Sequence[TrialResult], seeds: Mapping[int, int]) -> Sample:
    """Turn trials into arrays; a seed that no other trial has gets index -1."""
    return Sample(
        np.array(scores_of(trials)),
        tuple(seeds.get(t.seed, -1) for t in trials),
        np.array([_audit_variance(t) for t in trials]),
    )


def read(session: Session, setup: str, *, candidate: Experiment | None = None) -> Fold | None:
    """Read the session in order and return what is known of the incumbent.

    Args:
        session: The record.
        setup: Only trials of this setup count.
        candidate: An experiment under decision: left out of the history, its seeds are provided for.

    Returns:
        None if nothing has a score in this setup yet.
    """
    history = [
        e
        for e in sorted(session.experiments, key=lambda e: e.number)
        if (candidate is None or e.number != candidate.number)
        and (e.state is State.JUDGED or e.number == 0)
        and e.verdict in (None, Verdict.KEEP, Verdict.DISCARD)
    ]
    measured = [(e, good_trials(e, setup)) for e in history]
    measured = [(e, trials) for e, trials in measured if trials]
    first = next((i for i, (e, _) in enumerate(measured) if _stood(e)), None)
    if first is None:
        return None
    extra = good_trials(candidate, setup) if candidate is not None else []
    counts = Counter(t.seed for _, trials in measured for t in trials)
    counts.update(t.seed for t in extra)
    seeds = {s: i for i, s in enumerate(sorted(s for s, n in counts.items() if n > 1))}
    return _walk(measured[first:], _place(session, setup), seeds)


def _stood(experiment: Experiment) -> bool:
    return experiment.number == 0 or experiment.verdict is Verdict.KEEP


def _walk(
    measured: Sequence[tuple[Experiment, list[TrialResult]]],
    grid: NoiseGrid,
    seeds: Mapping[int, int],
) -> Fold:
    incumbent, trials = measured[0]
    kept = {incumbent.number: trials}
    commits = {incumbent.commit: incumbent}
    own = sample(trials, seeds)
    knowledge = start(grid, default_prior(grid), np.array(own.scores[0]), len(seeds))
    knowledge = knowledge.observe(own.scores, own.seeds, own.audit)
    estimates = {incumbent.number: _standing(incumbent.number, knowledge, None)}
    for experiment, trials in measured[1:]:
        back = commits.get(experiment.parent)
        if incumbent.reverted_by and back is not None and back.number != incumbent.number:
            incumbent = back
            knowledge = return_to(knowledge, kept[back.number], seeds)
        own = sample(trials, seeds)
        effect = knowledge.effect(own.scores, own.seeds, own.audit)
        is_kept = experiment.verdict is Verdict.KEEP
        knowledge = knowledge.absorb(own.scores, own.seeds, own.audit, effect, is_kept)
        if is_kept:
            incumbent = experiment
            kept[experiment.number] = trials
            commits[experiment.commit] = experiment
            estimates[experiment.number] = _standing(experiment.number, knowledge, effect)
        else:
            estimates[experiment.number] = Estimate(
                experiment.number, float(effect.below(0.0)), float(effect.mean)
            )
    repeats = sum(len(trials) - 1 for _, trials in measured)
    noise = _noise(knowledge, float(repeats))
    return Fold(knowledge, incumbent.number, dict(seeds), estimates, noise)


def return_to(
    knowledge: Knowledge, trials: Sequence[TrialResult], seeds: Mapping[int, int]
) -> Knowledge:
    """Return what is known when an earlier state stands again: its own trials, and all else learned."""
    own = sample(trials, seeds)
    return knowledge.forget_level(own.scores[0]).observe(own.scores, own.seeds, own.audit)


def _standing(number: int, knowledge: Knowledge, effect: Effect | None) -> Estimate:
    return Estimate(
        number=number,
        p_real=float(effect.below(0.0)) if effect is not None else None,
        effect=float(effect.mean) if effect is not None else 0.0,
        low=effect.quantile(0.05) if effect is not None else None,
        high=effect.quantile(0.95) if effect is not None else None,
        level=float(knowledge.level),
        level_sd=float(knowledge.level_sd),
    )


def estimates(session: Session) -> dict[int, Estimate]:
    """Return what is believed of every measured experiment of the current setup, by number."""
    setup = setup_of(session, session.experiments[0] if session.experiments else None)
    fold = read(session, setup)
    return dict(fold.estimates) if fold is not None else {}
