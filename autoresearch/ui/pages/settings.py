"""`autoresearch run --show-config`: every setting, its value, where the value came from and what it means."""

import json
from typing import Any

from autoresearch.config import Loaded
from autoresearch.meanings import described
from autoresearch.ui import tables
from autoresearch.ui.console import OutputMode
from autoresearch.ui.tables import Cell, Column


def print_settings(mode: OutputMode, loaded: Loaded) -> None:
    """Print the settings: a table on a terminal; tab-separated in a pipe, or JSON, with their meanings."""
    rows = settings(loaded)
    meanings = {f"{d.section}.{d.name}": d.meaning for d in described()}
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
