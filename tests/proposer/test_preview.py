"""`run --dry-run`, as a person sees it: `pytest tests/proposer/test_preview.py`."""

import json
from pathlib import Path

import pytest

from autoresearch.cli import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "lab", "--preset", "demo", "--tag", "t"]) == 0
    monkeypatch.chdir(tmp_path / "lab")
    return tmp_path / "lab"


def test_a_dry_run_prints_the_prompt_and_its_tokens(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "program.md").write_text("Make it better than ever.\n")
    flags = [
        "--proposer",
        "llm",
        "--model",
        "openai/gpt-4o-mini",
        "--hours",
        "8",
        "--max-cost",
        "2",
    ]
    before = sorted(p.name for p in folder.rglob("*"))
    capsys.readouterr()
    assert main(["run", "--dry-run", *flags]) == 0
    said = capsys.readouterr().out
    assert "Make it better than ever." in said
    assert (folder / "train.py").read_text() in said
    assert "- time left: 480 minutes\n- money left for proposals: $2.00" in said
    assert "tokens by part:\nrules " in said
    assert "for the first call" in said
    assert sorted(p.name for p in folder.rglob("*")) == before
    assert main(["run", "--dry-run", *flags, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["proposer"] == "llm"
    assert value["num_tokens"] == sum(part["num_tokens"] for part in value["parts"])


def test_a_dry_run_of_search_or_of_nothing_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--dry-run"]) == 0
    assert "has no prompt" in capsys.readouterr().out
    assert main(["run", "--dry-run", "--proposer", "command"]) == 2
    assert "`proposer.command` is empty" in capsys.readouterr().err
