"""A clone of karpathy's autoresearch, or of a fork, becomes a run directory, and nothing of it is lost."""

import json
import subprocess
from pathlib import Path

import pytest

from autoresearch.bootstrap import flat
from autoresearch.bootstrap.scaffold import Scaffold, scaffold
from autoresearch.cli import main
from autoresearch.errors import PrerequisiteError
from autoresearch.paths import templates_directory
from autoresearch.session.build import working_files

CODE = "from prepare import MAX_SEQ_LEN, TIME_BUDGET, evaluate_bpb, make_dataloader\nDEPTH = 8\n"
PREPARE = "MAX_SEQ_LEN = 2048\nTIME_BUDGET = 300\n"
PROGRAM = "# autoresearch\n\nLower val_bpb.\n\nuv run train.py > run.log\n\nLOOP FOREVER:\n"
THEIRS = {
    "train.py": CODE,
    "prepare.py": PREPARE,
    "program.md": PROGRAM,
    "README.md": "read me\n",
    ".gitignore": "results.tsv\n",
}


def git(folder: Path, *words: str) -> str:
    line = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
    return subprocess.run(
        line, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone in the middle of research: a branch of two commits, and files that git does not know."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name, text in THEIRS.items():
        (folder / name).write_text(text)
    git(folder, "init", "-qb", "master")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    git(folder, "checkout", "-qb", "autoresearch/mar8")
    (folder / "train.py").write_text(CODE.replace("8", "9"))
    git(folder, "commit", "-qam", "deeper")
    (folder / "results.tsv").write_text("commit\tval_bpb\tmemory_gb\tstatus\tdescription\n")
    (folder / "notes.ipynb").write_text("{}\n")
    return folder


def everything(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in folder.iterdir() if p.is_file()}


def move_in(clone: Path, **options: str) -> Scaffold:
    return scaffold(clone, preset="cpu", **options)


def test_a_clone_is_moved_in_by_one_command(clone: Path) -> None:
    before, tip = everything(clone), git(clone, "rev-parse", "autoresearch/mar8")
    made = move_in(clone)
    ours = templates_directory() / "compat"
    after = everything(clone)
    assert after.pop("prepare.py") == (ours / "prepare.py").read_text()
    assert after.pop("kernels.py") == (ours / "kernels.py").read_text()
    assert after.pop("prepare.upstream.py") == before.pop("prepare.py")
    assert "max_lines = 0" in after.pop("autoresearch.toml")
    assert after == before
    assert set(made.written) == {"kernels.py", "autoresearch.toml", "prepare.py"}
    # Their branch is where it was; ours begins at its tip and holds what a trial needs.
    assert git(clone, "rev-parse", "autoresearch/mar8") == tip
    assert made.tag == "mar8-lab"
    assert git(clone, "branch", "--show-current") == "autoresearch/mar8-lab"
    assert git(clone, "rev-parse", "HEAD~1") == tip
    assert git(clone, "show", "HEAD:prepare.upstream.py") + "\n" == PREPARE
    assert set(git(clone, "status", "--porcelain").splitlines()) == {"?? notes.ipynb"}
    files = working_files(clone, ["train.py"])
    assert b"trial.child" in files["prepare.py"]
    assert files["train.py"] == CODE.replace("8", "9").encode()


def test_what_was_done_is_told(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(clone), "--preset", "cpu"]) == 0
    told = " ".join(capsys.readouterr())
    for words in (
        "yours is kept as `prepare.upstream.py`",
        "your branch autoresearch/mar8 stays as it is",
        "on autoresearch/mar8-lab",
        "results.tsv stays as it is",
        "`max_lines = 0`",
        "line 5: uv run train.py > run.log",
        "line 7: LOOP FOREVER",
        "autoresearch prepare && autoresearch run",
    ):
        assert words in told


def test_a_second_time_changes_nothing(clone: Path) -> None:
    move_in(clone)
    before, head = everything(clone), git(clone, "rev-parse", "HEAD")
    made = move_in(clone)
    assert (everything(clone), git(clone, "rev-parse", "HEAD")) == (before, head)
    assert (made.tag, made.written) == ("mar8-lab", ())


