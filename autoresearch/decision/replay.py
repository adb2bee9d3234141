"""What a session knows: its record read once, in order, into the posterior.

Pure: reads `types.Session`, returns numbers.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from autoresearch.decision.normal import Floats
from autoresearch.decision.posterior import (
    Effect,
    Knowledge,
    NoiseGrid,
    default_prior,
    noise_grid,
    start,
)
from autoresearch.decision.scores import (
    Noise,
    audit_variance,
    good_results,
    good_trials,
    is_measured_tip,
    residual_squares,
    scores_of,
    seed_correlation,
    setup_of,
    split_at_verdict,
    with_cases,
)
from autoresearch.types import (
    NUM_CASES,
    Experiment,
    Reason,
    Session,
    State,
    Trial,
    TrialResult,
    Verdict,
)

_RECENT = 9
"""Experiments, the latest, by whose trials is said what a mean over cases errs by."""
CLEAR_SHARE = 0.5
"""Part of the noise that a gain must exceed to count as a find."""


@dataclass(frozen=True)
class Estimate:
    """What is believed of one experiment, for the ladder and the proposer."""

    number: int
    p_real: float | None
    """Probability that it improves on the incumbent of its time; None for the baseline."""
    p_clear: float | None
    """Probability that it improves by more than half the noise."""
    effect: float
    """Posterior mean against the incumbent of its time, in units of the metric."""
    level: float | None = None
    """Posterior mean of its true score; kept experiments and the baseline only."""
    level_sd: float | None = None


@dataclass(frozen=True)
class Fold:
    """The session read once, in order."""

    knowledge: Knowledge
    incumbent: int
    """Number of the experiment whose level is known."""
    seeds: Mapping[int, int]
    """Seed -> its index in the knowledge; seeds used once are missing."""
    estimates: Mapping[int, Estimate]
    noise: Noise

    def effect(self, trials: Sequence[TrialResult]) -> Effect:
        """Return what trials of a candidate say of its effect on the incumbent."""
        return self.knowledge.effect(*sample(trials, self.seeds))

    def where_stands(self, experiment: Experiment, setup: str) -> "Fold":
        """Return the same with this experiment as the incumbent, by its own trials and all else learned."""
        if experiment.number == self.incumbent:
            return self
        own = sample(good_results(experiment, setup), self.seeds)
        return replace(self, incumbent=experiment.number, knowledge=_measured(self.knowledge, own))


class Sample(NamedTuple):
    """Trials of one experiment in the form the posterior takes."""

    scores: Floats
    seeds: tuple[int, ...]
    audit: Floats
    is_by_cases: bool


def sample(trials: Sequence[TrialResult], seeds: Mapping[int, int]) -> Sample:
    """Turn trials into arrays; a seed that no other trial has gets index -1."""
    return Sample(
        np.array(scores_of(trials)),
        tuple(seeds.get(t.seed, -1) for t in trials),
        np.array([audit_variance(t) for t in trials]),
        any(NUM_CASES in t.extra for t in trials),
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
    number = candidate.number if candidate is not None else None
    steps = _history(session, setup, number)
    if not steps:
        return None
    counts = Counter(t.result.seed for _, trials in steps for t in trials)
    counts.update(t.seed for t in (good_results(candidate, setup) if candidate is not None else ()))
    seeds = {s: i for i, s in enumerate(sorted(s for s, n in counts.items() if n > 1))}
    walk = _Walk(_place(session, setup, steps[0][1]), seeds, steps[0])
    for experiment, trials in steps[1:]:
        walk.step(experiment, trials)
    return walk.end()


def _history(
    session: Session, setup: str, without: int | None
) -> list[tuple[Experiment, list[Trial]]]:
    """Return judged experiments with their trials that count, from the first that stood."""
    steps = []
    for experiment in session.experiments:
        is_judged = experiment.state is State.JUDGED or is_measured_tip(experiment)
        is_scored = experiment.verdict in (None, Verdict.KEEP, Verdict.DISCARD)
        trials = good_trials(experiment, setup)
        is_scored = is_scored and experiment.reason != Reason.REJECTED  # it may be no true score
        if experiment.number != without and is_judged and is_scored and trials:
            steps.append((experiment, trials))
    steps = _as_judged(steps)
    stood = [i for i, (e, _) in enumerate(steps) if is_measured_tip(e) or e.verdict is Verdict.KEEP]
    return steps[stood[0] :] if stood else []


def _as_judged(
    steps: Sequence[tuple[Experiment, list[Trial]]],
) -> list[tuple[Experiment, list[Trial]]]:
    """Put steps in the order of their verdicts: by number, but none before the one it was made from.

    A tip that moved while proposals waited is measured first, under a higher number than theirs, and a keep that
    was held came after all that was tried on the same parent. The clock is not asked: it may be set back.
    """
    last = {experiment.parent: experiment.number for experiment, _ in steps}

    def place(step: tuple[Experiment, list[Trial]]) -> tuple[int, bool]:
        number, was_held = step[0].number, step[0].is_approved
        return max(number, last[step[0].parent]) if was_held else number, was_held

    to_come = {experiment.commit for experiment, _ in steps}
    held: dict[str, list[tuple[Experiment, list[Trial]]]] = {}
    ordered = []

    def take(step: tuple[Experiment, list[Trial]]) -> None:
        ordered.append(step)
        to_come.discard(step[0].commit)
        for follower in held.pop(step[0].commit, ()):
            take(follower)

    for step in sorted(steps, key=place):
        parent = step[0].parent
        if parent in to_come and parent != step[0].commit:
            held.setdefault(parent, []).append(step)
        else:
            take(step)
    return ordered


class _Walk:
    """Goes through the experiments in order; the incumbent's later trials come at their own time."""

    def __init__(
        self,
        grid: NoiseGrid,
        seeds: Mapping[int, int],
        first: tuple[Experiment, list[Trial]],
    ) -> None:
        experiment, trials = first
        self.seeds = seeds
        self.estimates: dict[int, Estimate] = {}
        self.knowledge = start(
            grid, default_prior(grid), np.array(scores_of([trials[0].result])[0]), len(seeds)
        )
        self.commits: dict[str, tuple[Experiment, list[Trial]]] = {}
        self._measure(experiment, trials)

    def _measure(self, experiment: Experiment, trials: list[Trial]) -> None:
        """Take a commit that stands already as the incumbent, by its own trials."""
        now, self.later = split_at_verdict(experiment, trials)
        own = sample([t.result for t in now], self.seeds)
        self.knowledge = _measured(self.knowledge, own)
        self._stand(experiment, trials, None)

    def _stand(self, experiment: Experiment, trials: list[Trial], effect: Effect | None) -> None:
        self.incumbent, number = experiment, experiment.number
        self.commits[experiment.commit] = (experiment, trials)
        found = Estimate(number, None, None, 0.0)
        if effect is not None:
            found = estimate_of(number, effect, float(self.knowledge.noise))
        self.estimates[number] = self._with_level(found)

    def _with_level(self, estimate: Estimate) -> Estimate:
        """Return the incumbent's estimate with what is known of its level now."""
        level, level_sd = float(self.knowledge.level), float(self.knowledge.level_sd)
        return replace(estimate, level=level, level_sd=level_sd)

    def step(self, experiment: Experiment, trials: list[Trial]) -> None:
        """Take in one judged experiment."""
        back = self.commits.get(experiment.parent)
        if is_measured_tip(experiment):
            self._measure(experiment, trials)
            return
        if self.incumbent.reverted_by and back is not None and back[0] is not self.incumbent:
            self._measure(*back)
        self._sentinels(trials[0].started_at)
        now, later = split_at_verdict(experiment, trials)
        own = sample([t.result for t in now], self.seeds)
        effect = self.knowledge.effect(*own)
        is_kept = experiment.verdict is Verdict.KEEP
        self.knowledge = self.knowledge.absorb(*own[:3], effect, is_kept)
        if is_kept:
            self.later = later
            self._stand(experiment, trials, effect)
        else:
            noise = float(self.knowledge.noise)
            self.estimates[experiment.number] = estimate_of(experiment.number, effect, noise)

    def _sentinels(self, before: str | None) -> None:
        """Take in the incumbent's own trials that ran before the given time."""
        due = [t for t in self.later if before is None or t.started_at < before]
        for trial in due:
            own = sample([trial.result], self.seeds)
            self.knowledge = self.knowledge.observe_later(*own[:3])
        self.later = self.later[len(due) :]

    def end(self) -> Fold:
        """Return what is known now."""
        self._sentinels(None)
        number = self.incumbent.number
        self.estimates[number] = self._with_level(self.estimates[number])
        return Fold(self.knowledge, number, self.seeds, self.estimates, _noise(self.knowledge))


