"""Figures of a session that screens and reports show: progress, spending, alerts, what runs now.

What is measured here is arithmetic on what the record holds; whether a gain is real was decided by the keep rule and
is only repeated. Numbers of different setups are never subtracted: then a figure is None.
"""

import math
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from statistics import stdev
from typing import Any, Literal

from autoresearch.decision.confirmation import carried, further, headline, left_out
from autoresearch.decision.measuring import measuring_share
from autoresearch.decision.plateau import PLATEAU_PROBABILITY
from autoresearch.decision.scores import (
    comparable,
    find,
    good_trials,
    is_doubtful,
    is_measured_tip,
    is_tip_known,
)
from autoresearch.events import parse_time
from autoresearch.types import (
    REPORTED,
    Alert,
    Confirmation,
    Experiment,
    Metric,
    Session,
    State,
    Usage,
    Verdict,
)
from autoresearch.ui.conclusion import Conclusion, conclude, difference
from autoresearch.ui.text import decimals, numbers


@dataclass(frozen=True)
class Doing:
    """What a running session does at this moment, as it told other processes."""

    what: str
    """A phase of a trial (`train`, ...) or of the lab (`propose`, ...)."""
    number: int | None = None
    seconds: float | None = None
    """Since the phase began, up to now."""
    budget_seconds: float | None = None
    tokens_per_second: float | None = None
    memory_mb: float | None = None
    detail: str = ""
    request: str = ""
    """What another terminal asked for: `pause`, `stop`, `stop-now`."""


def doing(status: Mapping[str, Any] | None, now: datetime) -> Doing | None:
    """Return what a status file says, brought forward to `now`; None where it says nothing."""
    if not status:
        return None
    at = parse_time(str(status.get("at", "")))
    passed = max((now - at).total_seconds(), 0.0) if at else 0.0
    number = status.get("number")
    found = Doing(
        what=str(status.get("phase") or status.get("name") or ""),
        number=number if isinstance(number, int) else None,
        seconds=passed,
        detail=str(status.get("detail") or ""),
        request=str(status.get("request") or ""),
    )
    budget = status.get("budget_seconds")
    if status.get("type") != "progress" or not isinstance(budget, int | float):
        return found
    seconds = float(status.get("seconds") or 0.0) + passed
    return replace(
        found,
        seconds=min(seconds, budget) if found.what == "train" else seconds,
        budget_seconds=float(budget),
        tokens_per_second=status.get("tokens_per_second"),
        memory_mb=status.get("memory_mb"),
    )


def at_present(session: Session, now: Doing | None) -> Session:
    """Return the session with the experiment that is under trial, and no other, in state running.

    A running session that says nothing of itself is left as it is recorded.
    """
    if now is None and session.state == "running":
        return session
    number = now.number if now is not None and session.state == "running" else None
    states = {
        e.number: State.RUNNING if e.number == number else State.PROPOSED for e in session.open
    }
    if not states:
        return session
    experiments = tuple(
        replace(e, state=states[e.number]) if e.number in states else e for e in session.experiments
    )
    return replace(session, experiments=experiments)


Trajectory = Literal["new", "improving", "slow", "plateau", "stuck"]

STALL = 12
"""Experiments without a convincing keep after which a session is slow, or stalled where that probability is unknown."""


@dataclass(frozen=True)
class Step:
    """One standing keep on the way from the baseline to the best."""

    experiment: Experiment
    delta: float | None
    """Measured mean minus that of the step before, so that deltas add up; across setups as decided."""
    cumulative: float | None
    """Measured mean minus the baseline's, same setup."""
    left_out: Confirmation | None = None
    """The best with it against the best without it, where `confirm --each` tried that."""


@dataclass(frozen=True)
class Summary:
    """The figures that a session's screen, JSON and report begin with."""

    conclusion: Conclusion = field(default_factory=Conclusion)
    metric: Metric = field(default_factory=Metric)
    baseline_score: float | None = None
    best_score: float | None = None
    best: Experiment | None = None
    delta: float | None = None
    """Measured mean of the best minus that of the baseline; None across setups."""
    relative: float | None = None
    """`delta` as a share of the baseline."""
    trivial_score: float | None = None
    noise: float | None = None
    """Standard deviation between trials of the same code."""
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
    measuring_share: float | None = None
    """Of the trials' time, what went into the baseline, the incumbent again and re-tests."""
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
    """What needs the user."""
    next_command: str = ""
    next_note: str = ""

    @property
    def digits(self) -> int:
        """Decimals of scores and their differences, see `digits_of`."""
        return digits_of(self.noise, self.metric)


