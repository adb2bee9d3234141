"""The numbers of a session that screens and reports show: pure, from a `Session` alone.

What is measured here is arithmetic on what the record holds; whether a gain is real was decided by the keep rule and
is only repeated. Numbers of different setups are never subtracted: then a figure is None.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from autoresearch.decision.plateau import PLATEAU_PROBABILITY
from autoresearch.decision.scores import comparable, find, good_trials, is_doubtful, is_measured_tip
from autoresearch.decision.verified import further, headline, left_out
from autoresearch.types import Alert, Confirmation, Experiment, Session, State, Usage, Verdict
from autoresearch.ui.needs import alerts, marks, next_step
from autoresearch.ui.present import Doing, at_present
from autoresearch.ui.spending import later_seconds, lost_seconds, seconds_by_kind, wall_seconds

Trajectory = Literal["new", "improving", "slow", "plateau", "stuck"]

STALL = 12
"""Experiments without a convincing keep after which a session is slow, or stalled where that probability is unknown."""


@dataclass(frozen=True)
class Step:
    """One standing keep on the way from the baseline to the best."""

    experiment: Experiment
    delta: float | None
    """Against the incumbent it replaced, as decided."""
    cumulative: float | None
    """Measured mean minus the baseline's, same setup."""
    left_out: Confirmation | None = None
    """The best with it against the best without it, where `confirm --each` tried that."""


