"""docs/train.md, followed word by word by somebody who has a script of upstream's shape."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from test_upstream_shapes import SCRIPT

from autoresearch.cli import main
from autoresearch.decision import pace
from autoresearch.paths import RunDirectory
from autoresearch.record.record import Record
from autoresearch.types import Verdict
from conftest import SETTINGS, leave_judging_out, write_text

PAGE = Path(__file__).parents[2] / "docs" / "train.md"


def commands() -> list[str]:
    """Return the commands of the section, in order."""
    section = PAGE.read_text().partition("## Scripts written for karpathy")[2]
    lines = [line.strip() for line in section.splitlines() if line.startswith("    ")]
    return [command.strip() for line in lines for command in line.split("&&")]


def follow(command: str) -> int:
    """Run one command in the current folder, as a shell would."""
    name, *words = command.split()
    if name == "cd":
        os.chdir(words[0])
    elif name == "cp":
        shutil.copyfile(*words)
    else:
        assert name == "autoresearch"
        with pytest.MonkeyPatch.context() as patch:
            if words == ["try"]:  # `run` judges the same
                leave_judging_out(patch)
            return main(words)
    return 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_page_works_word_by_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "text"
    text.mkdir()
    write_text(text)
    settings = {
        **SETTINGS, "data.source": text, "session.experiments": 1, "session.confirm_trials": 0,
        "decision.baseline_trials": 1, "proposer.kind": "search",
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(f"AUTORESEARCH_{name.replace('.', '_').upper()}", str(value))
    monkeypatch.setenv("AUTORESEARCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(pace, "PAUSES", (0.0, 0.0))
    script = "RATE = 0.01\n" + SCRIPT.replace("lr=0.01", "lr=RATE")
    clone = tmp_path / "their"
    clone.mkdir()
    (clone / "train.py").write_text(script)
    (clone / "prepare.py").write_text("MAX_SEQ_LEN = 2048\n")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "mine"]):
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
        subprocess.run(git, cwd=clone, check=True)
    steps = commands()
    alone = steps.index("autoresearch init myrun --template compat")
    monkeypatch.chdir(clone)
    for command in steps[:alone]:
        assert follow(command) == 0, command
    with Record.open(RunDirectory(clone)) as record:
        baseline, idea = record.session().experiments
    assert (baseline.verdict, baseline.score is not None) == (Verdict.KEEP, True)
    assert idea.trials
    script = (clone / "train.py").read_text()  # the idea may have been kept
    monkeypatch.chdir(tmp_path)
    for command in steps[alone:]:
        assert follow(command) == 0, command
    assert (tmp_path / "myrun" / "train.py").read_text() == script
