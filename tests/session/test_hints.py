"""Each hint works when it is typed, and no hint costs the user any work: tried in copies of a scratch repository."""

import json
import math
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stand_ins import TRAIN, FormulaExecutor

from autoresearch.cli import main
from autoresearch.config import Loaded
from autoresearch.paths import RunDirectory
from autoresearch.record.record import Record
from autoresearch.sandbox import NoSandbox
from autoresearch.session.build import Lab
from autoresearch.tasks.gpt import METRIC
from autoresearch.types import Setup
from autoresearch.ui.summary import resume_command

SETTINGS = """[session]
experiments = 1
confirm_trials = 0
[decision]
baseline_trials = 1
[trial]
budget_seconds = 2.0
"""
MINE = "LR = 1.25  # mine, hours of work\nWIDTH = 64\n"


class Quick(FormulaExecutor):
    """The formula, with what `run` expects of the executor of a device."""

    def __init__(self) -> None:
        super().__init__()
        self.calibration = SimpleNamespace(learnt_from=lambda _: self.calibration)

    def keep_caches(self, label: str) -> None:
        """Keep nothing."""


@pytest.fixture(autouse=True)
def lab(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials are a formula; the machine is quiet."""

    def assemble(
        run_directory: RunDirectory, loaded: Loaded, *, is_unsafe_allowed: bool = False
    ) -> Lab:
        del is_unsafe_allowed
        parts: Any = {
            "task": SimpleNamespace(
                metric=METRIC,
                facts={"data": {}, "trivial_score": None, "is_validation_visible": False},
            ),
            "hardware": SimpleNamespace(kind="cpu", to_json=dict),
            "setup": Setup(
                "cpu", "2", "", loaded.config.trial.budget_seconds, "text", "1", 128, 1000
            ),
        }
        return Lab(run_directory, loaded, sandbox=NoSandbox(), executor=Quick(), **parts)  # type: ignore[arg-type]

    monkeypatch.setattr("autoresearch.session.build.assemble", assemble)
    monkeypatch.setattr("autoresearch.machine.hardware.gpu_processes", list)
    monkeypatch.setattr("autoresearch.session.run.is_on_battery", lambda: False)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "me")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "me@example.org")


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session in which nothing ran yet."""
    root = tmp_path_factory.mktemp("new") / "lab"
    root.mkdir()
    (root / "autoresearch.toml").write_text(SETTINGS)
    (root / "train.py").write_text(TRAIN)
    assert main(["-q", "init", str(root), "--preset", "cpu", "--tag", "t"]) == 0
    return root


def sh(line: str, folder: Path) -> None:
    subprocess.run(["/bin/sh", "-ec", line], cwd=folder, check=True, capture_output=True)


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda root: (root / name).write_text(text) and None


def remove(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def git(line: str) -> Callable[[Path], None]:
    return lambda root: sh(line, root)


def ran(root: Path) -> None:
    assert main(["-q", "run"]) == 0
    del root


CASES: dict[str, tuple[list[Callable[[Path], None]], str, int]] = {
    "train.py deleted": ([remove("train.py")], "try", 1),
    "train.py deleted by git": ([git("git rm -q train.py")], "try", 1),
    "an editable file that never was": (
        [write("autoresearch.toml", f'{SETTINGS}[task]\neditable = ["nope.py"]\n')], "try", 0,
    ),
    "the same for run": (
        [write("autoresearch.toml", f'{SETTINGS}[task]\neditable = ["nope.py"]\n')], "run", 0,
    ),
    "an editable file git does not know": (
        [write("mine.py", MINE), write("autoresearch.toml", f'{SETTINGS}[task]\neditable = ["mine.py"]\n')],
        "run", 1,
    ),
    "settings deleted": ([remove("autoresearch.toml")], "log", 2),
    "settings deleted by git": ([git("git rm -q autoresearch.toml")], "log", 2),
    "settings broken": ([write("autoresearch.toml", "[session")], "run", 0),
    "train.py is no Python": ([write("train.py", MINE + "def f(:\n")], "run", 1),
    "a commit that is no Python": (
        [write("train.py", MINE + "def f(:\n"), git("git commit -qam mine")], "run", 0,
    ),
    "no repository": ([git("rm -rf .git")], "log", 1),
    "branch deleted": ([git("git switch -q --detach && git branch -qD autoresearch/t")], "run", 1),
    "branch deleted of a session that ran": (
        [ran, git("git switch -q --detach && git branch -qD autoresearch/t")], "run", 1,
    ),
    "no such session": ([], "run --tag brandnew", 1),
    "from a result, in the way of an edit": (
        [ran, git("git commit -qam mine --allow-empty"), write("train.py", MINE + "def f(:\n"),
         git("git commit -qam mine"), write("train.py", MINE)],
        "run --tag second --from baseline", 1,
    ),
    "from a result, without a name": ([ran], "run --from best", 1),
    "another setup": (
        [ran, write("autoresearch.toml", SETTINGS.replace("2.0", "3.0"))], "run", 2,
    ),
    "no such experiment": ([ran], "show 99", 0),
    "undo the baseline": ([ran], "revert 0", 1),
    "undo what is not there": ([ran], "revert 99", 0),
    "nothing to confirm": ([], "confirm", 1),
    "no such note": ([], "note --remove 9", 1),
    "nothing runs": ([], "stop", 1),
    "settings not trusted": (
        [write("autoresearch.toml", SETTINGS.replace("[decision]", 'notify = ["true"]\n[decision]'))], "run", 1,
    ),
    "a module git does not know": (
        [write("helper.py", MINE), write("train.py", f"import helper\n{TRAIN}")], "run", 1,
    ),
    "an option without effect": ([], "run --max-cost 5", 1),
    "a model without effect": ([], "run --model a/b", 1),
    "an empty note": ([], "note", 1),
    "a folder of other work": ([git("rm -rf * .git .gitignore && touch thesis.tex")], "init", 2),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_hint_works_and_loses_nothing(
    name: str,
    new: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps, line, num_commands = CASES[name]
    broken = tmp_path / "broken"
    shutil.copytree(new, broken)
    monkeypatch.chdir(broken)
    for step in steps:
        step(broken)
    before = error_of(line, capsys)
    assert before["hint"]
    commands = re.findall(r"`((?:git|autoresearch|cd) [^`]*)`", before["hint"])
    assert len(commands) == num_commands, before
    for index, command in enumerate(commands):
        root = tmp_path / f"copy{index}"
        shutil.copytree(broken, root)
        monkeypatch.chdir(root)
        mine = {p: p.read_bytes() for p in root.iterdir() if p.is_file() and p.suffix != ".tsv"}
        type_in(command.replace("NAME", "second").replace(" N`", " 1`"), root)
        lost = [p.name for p, text in mine.items() if not is_kept(p, text, root)]
        assert lost == [], command
        looks = ("autoresearch log", "autoresearch note --list", f"autoresearch {line.split()[0]}")
        if (
            not command.startswith(looks) or line == "run"
        ):  # else it only shows, or is what to type instead
            assert error_of(line, capsys)["message"] != before["message"], command


def error_of(line: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the error of a command line; an empty one where it works."""
    capsys.readouterr()
    main(["--json", *shlex.split(line)])
    out = capsys.readouterr().out.strip()
    value = json.loads(out) if out.startswith("{\n") else {}
    return value.get("error", {"message": "", "hint": ""})


def type_in(line: str, root: Path) -> None:
    """Type a line; what names an agent is not run, only read."""
    if not line.startswith("autoresearch"):
        sh(line, root)
        return
    first, _, then = line.partition(" && cd ")
    words = shlex.split(first)[1:]
    if "--proposer" in words:
        words = [*words, "--show-config"]
    assert main(["-q", *words]) == 0, line
    if then:
        os.chdir(then)


def is_kept(path: Path, text: bytes, root: Path) -> bool:
    """Whether a file holds what it held, or git does, in a commit or a stash."""
    if path.is_file() and path.read_bytes() == text:
        return True
    name = subprocess.run(
        ["git", "hash-object", "--stdin"], input=text, cwd=root, capture_output=True, check=True
    ).stdout.split()[0]
    known = subprocess.run(
        ["git", "rev-list", "--all", "--objects"], cwd=root, capture_output=True, check=False
    ).stdout
    return name in known


def test_the_line_that_resumes_can_be_typed(
    new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(new, tmp_path / "lab")
    monkeypatch.chdir(tmp_path / "lab")
    given = ["--proposer", "search", "--until", "07:00", "--no-confirm", "--unsafe-no-sandbox"]
    assert main(["-q", "run", "--experiments", "1", "--hours", "30", *given]) == 0
    capsys.readouterr()
    with Record.open(RunDirectory(tmp_path / "lab")) as record:
        session = record.session()
    line = resume_command(session)
    hours = f"{math.ceil((session.limits['seconds'] - session.wall_seconds) / 36) / 100:.2f}"
    assert line == f"autoresearch run --tag t {' '.join(given)} --hours {hours} --experiments 1"
    assert main(["-q", *shlex.split(line)[1:]]) == 0
    with Record.open(RunDirectory(tmp_path / "lab")) as record:
        assert record.session().flags == given
        assert len(record.session().experiments) == len(session.experiments) + 1


@pytest.mark.parametrize(
    ("step", "says", "command"),
    [
        (remove("train.py"), "train.py is missing here; trials use", "git checkout HEAD -- train.py"),
        (remove("program.md"), "program.md is missing here", "git checkout HEAD -- program.md"),
        (git("git rm -q train.py"), "train.py is missing here", "git checkout HEAD -- train.py"),
        (git("git switch -q --detach"), "HEAD is on no branch, not on `aut", "git switch autoresearch/t"),
        (git("git switch -qc other"), "HEAD is on `other`, not on `aut", "git switch autoresearch/t"),
        (write("train.py", MINE + "def f(:\n"), "`train.py` is not Python: ", "git stash"),
    ],
)  # fmt: skip
def test_run_names_what_is_odd_before_it_trains(
    step: Callable[[Path], None],
    says: str,
    command: str,
    new: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "lab"
    shutil.copytree(new, root)
    monkeypatch.chdir(root)
    ran(root)
    step(root)
    mine = {p: p.read_bytes() for p in root.iterdir() if p.is_file() and p.suffix != ".tsv"}
    capsys.readouterr()
    assert main(["run", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = [event["type"] for event in events]
    told = events[kinds.index("alert")]
    assert says in told["text"]
    assert told["command"] == command
    assert kinds.index("alert") < kinds.index("proposed")
    type_in(command, root)
    assert [p.name for p, text in mine.items() if not is_kept(p, text, root)] == []
    ran(root)
    with Record.open(RunDirectory(root)) as record:
        assert record.session().alerts[-1].is_over
