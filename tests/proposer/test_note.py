"""`autoresearch note`: `pytest tests/proposer/test_note.py`."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from autoresearch.commands import as_verb
from autoresearch.commands.steer import note
from autoresearch.errors import UsageError
from autoresearch.paths import RunDirectory
from autoresearch.record.record import Record


@pytest.fixture
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in {
        "autoresearch.toml": "",
        "train.py": "X = 1\n",
        "program.md": "Go.\n",
    }.items():
        (tmp_path / name).write_text(text)
    Record.create(
        RunDirectory(tmp_path), "t", ["autoresearch.toml", "train.py", "program.md"]
    ).close()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*args: str, given: str | None = None) -> Result:
    app = typer.Typer()
    app.command()(as_verb(note))
    return CliRunner().invoke(app, list(args), input=given)


def notes(folder: Path) -> list[str]:
    with Record.open(RunDirectory(folder)) as record:
        return [n.text for n in record.session().notes]


def test_a_note_is_in_the_record(run_directory: Path) -> None:
    result = invoke("try  a longer\nwarmdown")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "noted in session `t`: the proposer reads it with its next request\n"
    assert invoke("-", given="from a pipe\n").exit_code == 0
    assert notes(run_directory) == ["try a longer warmdown", "from a pipe"]


def test_json(run_directory: Path) -> None:
    result = invoke("shorter", "--json")
    assert json.loads(result.stdout)["note"] == "shorter"
    assert result.stderr == ""


@pytest.mark.parametrize("text", ["", "  ", "x" * 2001])
def test_refused(run_directory: Path, text: str) -> None:
    result = invoke(text)
    assert isinstance(result.exception, UsageError)
    assert notes(run_directory) == []
