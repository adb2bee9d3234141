"""Pages that are plain lists: `doctor` and the settings."""

import json
from typing import Any

from rich.text import Text

from autoresearch.config import Loaded, described
from autoresearch.types import Finding
from autoresearch.ui import tables
from autoresearch.ui.console import OutputMode
from autoresearch.ui.tables import Cell, Column
from autoresearch.ui.text import clean

_WORDS = {"ok": "ok", "warn": "warn", "fail": "FAIL", "skip": "-"}
_STYLES = {"ok": "good", "warn": "warning", "fail": "error", "skip": "muted"}
WIDTH = 18
"""Cells of the name column."""


def render(finding: Finding, width: int = 0) -> list[Text]:
    """Return `ok    torch   2.13.0, CPU build`, with `hint: ...` below where there is one; folded for a `width`."""
    text = Text()
    text.append(f"{_WORDS[finding.status]:<5} ", style=_STYLES[finding.status])
    text.append(f"{finding.name:<{WIDTH}} ")
    text.append(clean(finding.text))
    if finding.hint:
        text.append(f"\n{'':<{WIDTH + 7}}")
        text.append("hint: ", style="hint").append(clean(finding.hint))
    lines = list(text.split("\n"))
    return [part for line in lines for part in tables.folded(line, width or 10_000, WIDTH + 7)]


def summary(findings: list[Finding]) -> str:
    """Return the last line: what is missing, what could be better."""
    failed = [f.name for f in findings if f.status == "fail"]
    warned = [f.name for f in findings if f.status == "warn"]
    if failed:
        return f"missing: {', '.join(failed)}"
    text = "a session can run"
    if any(f.name == "run directory" and f.status == "skip" for f in findings):
        text = "this machine can run a session; here is none: `autoresearch init myrun`"
    return f"{text}; could be better: {', '.join(warned)}" if warned else text


def print_settings(mode: OutputMode, loaded: Loaded) -> None:
    """Print the settings: a table on a terminal; tab-separated in a pipe, or JSON, with their meanings."""
    rows = settings(loaded)
    meanings = {d.key: d.meaning for d in described()}
    if mode.is_json:
        mode.json(
            {k: {"value": v, "source": s, "meaning": meanings[k]} for k, v, s in rows},
        )
        return
    if not mode.is_tty:
        header = ["key", "value", "source", "meaning"]
        table = [(k, json.dumps(v), s, meanings[k]) for k, v, s in rows]
        mode.out.file.write(tables.tsv(header, table))
        return
    columns = [Column("setting"), Column("value"), Column("from", is_flexible=True)]
    cells = [
        [
            Cell(key, "label" if source == "default" else ""),
            Cell(json.dumps(value), "muted" if source == "default" else "metric"),
            Cell(source, "muted" if source == "default" else "place"),
        ]
        for key, value, source in rows
    ]
    for line in tables.render(columns, cells, mode.out.width):
        mode.data(line)


def settings(loaded: Loaded) -> list[tuple[str, Any, str]]:
    """Return dotted key, value and source of every setting, in the order of the reference."""
    values = loaded.config.model_dump()
    return [
        (f"{section}.{name}", value, loaded.sources.get(f"{section}.{name}", "default"))
        for section, table in values.items()
        for name, value in table.items()
    ]
