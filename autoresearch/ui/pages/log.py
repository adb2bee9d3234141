"""`autoresearch log`: a session, or all sessions, as a screen, as rows for a pipe, as JSON.

The screen answers, in this order: is it alive; better by how much; is it real; which changes did it; what failed;
what did it cost; what needs attention; which command next. Then the table.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.text import Text

from autoresearch.types import Session
from autoresearch.ui import tables
from autoresearch.ui import text as f
from autoresearch.ui.console import styled
from autoresearch.ui.pages.as_json import SCHEMA, session_json, summary_json
from autoresearch.ui.pages.overview import STATES, next_line, summary_lines
from autoresearch.ui.pages.rows import Filter, select, table
from autoresearch.ui.summary import Summary, at_present, doing, summarize
from autoresearch.ui.tables import Cell, Column


def render(
    session: Session,
    wanted: Filter | None = None,
    *,
    width: int = 100,
    utf8: bool = True,
    now: datetime | None = None,
    status: Mapping[str, Any] | None = None,
) -> list[Text]:
    """Return the screen of a session as lines of at most `width` cells where words allow it.

    `status` is what the running session says it does, as `Presence.status` returns it.
    """
    wanted = wanted or Filter()
    now = now or f.now()
    present = doing(status, now)
    summary = summarize(session, now, present=present)
    session = at_present(session, present)
    lines = summary_lines(session, summary, width=width, utf8=utf8, now=now)
    shown, total = select(session, wanted, now)
    if shown:
        lines.append(Text())
        steps = summary.steps if wanted.only_kept else None
        is_mixed = len({e.proposer for e in session.experiments} - {"baseline"}) > 1
        columns, rows = table(shown, now, steps, is_mixed=is_mixed)
        lines += tables.render(columns, rows, width, flexible_min=30)
        lines += tables.folded(_footer(session, wanted, len(shown), total), width, 2)
    elif session.experiments:
        lines += [Text(), styled("no experiment matches", "muted")]
    if summary.next_command:
        lines += tables.folded(next_line(summary), width, 6)
    return lines


def _footer(session: Session, wanted: Filter, num_shown: int, total: int) -> Text:
    text = Text(style="muted")
    text.append(f"{num_shown} of {len(session.experiments)} shown")
    hints = []
    if num_shown < total:
        hints.append("`-n 0` all")
    if not wanted.only_kept and session.kept:
        hints.append("`--kept` the way to the best")
    if not session.is_foreign:
        hints.append("`autoresearch show N` one of them")
    return text.append("; " + ", ".join(hints)) if hints else text


def quiet_line(session: Session, summary: Summary) -> str:
    """Return the whole session as one line of words."""
    parts = [f.clean(session.tag), session.state]
    if summary.running:
        parts.append(str(summary.running.number))
    parts += ["tried", str(summary.num_tried), "keep", str(summary.num_kept)]
    if summary.best_bpb is not None:
        parts += ["best", f.bpb(summary.best_bpb)]
    if summary.relative is not None:
        parts.append(f.percent(summary.relative, sign=True, digits=2))
    return " ".join(parts)


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
TSV = ("session", "state", "began_at", "tried", "kept", "baseline_bpb", "best_bpb", "best", "gpu")


def render_sessions(
    sessions: Sequence[Session], current: str | None, width: int, now: datetime
) -> list[Text]:
    """Return the table as lines; the session whose branch is checked out, `current`, gets a star."""
    rows = [_row(s, summarize(s, now), s.tag == current, now) for s in sessions]
    return tables.render(COLUMNS, rows, width)


def _row(session: Session, summary: Summary, is_current: bool, now: datetime) -> list[Cell]:
    state = "new" if session.state == "new" else STATES[session.state][0]
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


def render_sessions_tsv(sessions: Sequence[Session], now: datetime) -> str:
    """Return a header and one tab-separated row per session."""
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