def summarize(
    session: Session, now: datetime | None = None, *, present: Doing | None = None
) -> Summary:
    """Return the summary of a session, up to `now` or as far as the record says; `present` is what it does then."""
    session = at_present(session, present)
    baseline = find(session, 0)
    best = find(session, session.best) or baseline
    pair = comparable(baseline, best, session) if baseline and best else None
    baseline_score = pair[0] if pair else (baseline.score if baseline else None)
    best_score = pair[1] if pair else (best.score if best else None)
    delta = pair[1] - pair[0] if pair else None
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
    noise = noise_of(session)
    estimate = sum(effects) if effects and len(effects) == len(kept) else None
    return Summary(
        metric=session.metric,
        conclusion=conclude(
            session,
            baseline,
            best,
            delta,
            estimate=estimate,
            digits=digits_of(noise, session.metric),
        ),
        baseline_score=baseline_score,
        best_score=best_score,
        best=best,
        delta=delta,
        relative=delta / baseline_score if delta is not None and baseline_score else None,
        trivial_score=session.trivial_score,
        noise=noise,
        num_tried=len(judged),
        num_by_verdict=num_by_verdict,
        num_by_reason={v: dict(c.most_common()) for v, c in by_reason.items()},
        num_kept=len(kept),
        num_reverted=sum(bool(e.reverted_by) for e in judged if e.verdict is Verdict.KEEP),
        keep_rate=num_by_verdict["keep"] / len(judged) if judged else None,
        num_real=sum(chances) if chances and len(chances) == len(kept) else None,
        doubtful=tuple(e.number for e in kept if is_doubtful(e)),
        estimate=estimate,
        confirmation=headline(session),
        further=further(session),
        wall_seconds=wall,
        gpu_seconds=gpu,
        seconds_by_kind=seconds,
        later_seconds=later_seconds(session, seconds),
        busy_share=min(gpu / wall, 1.0) if wall > 0 and gpu > 0 else None,
        measuring_share=measuring_share(session),
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


def digits_of(noise: float | None, metric: Metric) -> int:
    """Return the decimals of scores that the noise allows, at most those of the metric."""
    return min(decimals(noise), metric.decimals)


def noise_of(session: Session) -> float | None:
    """Return the noise the last decision used, else that of the baseline."""
    for e in reversed(session.experiments):
        if e.decision is not None and e.decision.noise is not None and e.number != 0:
            return e.decision.noise
    baseline = find(session, 0)
    scores = [t.result.score for t in good_trials(baseline) if t.result.score] if baseline else []
    return stdev(scores) if len(scores) > 1 else None


def num_since_gain(judged: Iterable[Experiment]) -> int:
    """Return how many experiments were judged since the last convincing keep."""
    since = 0
    for e in judged:
        convincing = e.verdict is Verdict.KEEP and not is_doubtful(e) and e.reason != "simpler"
        convincing = convincing and not (e.is_foreign and _is_no_step(e))
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
    steps: list[Step] = []
    alone = left_out(session)
    before: float | None = 0.0
    for e in session.kept:
        pair = comparable(baseline, e, session) if baseline else None
        total = pair[1] - pair[0] if pair else None
        delta = e.decision.delta if e.decision else None
        if total is not None and before is not None and not session.is_foreign:
            delta = total - before
        before = total
        steps.append(Step(e, delta, total, alone.get(e.number)))
    return tuple(steps)


def running_best(session: Session) -> list[tuple[int, float]]:
    """Return (number, score) of the baseline and of each standing keep: the staircase.

    Of a file of others only keeps that are better than what was kept before, by the baseline's setup.
    """
    baseline = find(session, 0)
    found = (baseline, *session.kept) if baseline else session.kept
    return [
        (e.number, e.score)
        for e in found
        if e.score is not None and not (session.is_foreign and e is not baseline and _is_no_step(e))
    ]


def _is_no_step(e: Experiment) -> bool:
    """Whether a kept row of a file of others is no gain over the best before it, or of a second comparison."""
    return e.setup != "" or e.decision is None or (e.decision.delta or 0.0) >= 0


def wall_seconds(session: Session, now: datetime | None) -> float:
    """Return the seconds the session ran; for a running one without a figure, up to `now`."""
    if session.state != "running" or session.wall_seconds > 0 or now is None:
        return session.wall_seconds
    started = parse_time(session.started_at)
    return max((now - started).total_seconds(), 0.0) if started else 0.0


def seconds_by_kind(session: Session) -> dict[str, float]:
    """Return seconds by `types.Busy` kind; from the trials where no run has ended yet."""
    total: dict[str, float] = defaultdict(float)
    if session.busy:
        for stretch in session.busy:
            total[stretch.kind] += stretch.seconds
        return {kind: value for kind, value in total.items() if value}
    for e in session.experiments:
        for trial in e.trials:
            r = trial.result
            parts = (
                ("train", r.train_seconds),
                ("startup", r.startup_seconds),
                ("judge", (r.submit_seconds or 0.0) + (r.judge_seconds or 0.0)),
            )
            for kind, value in parts:
                total[kind] += value or 0.0
    return {kind: value for kind, value in total.items() if value}


def confirm_seconds(session: Session) -> float:
    """Return the seconds all trials of confirmations took."""
    return sum(
        t.result.total_seconds or 0.0
        for e in session.experiments
        for t in e.trials
        if t.confirmation
    )


def later_seconds(session: Session, by_kind: Mapping[str, float]) -> float:
    """Return the seconds of confirmations that are in no run: what `by_kind` of the runs leaves."""
    if not session.busy:
        return 0.0
    return max(confirm_seconds(session) - by_kind.get("confirm", 0.0), 0.0)


def lost_seconds(judged: Iterable[Experiment]) -> dict[str, float]:
    """Return what crashes and broken rules cost, by reason, largest first."""
    total: dict[str, float] = defaultdict(float)
    for e in judged:
        if e.verdict in {Verdict.CRASH, Verdict.INVALID}:
            total[e.reason] += e.total_seconds or 0.0
    return dict(sorted(total.items(), key=lambda item: -item[1]))


RECENT = 20
"""Experiments that alerts look back on."""
MEMORY_GROWTH = 0.1
"""Growth of peak memory from the baseline to the best, from which an alert is shown."""
DRIFT = 0.03
"""Relative difference in tokens/s between long trials of the same code, from which an alert is shown."""
JITTER_SECONDS = 0.35
"""What a quiet machine may take from one trial and not from another: much of a trial of five seconds."""


def marks(
    session: Session, baseline: Experiment | None, best: Experiment | None
) -> tuple[str, ...]:
    """Return what limits the trust in the numbers of a session."""
    found = []
    if session.is_unsafe:
        found.append("unsafe: some trials ran without a sandbox")
    if session.is_validation_visible:
        found.append("validation visible: this text source can be read inside the sandbox")
    if session.data.get("source") == REPORTED:
        found.append(f"score: {REPORTED}, and nothing checks it")
    if len(session.setups) > 1:
        found.append(f"{len(session.setups)} setups: numbers are compared only within one")
    if any("is_text_seen" in t.result.extra for e in session.experiments for t in e.trials):
        found.append(
            "the test split is used up: later confirmations are on text that earlier ones saw"
        )
    before = baseline.peak_memory_mb if baseline else None
    after = best.peak_memory_mb if best else None
    if before and after and baseline and best and baseline.setup == best.setup:
        growth = after / before - 1
        if growth > MEMORY_GROWTH:
            found.append(f"the best needs {growth:.0%} more memory than the baseline")
    return tuple(found)


def alerts(session: Session, judged: list[Experiment]) -> tuple[Alert, ...]:
    """Return what needs the user: the lab's own alerts, newest first, then what the record shows."""
    found: list[Alert] = []
    seen: set[str] = set()
    confirmed_at = max((c.at for c in session.confirmations), default="")
    undone = {f"autoresearch revert {e.number}" for e in session.experiments if e.reverted_by}
    for alert in reversed(session.alerts):
        is_confirmed = alert.command.startswith("autoresearch confirm") and alert.at < confirmed_at
        words = {alert.text, alert.about} - {""}
        is_old = not words.isdisjoint(seen)
        seen |= words
        is_over = alert.is_over or is_confirmed or alert.command in undone
        if not (is_old or is_over):
            found.append(alert)
    at = session.ended_at or session.started_at
    found = unconfirmed(session) + found
    if session.best and session.state != "running" and not is_tip_known(session):
        text = f"the branch has changed since #{session.best}: its code was not measured yet"
        found.insert(0, Alert(text, at, "autoresearch run"))
    if session.state == "dead":
        found.insert(0, Alert("the lab died without an end record", at, resume_command(session)))
    found = [
        Alert(
            f"#{e.number} would be kept and is held for you, because it takes off more than ideas do: see"
            f" `autoresearch show {e.number}`; drop it with `autoresearch reject {e.number}`, or keep it",
            e.judged_at,
            f"autoresearch approve {e.number}",
        )
        for e in judged
        if e.verdict is Verdict.HELD
    ] + found
    recent = judged[-RECENT:]
    crashes = Counter(e.reason for e in recent if e.verdict is Verdict.CRASH)
    for reason, number in crashes.items():
        if number >= 3 and not session.is_foreign:
            what = f"crashed with {reason}" if reason != "slow" else "were stopped: too slow"
            lost = lost_seconds(e for e in recent if e.reason == reason)[reason] / number
            text = (
                f"{number} of the last {len(recent)} experiments {what}"
                f" (about {lost:.0f} s lost each)"
            )
            found.append(Alert(text, at, f"autoresearch log --verdict crash -n {RECENT}"))
    budget = session.setup.budget_seconds if session.setup else 300.0
    drift = DRIFT + JITTER_SECONDS / budget
    for e in session.experiments:
        speeds = [
            t.result.tokens_per_second
            for t in good_trials(e)
            if t.result.tokens_per_second is not None
        ]
        if len(speeds) > 1 and max(speeds) > min(speeds) * (1 + drift):
            text = (
                f"trials of #{e.number}, same code, differ by"
                f" {max(speeds) / min(speeds) - 1:.0%} in tokens/s, as on a shared machine"
            )
            found.append(Alert(text, at, "autoresearch doctor"))
            break
    return tuple(found)


def unconfirmed(session: Session) -> list[Alert]:
    """Return what the confirmations of the present best say against it, and what to type about it."""
    found = []
    best = headline(session)
    if best is not None and best.is_alarm:
        text = "the gain on validation does not carry over to unseen data; find the keeps that do"
        found.append(Alert(text, best.at, "autoresearch confirm --each"))
    elif best is not None and best.is_harm:
        text = (
            f"#{best.candidate} is worse than the baseline on unseen data; find out which keep is"
        )
        found.append(Alert(text, best.at, "autoresearch confirm --each"))
    idle = {n: c for n, c in left_out(session).items() if carried(c) == "does not"}
    if len(idle) == 1:
        number, c = next(iter(idle.items()))
        text = (
            f"#{number} does not carry the gain: with it the best measures {difference(c)}"
            " on unseen data"
        )
        found.append(Alert(text, c.at, f"autoresearch revert {number}"))
    elif idle:
        newest = max(idle)
        which = numbers(list(idle))
        text = f"{len(idle)} kept changes do not carry the gain ({which}); undo the newest first"
        found.append(Alert(text, idle[newest].at, f"autoresearch revert {newest}"))
    return found


def resume_command(session: Session) -> str:
    """Return the command that resumes a session: its options, and what is left of its limits.

    `--experiments` of a run that was killed stays what it was, because the next run counts on from there; `--max-cost`
    counts the whole session.
    """
    limits = session.limits
    words = ["autoresearch", "run", "--tag", session.tag, *session.flags]
    seconds, number = limits.get("seconds") or 0.0, limits.get("experiments") or 0
    if seconds:  # also with `--until`, which by then may mean the next day
        left = seconds - session.wall_seconds + limits.get("seconds_before", 0.0)
        words += ["--hours", f"{max(math.ceil(left / 36), 1) / 100:.2f}"]
    if number:
        first = limits.get("first_number", 0) if session.ended_at else math.inf
        done = sum(e.number >= first and e.verdict is not None for e in session.experiments)
        words += ["--experiments", str(max(number - done, 1))]
    cost = limits.get("max_cost_usd")
    if cost and session.proposer != "search":
        words += ["--max-cost", f"{cost:g}"]
    return shlex.join(words)


def next_step(session: Session) -> tuple[str, str]:
    """Return the command to type next and what it gives; nothing for a file of others."""
    if session.is_foreign:
        return "", ""
    if session.state == "new" or not session.experiments:
        return "autoresearch run --hours 8", "measure the baseline and start"
    if session.state == "running":
        return "autoresearch log --watch", "follow it"
    if session.state == "paused":
        return "autoresearch resume", "continue the session"
    if session.state == "dead":
        return resume_command(session), "continue where the lab died"
    if session.state == "interrupted":
        return resume_command(session), "continue"
    if session.best and not is_tip_known(session):
        return "autoresearch run", "measure the branch as it is now, and continue"
    if session.kept and headline(session) is None and session.setup is not None:
        return "autoresearch confirm", "is it real: baseline and best on fresh seeds"
    if session.kept:
        added = sum(e.lines_added for e in session.kept)
        removed = sum(e.lines_removed for e in session.kept)
        return "autoresearch diff baseline best", f"+{added} -{removed} lines in the kept changes"
    return "autoresearch run", "continue"