@dataclass(frozen=True)
class Summary:
    """What a person asks first in the morning."""

    baseline_bpb: float | None = None
    best_bpb: float | None = None
    best: Experiment | None = None
    delta: float | None = None
    """Measured mean of the best minus that of the baseline; None across setups."""
    relative: float | None = None
    """`delta` as a share of the baseline."""
    unigram_bpb: float | None = None
    noise: float | None = None
    """Standard deviation between trials of the same code."""
    num_noise_trials: int = 0
    num_tried: int = 0
    """Judged ideas: without the baseline and other commits that were measured as they stood."""
    num_by_verdict: Mapping[str, int] = field(default_factory=dict)
    num_by_reason: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Verdict -> reason -> count."""
    num_kept: int = 0
    """Keeps that stand."""
    num_reverted: int = 0
    keep_rate: float | None = None
    num_real: float | None = None
    """Expected number of standing keeps that are real: the sum of their probabilities."""
    doubtful: tuple[int, ...] = ()
    """Numbers of standing keeps with a probability below `DOUBTFUL`."""
    estimate: float | None = None
    """Sum of the posterior means of the standing keeps: the gain one should expect."""
    confirmation: Confirmation | None = None
    """The newest of the present best against the baseline: the headline."""
    further: tuple[Confirmation, ...] = ()
    """The newest of each other question about the present best: longer training, larger model, pairs."""
    wall_seconds: float = 0.0
    gpu_seconds: float = 0.0
    seconds_by_kind: Mapping[str, float] = field(default_factory=dict)
    later_seconds: float = 0.0
    """Spent on confirmations outside the runs; no part of `wall_seconds`."""
    busy_share: float | None = None
    lost_seconds: Mapping[str, float] = field(default_factory=dict)
    """Crash or invalid reason -> seconds of the GPU."""
    usage: Usage = field(default_factory=Usage)
    trajectory: Trajectory = "new"
    p_find: float | None = None
    """Probability that the next `PLATEAU_AHEAD` experiments bring a gain above half the noise."""
    num_since_gain: int = 0
    """Experiments judged since the last convincing keep (or the start)."""
    steps: tuple[Step, ...] = ()
    running: Experiment | None = None
    doing: Doing | None = None
    marks: tuple[str, ...] = ()
    """What limits the trust in these numbers, one sentence each."""
    alerts: tuple[Alert, ...] = ()
    """What needs a person."""
    next_command: str = ""
    next_note: str = ""


def summarize(
    session: Session, now: datetime | None = None, *, present: Doing | None = None
) -> Summary:
    """Return the summary of a session.

    Args:
        session: The fold of a journal.
        now: For the time a running session has taken; None: as far as the record says.
        present: What it does at this moment.
    """
    if present is not None or session.state != "running":
        session = at_present(session, present)
    baseline = find(session, 0)
    best = find(session, session.best) or baseline
    pair = comparable(baseline, best, session) if baseline and best else None
    baseline_bpb = pair[0] if pair else (baseline.val_bpb if baseline else None)
    best_bpb = pair[1] if pair else (best.val_bpb if best else None)
    delta = pair[1] - pair[0] if pair else None
    noise, num_noise = noise_of(session)
    ideas = [e for e in session.experiments if not is_measured_tip(e)]
    judged = [e for e in ideas if e.verdict is not None]
    kept = [e for e in session.kept if not is_measured_tip(e)]
    by_reason: dict[str, Counter[str]] = {}
    for e in judged:
        assert e.verdict is not None
        by_reason.setdefault(e.verdict.value, Counter())[e.reason] += 1
    num_by_verdict = {v.value: sum(by_reason.get(v.value, Counter()).values()) for v in Verdict}
    chances = [p for e in kept if (p := e.p_real) is not None]
    effects = [e.decision.estimate for e in kept if e.decision and e.decision.estimate is not None]
    wall = wall_seconds(session, now)
    seconds = seconds_by_kind(session)
    gpu = sum(seconds.get(kind, 0.0) for kind in ("train", "startup", "judge", "confirm"))
    since = num_since_gain(judged)
    chances_to_find = [e.decision.p_find for e in judged if e.decision]
    p_find = next((p for p in reversed(chances_to_find) if p is not None), None)
    running = next((e for e in session.experiments if e.state is State.RUNNING), None)
    command, note = next_step(session)
    return Summary(
        baseline_bpb=baseline_bpb,
        best_bpb=best_bpb,
        best=best,
        delta=delta,
        relative=delta / baseline_bpb if delta is not None and baseline_bpb else None,
        unigram_bpb=session.unigram_bpb,
        noise=noise,
        num_noise_trials=num_noise,
        num_tried=len(judged),
        num_by_verdict=num_by_verdict,
        num_by_reason={v: dict(c.most_common()) for v, c in by_reason.items()},
        num_kept=len(kept),
        num_reverted=sum(bool(e.reverted_by) for e in judged if e.verdict is Verdict.KEEP),
        keep_rate=num_by_verdict["keep"] / len(judged) if judged else None,
        num_real=sum(chances) if chances and len(chances) == len(kept) else None,
        doubtful=tuple(e.number for e in kept if is_doubtful(e)),
        estimate=sum(effects) if effects and len(effects) == len(kept) else None,
        confirmation=headline(session),
        further=further(session),
        wall_seconds=wall,
        gpu_seconds=gpu,
        seconds_by_kind=seconds,
        later_seconds=later_seconds(session, seconds),
        busy_share=min(gpu / wall, 1.0) if wall > 0 and gpu > 0 else None,
        lost_seconds=lost_seconds(judged),
        usage=session.usage,
        trajectory=trajectory(judged, since, p_find),
        p_find=p_find,
        num_since_gain=since,
        steps=ladder(session, baseline),
        running=running if session.state == "running" else None,
        doing=present,
        marks=marks(session, baseline, best),
        alerts=alerts(session, judged),
        next_command=command,
        next_note=note,
    )


def noise_of(session: Session) -> tuple[float | None, int]:
    """Return the noise the last decision used, else that of the baseline, and its number of trials."""
    baseline = find(session, 0)
    trials = good_trials(baseline) if baseline else []
    for e in reversed(session.experiments):
        if e.decision is not None and e.decision.noise is not None and e.number != 0:
            return e.decision.noise, len(trials)
    scores = [t.result.bpb for t in trials if t.result.bpb is not None]
    if len(scores) < 2:
        return None, len(scores)
    mean = sum(scores) / len(scores)
    return (sum((s - mean) ** 2 for s in scores) / (len(scores) - 1)) ** 0.5, len(scores)


def num_since_gain(judged: Iterable[Experiment]) -> int:
    """Return how many experiments were judged since the last convincing keep."""
    since = 0
    for e in judged:
        convincing = e.verdict is Verdict.KEEP and not is_doubtful(e) and e.reason != "simpler"
        since = 0 if convincing and not e.reverted_by else since + 1
    return since


def trajectory(judged: list[Experiment], since: int, p_find: float | None) -> Trajectory:
    """Name the trend.

    Where little is to be expected, `stuck` never had a convincing keep and `plateau` had one; elsewhere `slow` has
    waited for one for a while.
    """
    is_stalled = since >= STALL if p_find is None else p_find < PLATEAU_PROBABILITY
    if is_stalled:
        return "plateau" if len(judged) > since else "stuck"
    if since >= STALL:
        return "slow"
    return "improving" if len(judged) > since else "new"


def ladder(session: Session, baseline: Experiment | None) -> tuple[Step, ...]:
    """Return the standing keeps in order with their gains."""
    steps = []
    alone = left_out(session)
    for e in session.kept:
        delta = e.decision.delta if e.decision else None
        pair = comparable(baseline, e, session) if baseline else None
        steps.append(
            Step(
                experiment=e,
                delta=delta,
                cumulative=pair[1] - pair[0] if pair else None,
                left_out=alone.get(e.number),
            )
        )
    return tuple(steps)


def running_best(session: Session) -> list[tuple[int, float]]:
    """Return (number, val_bpb) of the baseline and of each standing keep: the staircase."""
    baseline = find(session, 0)
    found = (baseline, *session.kept) if baseline else session.kept
    return [(e.number, e.val_bpb) for e in found if e.val_bpb is not None]
