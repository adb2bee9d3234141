"""What happens in a session: durable events for the journal, passing ones for the screen.

A durable event is one journal commit: its JSON is the commit message, its `files` the tree. `Session` is the
fold of the durable ones; what both hold is declared once, in `types`. Passing events (`Progress`, `Phase`) are never
stored.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from autoresearch.types import Alert, Candidate, CurvePoint, Metric, Run, SessionNote, Usage

SCHEMA = 2
TIME = "%Y-%m-%dT%H:%M:%SZ"
"""How times are written, in UTC."""


def now() -> str:
    """Return the time in UTC as ISO 8601 with seconds, `2026-03-01T22:04:11Z`."""
    return f"{datetime.now(UTC):{TIME}}"


def parse_time(text: str) -> datetime | None:
    """Return the time an ISO 8601 text names (UTC where it has no zone), or None."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of the durable events. Fields hold JSON values; `usage` is a `Usage`, `metric` a `Metric`."""

    type: ClassVar[str] = ""
    at: str = field(default_factory=now)

    def to_json(self) -> dict[str, Any]:
        """Return `{"v": 2, "type": ..., "at": ..., ...}`; absent numbers are left out."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        known = {name: value for name, value in fields.items() if value is not None}
        for name, value in known.items():
            if isinstance(value, Usage | Metric):
                known[name] = dataclasses.asdict(value)
        return {"v": SCHEMA, "type": self.type, "at": self.at, **known}


@dataclass(frozen=True, kw_only=True)
class SessionStarted(Event, Run):
    """`run` began: a new session, or a resumed one."""

    type: ClassVar[str] = "session_started"
    tag: str
    tip: str
    """Commit the branch pointed at."""
    setup: Mapping[str, Any]
    """Fields of `types.Setup`."""
    is_rebaseline: bool = False


@dataclass(frozen=True, kw_only=True)
class SessionEnded(Event):
    """`run` stopped, and why."""

    type: ClassVar[str] = "session_ended"
    reason: str
    """`hours`, `experiments`, `max_cost`, `proposer`, `stopped`, `interrupted`, `error`."""
    detail: str = ""
    wall_seconds: float = 0.0
    busy: Mapping[str, float] = field(default_factory=dict)
    """Seconds by kind, see `types.Busy`."""


@dataclass(frozen=True, kw_only=True)
class Proposed(Event, Candidate):
    """A proposal, stored before it runs so that a paid answer is never lost."""

    type: ClassVar[str] = "proposed"
    program: str = ""
    """Blob sha of the program.md the proposer saw; the blob itself is in the event's tree."""


@dataclass(frozen=True, kw_only=True)
class TrialJudged(Event):
    """A trial is over and has its numbers (or its crash)."""

    type: ClassVar[str] = "trial"
    number: int
    index: int
    """0 for the first trial of the experiment."""
    setup: str
    started_at: str
    result: Mapping[str, Any]
    """Fields of `types.TrialResult` less `curve` and `log_tail`, which are files of the event."""
    confirmation: str = ""
    purpose: str | None = None
    """A `types.Purpose`; None in records of earlier versions."""


@dataclass(frozen=True, kw_only=True)
class VerdictGiven(Event):
    """Keep, discard, crash or invalid, with every number it rests on."""

    type: ClassVar[str] = "verdict"
    number: int
    verdict: str
    reason: str
    commit: str = ""
    """The commit the branch moved to, for a keep."""
    decision: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `types.Decision`."""
    setup: str = ""
    displaced_by: str = ""
    """For a keep that could not go on the branch because that had moved: what the branch held, or `deleted`."""


@dataclass(frozen=True, kw_only=True)
class Abandoned(Event):
    """A proposal that will not be tried (`rebase_conflict`, `duplicate`)."""

    type: ClassVar[str] = "abandoned"
    number: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Approved(Event):
    """The user released a keep that was held; it gets another verdict."""

    type: ClassVar[str] = "approved"
    number: int


@dataclass(frozen=True, kw_only=True)
class Reopened(Event):
    """A discarded idea is tried once more; with the number the fields of `types.Doubt` less its places."""

    type: ClassVar[str] = "reopened"
    number: int
    p_real: float
    shift: float
    sd: float


@dataclass(frozen=True, kw_only=True)
class Confirmed(Event):
    """Fields of `types.Confirmation`."""

    type: ClassVar[str] = "confirmed"
    confirmation: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reverted(Event):
    """The user undid an experiment, or returned to a state."""

    type: ClassVar[str] = "reverted"
    numbers: list[int]
    """Experiments that no longer stand."""
    commit: str
    """The new tip."""
    to: str = ""
    restored: list[int] = field(default_factory=list)
    """Experiments that had been undone and stand again."""


@dataclass(frozen=True, kw_only=True)
class TipMoved(Event):
    """The branch holds a commit that is not ours: the user's own."""

    type: ClassVar[str] = "tip_moved"
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Noted(Event, SessionNote):
    """A line for the next proposal."""

    type: ClassVar[str] = "note"
    author: Literal["human", "agent"] = "human"


@dataclass(frozen=True, kw_only=True)
class NoteRemoved(Event):
    """A note of the user was taken back: no later request holds it."""

    type: ClassVar[str] = "note_removed"
    number: int
    """Its place, from 1, among the user's notes that stand."""


@dataclass(frozen=True, kw_only=True)
class Spent(Event):
    """A call to a provider that gave no proposal."""

    type: ClassVar[str] = "cost"
    usage: Usage
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Alerted(Event, Alert):
    """Something the user should know."""

    type: ClassVar[str] = "alert"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training is; at most a few per second. Never stored."""

    type: ClassVar[str] = "progress"
    number: int
    label: str
    phase: str
    """`startup`, `train`, `submit`, `claim`, `audit`."""
    seconds: float
    budget_seconds: float
    num_tokens: int = 0
    num_steps: int = 0
    tokens_per_second: float | None = None
    memory_mb: float | None = None
    point: CurvePoint | None = None
    """The newest logged values."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """The current phase changed. Never stored."""

    type: ClassVar[str] = "phase"
    name: str
    """`plan`, `propose`, `trial`, `decide`, `confirm`, `wait`; `request`: what another terminal asked for."""
    detail: str = ""
    number: int | None = None