def estimate_of(number: int, effect: Effect, noise: float) -> Estimate:
    """Return what is believed of a candidate by its effect alone."""
    p_clear = float(effect.below(-CLEAR_SHARE * noise))
    return Estimate(number, float(effect.below(0.0)), p_clear, float(effect.mean))


def _measured(knowledge: Knowledge, own: Sample) -> Knowledge:
    """Return what is known once these trials alone tell the level."""
    return knowledge.forget_level(float(own.scores[0])).observe(*own[:3])


def estimates(session: Session) -> dict[int, Estimate]:
    """Return what is believed of every measured experiment of the current setup, by number."""
    setup = setup_of(session)
    fold = read(session, setup)
    return dict(fold.estimates) if fold is not None else {}


def measure_noise(session: Session) -> Noise:
    """Return the noise of the session's current setup with its uncertainty."""
    setup = setup_of(session)
    fold = read(session, setup)
    if fold is not None:
        trials = [t for e in session.experiments[-_RECENT:] for t in good_results(e, setup)]
        parts = (fold.noise.sd, fold.noise.low, fold.noise.high)
        return Noise(*(with_cases(part, trials) for part in parts))
    grid = _place(session, setup, ())
    return _noise(start(grid, default_prior(grid), np.array(0.0), 0))


def _place(session: Session, setup: str, trials: Sequence[Trial]) -> NoiseGrid:
    squares, degrees = residual_squares(session, setup)
    correlation = seed_correlation(session, setup)
    score = next(iter(scores_of([t.result for t in trials])), 1.0)
    return noise_grid(np.array(squares), np.array(degrees), np.array(correlation), np.array(score))


def _noise(knowledge: Knowledge) -> Noise:
    return Noise(
        sd=float(knowledge.noise),
        low=knowledge.noise_quantile(0.05),
        high=knowledge.noise_quantile(0.95),
    )
