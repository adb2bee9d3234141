"""What was tried before a session: told to proposers and shown, and never mixed with what is measured."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch.bootstrap.scaffold import scaffold
from autoresearch.cli import main
from autoresearch.config import load_config
from autoresearch.events import now
from autoresearch.paths import RunDirectory
from autoresearch.proposer.prompt import Limits, build_prompt
from autoresearch.record.record import Record
from autoresearch.record.results_tsv import write_tsv
from autoresearch.record.sessions import past
from autoresearch.session.proposals import context_of
from autoresearch.tasks.gpt import METRIC
from autoresearch.types import Outcome, Proposal, TrialResult, Verdict

CODE = "DEPTH = 8\n"
ROWS = (
    "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"
    "1111111\t0.997900\t44.0\tkeep\tbaseline\n"
    "2222222\t0.993200\t44.2\tkeep\tLR 0.02 to 0.04\n"
    "3333333\t1.005000\t44.0\tdiscard\tGELU in place of ReLU\n"
    "4444444\t0.000000\t0.0\tcrash\ttwice as wide (OOM)\n"
)


def git(folder: Path, *words: str) -> str:
    line = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
    return subprocess.run(line, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A run directory begun from research of the user, with one experiment of the lab."""
    (tmp_path / "train.py").write_text(CODE)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "train.py").write_text("DEPTH = 9\n")
    git(tmp_path, "commit", "-qam", "one block more")
    (tmp_path / "README.md").write_text("about\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "say what it is")
    (tmp_path / "results.tsv").write_text(ROWS)
    scaffold(tmp_path, preset="cpu", tag="t")
    with Record.open(RunDirectory(tmp_path), "t") as record:
        baseline = Proposal(
            description="baseline", files={}, parent=record.tip(), proposer="baseline"
        )
        record.propose(baseline, 0, b"")
        result = TrialResult(seed=0, outcome=Outcome.OK, score=2.5)
        record.record_trial(0, result, setup="s", started_at=now())
        record.judge(0, Verdict.KEEP, "baseline", setup="s")
    return tmp_path


def test_rows_and_commits_of_before_are_told_and_are_no_experiments(lab: Path) -> None:
    with Record.open(RunDirectory(lab), "t") as record:
        found = past(record)
        assert [e.description for e in found][:2] == ["one block more", "baseline"]
        assert len(found) == 5
        assert [e.number for e in record.session().experiments] == [0]
        assert record.session().best == 0
        config = load_config(RunDirectory(lab)).config
        context = context_of(record, config, hardware={}, program="")
    assert context.past == found
    told = build_prompt(context, Limits(60_000)).text
    assert "under another setup" in told
    for line in (
        "- keep | one block more",
        "- keep 0.993200 | LR 0.02 to 0.04",
        "- discard 1.005000 | GELU in place of ReLU",
        "- crash | twice as wide (OOM)",
    ):
        assert line in told
    small = build_prompt(context, Limits(1_500)).text
    assert "GELU" not in small


def test_log_names_what_was_before(lab: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(lab)
    assert main(["log"]) == 0
    printed = capsys.readouterr()
    assert (
        "rows of results.tsv: 4, commits: 1: `autoresearch log --from results.tsv`" in printed.err
    )
    assert "GELU" not in printed.out
    assert main(["log", "--from", "results.tsv"]) == 0
    assert "GELU" in capsys.readouterr().out


def test_the_labs_own_table_is_not_the_past(lab: Path) -> None:
    (lab / "results.tsv").unlink()
    with Record.open(RunDirectory(lab), "t") as record:
        write_tsv(replace(record.session(), metric=METRIC), lab / "results.tsv")
        assert [e.description for e in past(record)] == ["one block more"]
        with (lab / "results.tsv").open("a") as file:
            file.write("5555555\t1.0\t1.0\tdiscard\tmy own\n")
        assert [e.description for e in past(record)] == ["one block more", "my own"]
