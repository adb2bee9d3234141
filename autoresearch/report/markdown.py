"""The report as Markdown for a pull request: short, folded where it is long, agent text escaped."""

import re
from collections.abc import Sequence
from datetime import datetime

from autoresearch.report.assets import Material
from autoresearch.report.content import View, build
from autoresearch.report.experiments import DiffLine
from autoresearch.types import Session

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$@!&])")
MAX_ROWS = 60
WORTH = (
    "Worth is the best with a change minus the best without it, on fresh seeds and the test split;"
    " followed by whether it carries the gain."
)


def escape(text: str) -> str:
    """Return text that Markdown shows as it is: no markup, no mention, no link, one line."""
    return _SPECIAL.sub(r"\\\1", text).replace("://", ":\u200b//")


def render(session: Session, material: Material | None = None, now: datetime | None = None) -> str:
    """Return the report of a session."""
    view = build(session, material, now)
    parts = [
        f"# {escape(view.title)}",
        "",
        f"{f'**{view.headline.word}:** ' * bool(view.headline.word)}{escape(view.headline.text)}.",
        "",
        escape("; ".join(filter(None, (view.state, ", ".join(view.subtitle))))),
        "",
        "\n>\n".join(f"> {escape(sentence)}" for sentence in view.verdict),
        "",
    ]
    parts += [f"- **Caution:** {escape(mark)}" for mark in view.summary.marks]
    parts += [
        f"- {escape(text)}" + (f": {code(command)}" if command else "")
        for text, command in view.alerts
    ]
    if view.cards:
        parts += ["", *_table(["", ""], [[c.label, f"**{c.value}** {c.note}"] for c in view.cards])]
    parts += _kept(view) + _checks(view) + _themes(view) + _failures(view)
    if view.night:
        parts += ["", "## Where the time went", ""]
        parts += [f"- {escape(s.label)} {s.time} ({s.percent:.0f}%)" for s in view.night]
        parts += [f"- {escape(line)}" for line in view.spend]
    if view.material.constants:
        parts += ["", "## Constants that changed", ""]
        rows = [[code(n), code(a or "-"), code(b or "-")] for n, a, b in view.material.constants]
        parts += _table(["constant", "baseline", "best"], rows)
    if view.net_diff:
        parts += ["", *_folded(f"Net change: {view.net_stat}", view.net_diff)]
    if view.commands:
        parts += ["", "## How to reproduce", "", *_fence("\n".join(view.commands), "sh")]
    return "\n".join(parts).rstrip() + "\n"


def code(text: str) -> str:
    """Return inline code that holds any text."""
    ticks = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * (ticks + 1)
    pad = " " if ticks else ""
    return f"{fence}{pad}{text.replace('|', chr(92) + '|')}{pad}{fence}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def _kept(view: View) -> list[str]:
    if not view.rungs:
        return []
    rows = [
        [
            str(r.number),
            escape(r.change[:300]) + (" *(may be luck)*" if r.is_doubtful else ""),
            r.delta,
            r.cumulative,
            escape(r.p_real),
            *([f"{r.worth or '-'} {r.carries}".strip()] if view.has_worth else []),
            r.memory,
            r.lines,
        ]
        for r in view.rungs[:MAX_ROWS]
    ]
    header = ["#", "change", "delta", "cumulative", "P", "memory", "lines"]
    note = []
    if view.has_worth:
        header.insert(5, "worth")
        note = ["", WORTH]
    return ["", "## What was kept", "", *_table(header, rows), *note]


def _checks(view: View) -> list[str]:
    if not view.checks:
        return []
    rows = [[escape(c.question), c.answer, c.delta, c.validation, c.trials] for c in view.checks]
    header = ["", "", "on unseen data", "on validation", "each"]
    return ["", "## What was measured again", "", *_table(header, rows)]


def _themes(view: View) -> list[str]:
    if not view.themes:
        return []
    rows = [
        [
            escape(t.name[:80]),
            str(t.num),
            str(t.num_kept),
            f"#{t.nearest.number} {escape(t.nearest.change[:160])}" if t.nearest else "-",
            t.nearest.delta if t.nearest else "-",
        ]
        for t in view.themes[:MAX_ROWS]
    ]
    header = ["theme", "tried", "kept", "nearest miss", "delta"]
    return ["", "## What did not help", "", *_table(header, rows)]


def _failures(view: View) -> list[str]:
    if not view.failures:
        return []
    rows = [
        [escape(f"{x.verdict}: {x.reason}"), str(x.num), x.lost, escape(x.numbers)]
        for x in view.failures
    ]
    return [
        "",
        "## What failed",
        "",
        *_table(["reason", "times", "time lost", "experiments"], rows),
    ]


def _folded(title: str, lines: Sequence[DiffLine]) -> list[str]:
    body = "\n".join(line.text for line in lines)
    return [
        f"<details><summary>{escape(title)}</summary>",
        "",
        *_fence(body, "diff"),
        "",
        "</details>",
    ]


def _fence(text: str, language: str) -> list[str]:
    ticks = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, ticks + 1)
    return [fence + language, text, fence]
