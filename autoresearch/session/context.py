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
from autoresearch.execution.base import Executor
from autoresearch.paths import RunDirectory
from autoresearch.proposer.prefetch import Ahead
from autoresearch.record.record import Record
from autoresearch.rundir import control
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


def seconds_until(time_of_day: str, now: datetime) -> float:
    """Return the seconds from `now` to the next `HH:MM` in local time.

    Raises:
        UsageError: `time_of_day` is not `HH:MM`.
    """
    try:
        hour, minute = (int(part) for part in time_of_day.split(":"))
        then = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    except ValueError as exc:
        raise UsageError(
            f"`--until` must be a time of day, got `{time_of_day}`",
            hint="for example `--until 07:00`",
        ) from exc
    if then <= now:
        then += timedelta(days=1)
    return (then - now).total_seconds()


def limit_seconds(hours: float, until: str | None) -> float:
    """Return the seconds of the nearer of `--hours` and `--until`; 0 where there is neither.

    Raises:
        UsageError: `until` is not `HH:MM`.
    """
    found = [hours * 3600] if hours > 0 else []
    if until is not None:
        found.append(seconds_until(until, datetime.now().astimezone()))
    return min(found, default=0.0)


Emit = Callable[[Event | Progress | Phase], None]


class StopSeenError(Exception):
    """The stop event was seen; leaves the loop from wherever it is."""


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


@dataclass(frozen=True)
class Parts:
    """What a loop is made of."""

    run_directory: RunDirectory
    config: Config
    record: Record
    executor: Executor
    ahead: Ahead
    """The proposer, asked from a separate thread."""
    setup: Setup
    hardware: dict[str, Any]
    limits: Limits
    emit: Emit
    stop: threading.Event
    """Set to end the session: the trial under way is stopped and will be repeated."""
    first_number: int = 0
    """Number from which experiments count against the limit."""
    confirm: Callable[[Session], object] | None = None
    """Called once at the end of a session that ran into a limit."""
    reserve_seconds: Callable[[Session], float] = lambda _: 0.0
    """Time the confirmation will need, kept free out of the hours."""
    keep_caches: Callable[[str], None] = lambda _: None
    """Called with the label of the last trial of an experiment that is kept."""
    clock: Clock = field(default_factory=Clock)
    alerts: "queue.SimpleQueue[Alerted]" = field(default_factory=queue.SimpleQueue)
    """Alerts of other threads; recorded by the loop's thread."""

    def tell_alerts(self) -> None:
        """Record the alerts of other threads."""
        with contextlib.suppress(queue.Empty):
            while True:
                self.append(self.alerts.get_nowait())

    def append(self, event: Event, commit: str | None = None) -> None:
        """Store a durable event; the record's listener shows it."""
        self.record.append(event, commit=commit)

    def phase(self, name: str, detail: str = "", number: int | None = None) -> None:
        """Show the current phase on the screen and to other processes."""
        phase = Phase(name=name, detail=detail, number=number)
        self.record.presence.tell(phase)
        self.emit(phase)

    def check_stop(self) -> None:
        """Leave the loop if it was asked to stop.

        Raises:
            StopSeenError: the stop event is set, or the user asked to stop at once.
        """
        control.check_now(self.run_directory, self.stop)
        if self.stop.is_set():
            raise StopSeenError

    def seconds_left(self, session: Session) -> float | None:
        """Return the seconds left for experiments, the confirmation's kept free; None: no limit."""
        return self.limits.seconds_left(self.clock.elapsed, self.reserve_seconds(session))

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
