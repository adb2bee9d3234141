"""A small run directory with a session."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from record_support import TRAIN, Night

from autoresearch.paths import RunDirectory
from autoresearch.record.record import Record


@pytest.fixture
def make_record(tmp_path: Path) -> Iterator[Callable[..., Record]]:
    """Return a builder of run directories with an open record."""
    opened: list[Record] = []

    def make(name: str = "lab", tag: str = "nov21") -> Record:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        for path, text in {
            "train.py": TRAIN,
            "program.md": "# program\n",
            "autoresearch.toml": "",
            ".gitignore": ".autoresearch/\nresults.tsv\n",
        }.items():
            if not (root / path).exists():
                (root / path).write_text(text)
        paths = ["train.py", "program.md", "autoresearch.toml", ".gitignore"]
        record = Record.create(RunDirectory(root), tag, paths)
        opened.append(record)
        return record

    yield make
    for record in opened:
        record.close()


@pytest.fixture
def record(make_record: Callable[..., Record]) -> Record:
    return make_record()


@pytest.fixture
def night(record: Record) -> Night:
    """Return a session with a baseline."""
    night = Night(record)
    night.start()
    return night
