"""What a running session does at this moment, as it tells other processes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from autoresearch.types import Session, State


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


def doing(status: Mapping[str, Any] | None, now: datetime) -> Doing | None:
    """Return what a status file says, brought forward to `now`; None where it says nothing."""
    if not status:
        return None
    at = moment(str(status.get("at", "")))
    passed = max((now - at).total_seconds(), 0.0) if at else 0.0
    number = status.get("number")
    found = Doing(
        what=str(status.get("phase") or status.get("name") or ""),
        number=number if isinstance(number, int) else None,
        seconds=passed,
        detail=str(status.get("detail") or ""),
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
    """Return the session with the experiment that is under trial, and no other, in state running."""
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


def moment(text: str) -> datetime | None:
    """Return the time an ISO 8601 text names (UTC where it has no zone), or None."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
