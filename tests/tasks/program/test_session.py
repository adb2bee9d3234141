"""A session of a program, from its files to a confirmed gain; and settings and folders that are wrong."""

import json
import subprocess
from pathlib import Path

import pytest

from autoresearch.cli import main
from autoresearch.config import load_config
from autoresearch.errors import ConfigError
from autoresearch.paths import RunDirectory
from autoresearch.record.record import Record
from autoresearch.tasks.task import contract_of
from autoresearch.ui.summary import summarize

SOLUTION = "AIM = 1.0  # where it aims [0, 10]\n\n\ndef aim():\n    return AIM\n"
EVALUATE = '''"""How near the aim is to targets around 6.

Hidden:
The targets are at 6.
"""
import random
from autoresearch.task import Score

def evaluate(candidate, seed, split):
    draw = random.Random(f"{seed} {split}")
    aim = candidate.call("aim")
    return Score([-abs(aim - draw.gauss(6.0, 1.0)) for _ in range(20)], figures={"size": 1.0})
'''
SETTINGS = """[task]
kind = "program"
metric = "nearness"
direction = "maximize"
paired = true
guards = {size = {max = 2}}
[session]
confirm_trials = 2
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory of a program that was made by hand."""
    root = tmp_path / "lab"
    root.mkdir()
    tmp_path.chmod(0o755)
    for name, text in (
        ("solution.py", SOLUTION),
        ("evaluate.py", EVALUATE),
        ("program.md", "Aim well.\n"),
        ("autoresearch.toml", SETTINGS),
        (".gitignore", ".autoresearch/\nevaluate.py\n"),
    ):
        (root / name).write_text(text)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "me")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "me@example.org")
    monkeypatch.chdir(root)
    paths = ["solution.py", "program.md", "autoresearch.toml", ".gitignore"]
    Record.create(RunDirectory(root), "t", paths).close()
    return root


def test_a_session_finds_and_confirms_a_gain(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--experiments", "4"]) == 0
    with Record.open(RunDirectory(folder)) as record:
        session = record.session()
    assert session.metric.name == "nearness"
    assert session.metric.direction == "maximize"
    assert session.kept, [e.reason for e in session.experiments]
    trial = session.kept[-1].trials[0].result
    assert len(trial.extra["cases"]["candidate"]) == len(trial.extra["cases"]["reference"]) == 20
    baseline = session.experiments[0]
    assert len({t.result.extra["cases_seed"] for t in baseline.trials}) == len(baseline.trials)
    assert session.confirmations[-1].is_gain
    split = [t.result for e in session.experiments for t in e.trials if t.confirmation]
    assert {r.split for r in split} == {"test"}
    pairs = {r.seed: set[int]() for r in split}
    for r in split:
        pairs[r.seed].add(r.extra["cases_seed"])
    assert all(len(seeds) == 1 for seeds in pairs.values())  # both sides meet the same cases
    capsys.readouterr()
    assert main(["log", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert "nearness" in json.dumps(shown)
    assert main(["report", "--markdown"]) in (0, 2)


def test_a_score_that_nothing_checks_is_marked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "solution.py").write_text(f"{SOLUTION}\n\nprint('score:', (aim() - 3) ** 2)\n")
    (folder / "autoresearch.toml").write_text(
        '[task]\nkind = "program"\nmetric = "from stdout"\ndirection = "minimize"\n'
        'command = ["python", "solution.py"]\n[decision]\nbaseline_trials = 1\n'
    )
    assert main(["run", "--experiments", "1", "--no-confirm"]) == 0
    capsys.readouterr()
    assert main(["status"]) == 0
    assert main(["log"]) == 0
    assert "4.0" in capsys.readouterr().out
    with Record.open(RunDirectory(folder)) as record:
        found = summarize(record.session()).marks
    assert found == ("score: reported by the program, and nothing checks it",)


def test_an_evaluator_that_fails_ends_the_run_with_its_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "evaluate.py").write_text(EVALUATE.replace("return Score", "1 / 0; return Score"))
    assert main(["run", "--experiments", "1"]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "`evaluate.py` fails" in told
    assert "ZeroDivisionError" in told


def test_doctor_looks_at_the_task(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from autoresearch.commands.doctor import _task

    found = {f.name: f for f in _task()}
    assert found["task"].status == "ok"
    assert "the same again" in found["task"].text
    assert found["test cases"].status == "fail"  # `aim` is asked for nothing, so calls are the same
    assert found["scorer"].status == "warn"
    (folder / "evaluate.py").write_text(
        EVALUATE.replace('candidate.call("aim")', 'candidate.call("aim", draw.random())')
    )
    (folder / "solution.py").write_text("def aim(x):\n    return x + 5.5\n")
    found = {f.name: f for f in _task()}
    assert found["test cases"].status == "ok"
    assert "fresh cases" not in found
    (folder / "evaluate.py").unlink()
    assert [f.status for f in _task()] == ["fail"]
    capsys.readouterr()


def test_a_proposer_reads_the_public_part_of_the_contract(folder: Path) -> None:
    config = load_config(RunDirectory(folder)).config
    rules = contract_of(RunDirectory(folder), config, {})
    text = rules.format(files="`solution.py`", budget=60.0, longest="9 bytes")
    assert "How near the aim is to targets around 6." in text
    assert "The targets are at 6" not in text
    assert "nearness: higher is better" in text
    assert "`size` must stay within max 2" in text
    of_models = contract_of(RunDirectory(folder), load_config(None).config, {})
    assert "trains small language models" in of_models


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('direction = ""', "`task.direction` is missing"),
        ('hidden = ["/etc"]', "not below the run directory"),
        ('hidden = ["../x"]', "not below the run directory"),
        ('evaluator = "solution.py"', "both in `task.editable` and hidden"),
        ('metric = "from stdout"', "goes with"),
        ('command = ["python", "x.py"]', "goes with"),
        ('pattern = "("', "no regular expression"),
        ('pattern = "x"', "0 groups"),
        ("guards = {x = {most = 1}}", "task.guards"),
    ],
)
def test_settings_that_do_not_fit(folder: Path, lines: str, said: str) -> None:
    name = lines.partition(" ")[0]
    kept = [line for line in SETTINGS.splitlines() if not line.startswith(name)]
    kept.insert(1, lines)
    (folder / "autoresearch.toml").write_text("\n".join(kept))
    with pytest.raises(ConfigError) as caught:
        load_config(RunDirectory(folder))
    assert said in caught.value.message
    assert caught.value.hint


def test_what_is_hidden_may_not_be_under_git(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["add", "-f", "evaluate.py"], ["commit", "-q", "-m", "oh"]):
        who = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
        subprocess.run(["git", *who, *words], check=True)
    assert main(["run", "--experiments", "1"]) == 3
    assert "is under git" in capsys.readouterr().err
    (folder / "evaluate.py").unlink()
    assert main(["try"]) == 3
    assert "evaluator `evaluate.py` is missing" in " ".join(capsys.readouterr().err.split())