def test_a_prepare_py_that_differs_from_an_old_copy_gets_another_name(clone: Path) -> None:
    (clone / "prepare.upstream.py").write_text("mine\n")
    move_in(clone)
    assert (clone / "prepare.upstream.py").read_text() == "mine\n"
    assert (clone / "prepare.upstream-2.py").read_text() == PREPARE


def test_names_added_to_the_labs_prepare_py_stay(clone: Path) -> None:
    move_in(clone)
    path = clone / "prepare.py"
    path.write_text(path.read_text() + "MINE = 1\n")
    move_in(clone)
    assert path.read_text().endswith("MINE = 1\n")
    assert not (clone / "prepare.upstream-2.py").exists()


def test_a_branch_with_a_slash_needs_no_word_of_the_user(clone: Path) -> None:
    git(clone, "checkout", "-q", "master")
    git(clone, "branch", "-qD", "autoresearch/mar8")
    git(clone, "checkout", "-qb", "autoresearch/mar8/gpu0")
    assert move_in(clone).tag == "mar8-gpu0-lab"


def test_a_branch_that_is_named_is_taken(clone: Path) -> None:
    assert move_in(clone, tag="mar8").tag == "mar8"
    assert git(clone, "branch", "--show-current") == "autoresearch/mar8"


def test_a_branch_of_the_user_is_left_with_its_prepare_py(clone: Path) -> None:
    move_in(clone, tag="one")
    git(clone, "checkout", "-q", "master")
    move_in(clone, tag="one")
    assert git(clone, "branch", "--show-current") == "master"
    assert (clone / "prepare.py").read_text() == PREPARE


@pytest.mark.parametrize("prepare", [None, PREPARE])
def test_a_script_without_the_labs_prepare_py_is_refused_before_training(
    tmp_path: Path, prepare: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lab"
    scaffold(folder, preset="cpu", tag="t")
    (folder / "train.py").write_text(CODE)
    if prepare:
        (folder / "prepare.py").write_text(prepare)
    with pytest.raises(PrerequisiteError, match="as scripts of karpathy's autoresearch do"):
        working_files(folder, ["train.py"])
    monkeypatch.chdir(folder)
    from autoresearch.paths import RunDirectory
    from autoresearch.record.record import Record
    from autoresearch.session.run import _check_imports

    with Record.open(RunDirectory(folder)) as record:
        with pytest.raises(PrerequisiteError):
            _check_imports(record, ["train.py"])
        scaffold(folder, preset="cpu")  # as the hint says
        _check_imports(record, ["train.py"])
    assert flat.shape_of(folder) is flat.Shape.FLAT


def test_a_module_that_git_does_not_know_is_named_before_training(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_in(clone)
    (clone / "train.py").write_text("import model\nimport random\n" + CODE)
    (clone / "model.py").write_text("")
    (clone / "random.py").write_text("")
    with pytest.raises(PrerequisiteError, match=r"imports from model\.py, which no commit"):
        working_files(clone, ["train.py"])
    git(clone, "add", "model.py")
    git(clone, "commit", "-qm", "model")
    assert "model.py" in working_files(clone, ["train.py"])


def test_json_names_what_was_moved(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(clone), "--preset", "cpu", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["tag"], "prepare.py" in told["written"]) == ("mar8-lab", True)
    assert any("prepare.upstream.py" in note for note in told["notes"])


def test_a_table_of_another_metric_is_not_said_to_be_read(clone: Path, capsys) -> None:
    (clone / "results.tsv").write_text(
        "commit\tval_rmse\tstatus\tdescription\na1\t3\tkeep\tbaseline\n"
    )
    assert main(["init", str(clone), "--preset", "cpu"]) == 0
    told = " ".join(" ".join(capsys.readouterr()).split())
    assert "proposers do not see it" in told
    assert "has no column `val_bpb`" in told
