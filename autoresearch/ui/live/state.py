"""The live state of a session, kept up to date from events, for every display."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from autoresearch.decision.scores import find
from autoresearch.events import (
    Abandoned,
    Event,
    Phase,
    Progress,
    Proposed,
    SessionEnded,
    SessionStarted,
    Spent,
    TrialJudged,
    VerdictGiven,
)
from autoresearch.types import Experiment, Reason, Session, State, Usage, Verdict
from autoresearch.ui.text import clean

MAX_LOSSES = 600
"""Points of the running loss curve that are kept."""


@dataclass
class Idea:
    """What is known of one experiment of this session."""

    number: int
    description: str = ""
    lines_added: int = 0
    lines_removed: int = 0
    scores: list[float] = field(default_factory=list)
    num_trials: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Finished:
    """One line about a judged experiment."""

    number: int
    verdict: str
    reason: str
    description: str
    val_bpb: float | None
    delta: float | None
    p_real: float | None
    seconds: float | None


@dataclass
class Tally:
    """State of the session as far as events show it."""

    ideas: dict[int, Idea] = field(default_factory=dict)
    num_by_verdict: dict[str, int] = field(default_factory=dict)
    """Without those that were too slow."""
    num_too_slow: int = 0
    best: int = 0
    best_bpb: float | None = None
    cost_usd: float | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    """When this run began, monotonic."""
    current: int | None = None
    """The experiment under trial."""
    progress: Progress | None = None
    progress_at: float = 0.0
    losses: list[float] = field(default_factory=list)
    phase: Phase | None = None
    """What the lab does, proposing apart."""
    phase_at: float = 0.0
    proposing: Phase | None = None
    proposing_at: float = 0.0
    waiting: list[int] = field(default_factory=list)
    """Proposed and not yet tried."""
    num_this_run: int = 0
    num_before: int = 0
    """Judged by the killed run that this one continues."""
    judged: list[int] = field(default_factory=list)
    """Numbers of the experiments that were judged before this run."""
    last_loss_seconds: float = -1.0
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def of(cls, session: Session, clock: Callable[[], float] = time.monotonic) -> "Tally":
        """Return the counters of a session as it stands."""
        tally = cls(clock=clock, started=clock())
        for e in session.experiments:
            tally.ideas[e.number] = _idea(e)
            if e.verdict is not None and e.number != 0:
                tally._count(e.verdict.value, e.reason)
                tally.judged.append(e.number)
            if e.state is State.PROPOSED:
                tally.waiting.append(e.number)
        best = find(session, session.best)
        tally.best, tally.best_bpb = session.best, best.val_bpb if best else None
        tally.cost_usd = session.usage.cost_usd
        return tally

    @property
    def num_done(self) -> int:
        """Judged experiments without the baseline."""
        return sum(self.num_by_verdict.values()) + self.num_too_slow

    def idea(self, number: int) -> Idea:
        """Return what is known of an experiment."""
        return self.ideas.setdefault(number, Idea(number, "baseline" if number == 0 else ""))

    def handle(self, event: Event | Progress | Phase) -> None:
        """Take an event into account."""
        if isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, Phase):
            self._phase(event)
        elif isinstance(event, SessionStarted):
            self.limits = event.limits
            first = event.limits.get("first_number")
            self.num_before = sum(first is not None and n >= first for n in self.judged)
        elif isinstance(event, Proposed):
            self._proposed(event)
        elif isinstance(event, TrialJudged):
            self._trial(event)
        elif isinstance(event, VerdictGiven):
            self._verdict(event)
        elif isinstance(event, Abandoned):
            self._no_longer_waiting(event.number)
        elif isinstance(event, Spent):
            self._spend(event.usage)
        elif isinstance(event, SessionEnded):
            self.current = self.progress = self.proposing = None

    def finished(self, event: VerdictGiven) -> Finished:
        """Return the line of a verdict that `handle` has seen."""
        idea = self.idea(event.number)
        decision = event.decision
        return Finished(
            number=event.number,
            verdict=event.verdict,
            reason=clean(event.reason),
            description=idea.description,
            val_bpb=sum(idea.scores) / len(idea.scores) if idea.scores else None,
            delta=decision.get("delta") if event.number else None,
            p_real=decision.get("p_real") if event.number else None,
            seconds=idea.seconds,
        )

    def _progress(self, event: Progress) -> None:
        is_other = (
            self.progress is None
            or self.progress.label != event.label
            or self.progress.number != event.number
        )
        if is_other:
            self.losses, self.last_loss_seconds = [], -1.0
        self.current, self.progress, self.progress_at = event.number, event, self.clock()
        self._no_longer_waiting(event.number)
        loss = event.point.loss if event.point else None
        if (
            loss is not None
            and event.point
            and event.point.seconds > self.last_loss_seconds
            and abs(loss) < float("inf")
        ):
            self.last_loss_seconds = event.point.seconds
            self.losses.append(loss)
            if len(self.losses) > MAX_LOSSES:
                self.losses = self.losses[::2]

    def _phase(self, event: Phase) -> None:
        if event.name == "propose":
            self.proposing, self.proposing_at = event, self.clock()
            return
        self.phase, self.phase_at = event, self.clock()
        if event.name in {"trial", "confirm"}:
            if event.number is not None:
                self.current = event.number
                self._no_longer_waiting(event.number)
            self.progress = None
        elif event.name == "wait":
            self.current = self.progress = None

    def _proposed(self, event: Proposed) -> None:
        idea = self.idea(event.number)
        idea.description = clean(event.description)
        idea.lines_added, idea.lines_removed = event.lines_added, event.lines_removed
        self.proposing = None
        self._spend(event.usage)
        if event.number not in self.waiting and event.number != self.current:
            self.waiting.append(event.number)

    def _trial(self, event: TrialJudged) -> None:
        idea = self.idea(event.number)
        result = event.result
        idea.num_trials += 1
        bpb = result.get("bpb")
        is_score = (
            result.get("outcome") == "ok" and result.get("split", "validation") == "validation"
        )
        if is_score and bpb is not None and not event.confirmation:
            idea.scores.append(bpb)
        seconds = result.get("total_seconds")
        if seconds is not None:
            idea.seconds = (idea.seconds or 0.0) + seconds
        self.progress = None

    def _verdict(self, event: VerdictGiven) -> None:
        self._no_longer_waiting(event.number)
        self.num_this_run += event.number != 0
        if event.number != 0:
            self._count(event.verdict, event.reason)
        idea = self.idea(event.number)
        if event.verdict == "keep" and idea.scores:
            self.best = event.number
            self.best_bpb = sum(idea.scores) / len(idea.scores)
        if self.current == event.number:
            self.current = self.progress = None

    def _no_longer_waiting(self, number: int) -> None:
        if number in self.waiting:
            self.waiting.remove(number)

    def _count(self, verdict: str, reason: str) -> None:
        if verdict == Verdict.CRASH and reason == Reason.SLOW:
            self.num_too_slow += 1
            return
        self.num_by_verdict[verdict] = self.num_by_verdict.get(verdict, 0) + 1

    def _spend(self, usage: Usage) -> None:
        if usage.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + usage.cost_usd


def _idea(experiment: Experiment) -> Idea:
    score = experiment.val_bpb
    return Idea(
        number=experiment.number,
        description=clean(experiment.description),
        lines_added=experiment.lines_added,
        lines_removed=experiment.lines_removed,
        scores=[score] if score is not None else [],
        num_trials=len(experiment.trials),
        seconds=experiment.total_seconds,
    )
