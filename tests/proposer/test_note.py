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
        "autoresearch.toml": '[proposer]\nkind = "llm"\n',
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


def test_a_note_is_taken_back(run_directory: Path) -> None:
    for text in ("first", "a typo", "third", "a typo"):
        invoke(text)
    listed = invoke("--list")
    assert listed.stdout == "1  first\n2  a typo\n3  third\n4  a typo\n"
    assert invoke("--remove", "2").stderr == "took back note 2: a typo\n"
    assert notes(run_directory) == ["first", "third", "a typo"]
    assert json.loads(invoke("--remove", "3", "--json").stdout)["removed"] == "a typo"
    assert [n["note"] for n in json.loads(invoke("--list", "--json").stdout)] == ["first", "third"]
    for wrong in (
        ["--remove", "0"],
        ["--remove", "3"],
        ["x", "--list"],
        ["--list", "--remove", "1"],
    ):
        assert isinstance(invoke(*wrong).exception, UsageError)
    assert notes(run_directory) == ["first", "third"]


def test_a_note_that_the_proposer_does_not_read(run_directory: Path) -> None:
    (run_directory / "autoresearch.toml").write_text("")
    assert "but `search`, which proposes, reads no notes" in invoke("shorter").stderr


def test_json(run_directory: Path) -> None:
    result = invoke("shorter", "--json")
    assert json.loads(result.stdout)["note"] == "shorter"
    assert result.stderr == ""


@pytest.mark.parametrize("text", ["", "  ", "x" * 2001])
def test_refused(run_directory: Path, text: str) -> None:
    result = invoke(text)
    assert isinstance(result.exception, UsageError)
    assert notes(run_directory) == []
