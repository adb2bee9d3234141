"""All sessions of a run directory, one a row: `log --sessions`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.text import Text

from autoresearch.types import Session
from autoresearch.ui import tables
from autoresearch.ui import text as f
from autoresearch.ui.pages.as_json import SCHEMA, session_json, summary_json
from autoresearch.ui.summary import Summary, summarize
from autoresearch.ui.tables import Cell, Column

COLUMNS = (
    Column("session"),
    Column("state"),
    Column("began", drop=2),
    Column("tried", align="right", drop=1),
    Column("kept", align="right", drop=1),
    Column("best", align="right"),
    Column("vs baseline", align="right"),
    Column("on", drop=3, is_flexible=True),
)
STATES = {"dead": "died", "interrupted": "stopped"}
TSV = ("session", "state", "began_at", "tried", "kept", "baseline_bpb", "best_bpb", "best", "gpu")


def render(
    sessions: Sequence[Session], current: str | None, width: int, now: datetime
) -> list[Text]:
    """Return the table as lines.

    Args:
        sessions: In the order of the rows.
        current: Tag of the session whose branch is checked out; it gets a star.
        width: Cells of the terminal.
        now: For dates.
    """
    rows = [_row(s, summarize(s, now), s.tag == current, now) for s in sessions]
    return tables.render(COLUMNS, rows, width)


def _row(session: Session, summary: Summary, is_current: bool, now: datetime) -> list[Cell]:
    state = STATES.get(session.state, session.state)
    return [
        Cell(f"{f.clean(session.tag)}{' *' if is_current else ''}"),
        Cell(state, "running" if session.state in ("running", "paused") else ""),
        Cell(f.ago(session.started_at, now) if session.started_at else f.NONE, "muted"),
        Cell(str(summary.num_tried)),
        Cell(str(summary.num_kept)),
        Cell(f.bpb(summary.best_bpb)),
        Cell(f.percent(summary.relative, sign=True, digits=2)),
        Cell(f.clean(session.setup.gpu) if session.setup else f.NONE, "muted"),
    ]


def render_tsv(sessions: Sequence[Session], now: datetime) -> str:
    """Return a header and one tab-separated row a session."""
    rows = []
    for s in sessions:
        found = summarize(s, now)
        gpu = s.setup.gpu if s.setup else None
        rows.append(
            (s.tag, s.state, s.started_at or None, found.num_tried, found.num_kept,
             found.baseline_bpb, found.best_bpb, s.best if s.experiments else None, gpu)
        )  # fmt: skip
    return tables.tsv(TSV, rows)


def sessions_json(sessions: Sequence[Session], now: datetime) -> dict[str, Any]:
    """Return what `log --sessions --json` prints."""
    return {
        "schema": SCHEMA,
        "sessions": [
            {"session": session_json(s), "summary": summary_json(summarize(s, now))}
            for s in sessions
        ],
    }
