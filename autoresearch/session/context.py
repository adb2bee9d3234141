"""What the parts of a loop share: its context, its clock, and its limits."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from autoresearch.config import Config
from autoresearch.errors import UsageError
from autoresearch.events import Alerted, Event, Phase, Progress
from autoresearch.paths import RunDirectory
from autoresearch.proposer.prefetch import Ahead
from autoresearch.record.record import Record
from autoresearch.rundir import control
from autoresearch.tasks.task import Executor
from autoresearch.types import Experiment, Session, Setup, Verdict


@dataclass(frozen=True)
class Limits:
    """What ends a run; the first one reached. 0 is no limit."""

    seconds: float = 0.0
    experiments: int = 0
    max_cost_usd: float = 0.0

    def seconds_left(self, elapsed_seconds: float, reserve_seconds: float = 0.0) -> float | None:
        """Return the time left for experiments, never negative; None without a limit."""
        if self.seconds <= 0:
            return None
        return max(0.0, self.seconds - reserve_seconds - elapsed_seconds)

    def cost_left(self, spent_usd: float) -> float | None:
        """Return the money left in US dollars, never negative; None without a limit."""
        if self.max_cost_usd <= 0:
            return None
        return max(0.0, self.max_cost_usd - spent_usd)


def limit_seconds(hours: float, until: str | None) -> float:
    """Return the seconds of the nearer of `--hours` and `--until` (local time); 0 where there is neither.

    Raises:
        UsageError: `until` is not `HH:MM`.
    """
    found = [hours * 3600] if hours > 0 else []
    if until is not None:
        now = datetime.now().astimezone()
        try:
            hour, minute = (int(part) for part in until.split(":"))
            then = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
        except ValueError as exc:
            raise UsageError(
                f"`--until` must be a time of day, got `{until}`",
                hint="for example `--until 07:00`",
            ) from exc
        found.append((then - now + timedelta(days=then <= now)).total_seconds())
    return min(found, default=0.0)


Emit = Callable[[Event | Progress | Phase], None]


@dataclass
class Clock:
    """Where the wall-clock time of this run went, in seconds by kind (see `types.Busy`)."""

    started: float = field(default_factory=time.monotonic)
    busy: dict[str, float] = field(default_factory=dict)

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started

    def add(self, kind: str, seconds: float | None) -> None:
        """Book `seconds` under `kind`; None books nothing."""
        if seconds:
            self.busy[kind] = self.busy.get(kind, 0.0) + seconds


class StopSeenError(Exception):
    """The stop event was seen; leaves the loop from wherever it is."""


@dataclass(frozen=True)
class Stop:
    """What ends a run and with which reason: a limit, a signal, or a request from another terminal."""

    run_directory: RunDirectory
    event: threading.Event
    """Set to end the session: the trial under way is stopped and will be repeated."""
    limits: Limits = Limits()
    first_number: int = 0
    """Number from which experiments count against the limit."""
    reserve_seconds: Callable[[Session], float] = lambda _: 0.0
    """Time the confirmation will need, kept free out of the hours."""
    clock: Clock = field(default_factory=Clock)

    @property
    def reason(self) -> str:
        """`stopped` after a request to stop, else `interrupted`."""
        asked = control.poll(self.run_directory)
        return "interrupted" if asked in (None, control.Request.PAUSE) else "stopped"

    def is_now(self) -> bool:
        """Whether the trial under way is to end."""
        if control.poll(self.run_directory) is control.Request.STOP_NOW:
            self.event.set()
        return self.event.is_set()

    def check(self) -> None:
        """Leave the loop if the trial under way is to end.

        Raises:
            StopSeenError: it is.
        """
        if self.is_now():
            raise StopSeenError

    def wait_while_paused(self, on_pause: Callable[[], None] = lambda: None) -> None:
        """Act on requests between two trials: wait while paused, set `event` if it is over."""
        is_paused = False
        while not self.event.is_set() and (asked := control.poll(self.run_directory)) is not None:
            if asked is not control.Request.PAUSE:
                self.event.set()
                return
            if not is_paused:
                on_pause()
            is_paused = True
            self.event.wait(control.LOOK_SECONDS)

    def seconds_left(self, session: Session) -> float | None:
        """Return the seconds left for experiments, the confirmation's kept free; None: no limit."""
        return self.limits.seconds_left(self.clock.elapsed, self.reserve_seconds(session))

    def cost_left(self, session: Session) -> float | None:
        """Return the US dollars left; None: no limit."""
        return self.limits.cost_left(session.usage.cost_usd or 0.0)

    def limit_reached(
        self, session: Session, budget_seconds: float, *, ahead: bool = False
    ) -> str | None:
        """Return the reason to start nothing more, None while there is none; `ahead`: to propose nothing more."""
        begun = sum(
            e.number >= self.first_number and e.commit != e.parent for e in session.experiments
        )
        most, is_idle = self.limits.experiments, ahead or not session.open
        if most and is_idle and begun >= most:
            return "experiments"
        left = self.seconds_left(session)
        if left is not None and left < trial_seconds(session, budget_seconds):
            return "hours"
        cost = self.cost_left(session)
        return "max_cost" if cost is not None and cost <= 0 and not session.open else None


@dataclass(frozen=True)
class Parts:
    """What a loop is made of."""

    config: Config
    record: Record
    executor: Executor
    ahead: Ahead
    """The proposer, asked from a separate thread."""
    setup: Setup
    hardware: dict[str, Any]
    emit: Emit
    stop: Stop
    confirm: Callable[[Session], object] | None = None
    """Called once at the end of a session that ran into a limit."""
    keep_caches: Callable[[str], None] = lambda _: None
    """Called with the label of the last trial of an experiment that is kept."""
    alerts: "queue.SimpleQueue[Alerted]" = field(default_factory=queue.SimpleQueue)
    """Alerts of other threads; recorded by the loop's thread."""

    def tell_alerts(self) -> None:
        """Record the alerts of other threads."""
        with contextlib.suppress(queue.Empty):
            while True:
                self.record.append(self.alerts.get_nowait())

    def phase(self, name: str, detail: str = "", number: int | None = None) -> None:
        """Show the current phase on the screen and to other processes."""
        phase = Phase(name=name, detail=detail, number=number)
        self.record.presence.tell(phase)
        self.emit(phase)

    def incumbent(self, session: Session) -> Experiment | None:
        """Return the judged experiment at the tip with a score under this setup; None if the tip was not measured."""
        tip = self.record.tip()
        for experiment in reversed(session.experiments):
            if (
                experiment.commit == tip
                and experiment.verdict is Verdict.KEEP
                and experiment.setup == self.setup.key
            ):
                return experiment
        return None


def next_number(session: Session) -> int:
    """Return the number the next experiment gets."""
    return max((e.number for e in session.experiments), default=-1) + 1


def trial_seconds(session: Session, budget_seconds: float) -> float:
    """Return what a trial takes from start to judged, as far as it is known."""
    known = session.trial_seconds
    return budget_seconds if known is None else known
