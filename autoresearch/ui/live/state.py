"""What the displays of a running session show: the session as recorded, and how far the present trial is."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite

from autoresearch.decision.scores import find
from autoresearch.events import (
    Event,
    Phase,
    Progress,
    Proposed,
    SessionEnded,
    TrialJudged,
    VerdictGiven,
)
from autoresearch.types import Experiment, Reason, Session, Verdict

MAX_LOSSES = 600
"""Points of the running loss curve that are kept."""


@dataclass
class LiveState:
    """The session as far as events and its record show it."""

    session: Session | None = None
    """As recorded; None for a single trial."""
    clock: Callable[[], float] = time.monotonic
    started: float = 0.0
    """When this run began, by `clock`."""
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
    request: str = ""
    """What another terminal asked for and is not done yet."""
    last_loss_seconds: float = -1.0
    num_before: int = 0
    """Experiments judged before this display began."""

    def __post_init__(self) -> None:
        self.started = self.clock()
        self.num_before = len(self.judged)

    @cached_property
    def judged(self) -> list[Experiment]:
        """Judged experiments without the baseline."""
        experiments = self.session.experiments if self.session else ()
        return [e for e in experiments if e.verdict is not None and e.number != 0]

    @property
    def num_this_run(self) -> int:
        """Experiments judged since this display began."""
        return len(self.judged) - self.num_before

    @cached_property
    def num_by_verdict(self) -> Counter[str]:
        """Experiments of this run, or of the killed one it continues, by verdict; `slow` those stopped for that."""
        first = self.session.limits.get("first_number", 0) if self.session else 0
        before = [e for e in self.judged[: self.num_before] if e.number >= first]
        return Counter(
            "slow" if (e.verdict, e.reason) == (Verdict.CRASH, Reason.SLOW) else str(e.verdict)
            for e in (*before, *self.judged[self.num_before :])
        )

    @cached_property
    def cost_usd(self) -> float | None:
        """What the proposals of the session cost, as far as prices are known."""
        return self.session.usage.cost_usd if self.session else None

    @property
    def away(self) -> str:
        """The proposer that cannot be had now, as its alert names it in backticks; empty for none."""
        alerts = self.session.alerts if self.session else ()
        about = {a.about: a.is_over for a in alerts if a.about.startswith("`")}
        return next((name for name, is_over in about.items() if not is_over), "")

    @property
    def waiting(self) -> list[Experiment]:
        """Proposed and not yet tried."""
        found = self.session.open if self.session else ()
        return [e for e in found if e.number != self.current and not e.trials]

    def experiment(self, number: int) -> Experiment | None:
        """Return an experiment of the session, if it is recorded."""
        return find(self.session, number) if self.session else None

    def handle(self, event: Event | Progress | Phase, session: Session | None = None) -> None:
        """Take an event into account, with the session as it is recorded then."""
        if session is not None:
            self.session = session
            for figure in ("judged", "num_by_verdict", "cost_usd"):
                vars(self).pop(figure, None)
        if isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, Phase):
            self._phase(event)
        elif isinstance(event, Proposed):
            self.proposing = None
        elif isinstance(event, SessionEnded):
            self.current = self.progress = self.proposing = None
        elif isinstance(event, TrialJudged):
            self.progress = None
        elif isinstance(event, VerdictGiven) and self.current == event.number:
            self.current = self.progress = None

    def _progress(self, event: Progress) -> None:
        before = self.progress
        if before is None or (before.label, before.number) != (event.label, event.number):
            self.losses, self.last_loss_seconds = [], -1.0
        self.current, self.progress, self.progress_at = event.number, event, self.clock()
        point = event.point
        if point is None or point.loss is None or not isfinite(point.loss):
            return
        if point.seconds > self.last_loss_seconds:
            self.last_loss_seconds = point.seconds
            self.losses.append(point.loss)
            if len(self.losses) > MAX_LOSSES:
                self.losses = self.losses[::2]

    def _phase(self, event: Phase) -> None:
        if event.name in ("plan", "request"):
            if event.name == "request":
                self.request = event.detail
            return
        if event.name == "propose":
            self.proposing, self.proposing_at = event, self.clock()
            return
        self.phase, self.phase_at = event, self.clock()
        if event.name in {"trial", "confirm"}:
            self.current = self.current if event.number is None else event.number
            self.progress = None
        elif event.name == "wait":
            self.current = self.progress = None
