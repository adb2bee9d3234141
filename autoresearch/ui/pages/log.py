"""`autoresearch log`: a session, or all sessions, as a screen, as rows for a pipe, as JSON.

The screen answers, in this order: is it alive; is there a gain; how large; which changes did it; what failed;
what did it cost; what needs attention. Then the table, and which command next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from rich.text import Text

from autoresearch.decision.measuring import PACE_MARK
from autoresearch.events import SCHEMA
from autoresearch.types import Experiment, Session
from autoresearch.ui import tables
from autoresearch.ui import text as f
from autoresearch.ui.console import styled
from autoresearch.ui.pages.as_json import session_json, summary_json
from autoresearch.ui.pages.overview import (
    LABEL,
    STATES,
    header,
    next_line,
    score_line,
    summary_lines,
    verdict_line,
)
from autoresearch.ui.pages.rows import Filter, select, table
from autoresearch.ui.summary import Summary, at_present, doing, summarize
from autoresearch.ui.tables import Cell, Column

GOING_ON = ("running", "paused")
"""States in which a session will change."""


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
        lines += [Text(), *_rows(session, summary, shown, width, now, is_kept=wanted.only_kept)]
        lines += tables.folded(_footer(session, wanted, len(shown), total), width, 2)
        if off := _off_pace(shown):
            text = f"{f.numbers(off)} ran while others took more or less of the machine than usual: shown as if not"
            lines += tables.folded(styled(text, "muted"), width, 2)
    elif session.experiments:
        lines += [Text(), styled("no experiment matches", "muted")]
    if summary.next_command:
        lines += tables.folded(next_line(summary), width, 6)
    return lines


def render_watched(
    session: Session,
    wanted: Filter,
    *,
    width: int,
    height: int,
    status: Mapping[str, Any] | None = None,
) -> list[Text]:
    """Return what `log --watch` shows, cut to `height` lines: state, verdict, score, what needs you, the rows."""
    now = f.now()
    present = doing(status, now)
    summary = summarize(session, now, present=present)
    session = at_present(session, present)
    lines = [header(session, summary, now, width)]
    if summary.baseline_score is not None:
        score = tables.folded(score_line(summary, now), width, LABEL)[0]
        lines += [verdict_line(summary), score]
    if session.state not in GOING_ON:
        lines.append(styled("waiting for `autoresearch run`", "muted"))
    if num := len(summary.alerts):
        line = styled(f"needs you {num}: ", "warning").append("`autoresearch log`", style="command")
        lines.append(line)
    shown, _ = select(session, replace(wanted, num=wanted.num or height), now)
    if shown:
        is_kept = wanted.only_kept
        lines += [Text(), *_rows(session, summary, shown, width, now, is_kept=is_kept)]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines[:height]


def _rows(
    session: Session,
    summary: Summary,
    shown: Sequence[Experiment],
    width: int,
    now: datetime,
    *,
    is_kept: bool,
) -> list[Text]:
    steps = summary.steps if is_kept else None
    is_mixed = len({e.proposer for e in session.experiments} - {"baseline"}) > 1
    columns, rows = table(
        shown,
        now,
        steps,
        is_mixed=is_mixed,
        digits=summary.digits,
        is_narrow=width < 80,
        metric=session.metric,
    )
    return tables.render(columns, rows, width, flexible_min=30)


def _off_pace(shown: Sequence[Experiment]) -> list[int]:
    """Return which experiments ran at another pace than the usual one, by their verdicts."""
    marks = {e.number: e.decision.mark for e in shown if e.decision is not None}
    return sorted(number for number, mark in marks.items() if mark.startswith(PACE_MARK))


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
    if summary.best_score is not None:
        parts += ["best", f.score(summary.best_score)]
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
TSV = (
    "session",
    "state",
    "began_at",
    "tried",
    "kept",
    "baseline_score",
    "best_score",
    "best",
    "gpu",
)


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
        Cell(f.score(summary.best_score)),
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
             found.baseline_score, found.best_score, s.best if s.experiments else None, gpu)
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
