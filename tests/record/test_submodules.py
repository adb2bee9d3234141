"""Submodules, links and executable files of the person's repository stay what they are."""

from collections.abc import Callable
from pathlib import Path

import pytest
from record_support import TRAIN, Night, git, undo

from autoresearch.errors import PrerequisiteError, WorkError
from autoresearch.record.branches import check_editable
from autoresearch.record.git import SUBMODULE
from autoresearch.record.git_command import ConflictError
from autoresearch.record.record import Record
from autoresearch.record.sessions import begin_from
from autoresearch.session.build import working_files
from autoresearch.types import Proposal, Verdict


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Return a repository with two commits, the older one tagged `old`."""
    folder = tmp_path / "library"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for name in ("old", "new"):
        (folder / "code.py").write_text(f"# {name}\n")
        git(folder, "add", ".")
        git(folder, "commit", "-qm", name)
        git(folder, "tag", name)
    return folder


@pytest.fixture
def night(tmp_path: Path, library: Path, make_record: Callable[..., Record]) -> Night:
    """Return a session in a repository with a submodule, a link and an executable train.py."""
    root = tmp_path / "lab"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    git(
        root, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library), "lib"
    )
    (root / "latest").symlink_to("notes.txt")
    git(root, "add", "latest")
    git(root, "commit", "-qm", "mine")
    (root / "train.py").write_text(TRAIN)
    (root / "train.py").chmod(0o755)
    night = Night(make_record())
    night.start()
    return night


def _modes(night: Night, commit: str) -> dict[str, str]:
    lines = git(night.root, "ls-tree", "-r", commit).splitlines()
    return {line.split("\t")[1]: line[:6] for line in lines}


def _move_submodule(night: Night, name: str) -> str:
    git(night.root / "lib", "checkout", "-q", name)
    git(night.root, "commit", "-qam", f"library at {name}")
    night.record.sync_tip()
    return night.record.tip()


def test_a_session_keeps_submodules_links_and_executable_files(night: Night) -> None:
    night.try_out(night.knob(3, 33))
    night.try_out(night.knob(4, 44))
    undo(night.record, "1")
    changed = git(night.root, "diff", "--name-only", "main", night.record.branch).split()
    assert not {"lib", "latest", ".gitmodules"} & set(changed)
    modes = _modes(night, night.record.tip())
    assert (modes["lib"], modes["latest"], modes["train.py"]) == (SUBMODULE, "120000", "100755")
    assert git(night.root, "status", "--porcelain") == ""
    assert git(night.root, "fsck", "--strict", "--no-dangling") == ""


def test_a_trial_is_given_files_and_no_submodule_or_link(night: Night) -> None:
    committed = night.record.files(night.record.tip())
    lying = working_files(night.root, ["train.py"])
    assert set(committed) == set(lying) >= {"train.py", ".gitmodules"}
    assert not {"lib", "latest"} & set(lying)


def test_a_submodule_that_the_person_moved_does_not_stop_the_files(night: Night) -> None:
    moved = _move_submodule(night, "old")
    assert night.hand_edit() is None
    assert night.record.worktree.given() == moved
    night.try_out(night.knob(3, 33))
    assert "KNOB_03 = 33" in (night.root / "train.py").read_text()
    assert git(night.root, "status", "--porcelain") == ""


def test_going_back_sets_the_submodule_as_a_checkout_does(night: Night) -> None:
    before = night.record.repository.entries(night.record.tip())["lib"]
    _move_submodule(night, "old")
    commit = undo(night.record, to="baseline")
    assert night.record.repository.entries(commit)["lib"] == before
    assert night.record.worktree.given() == commit
    assert git(night.root, "diff", "--cached") == ""
    assert (night.root / "lib" / "code.py").read_text() == "# old\n"


def test_a_new_session_may_begin_before_the_submodule_was_there(night: Night) -> None:
    git(night.root, "rm", "-q", "--cached", "lib")
    git(night.root, "commit", "-qm", "without library")
    without = git(night.root, "rev-parse", "HEAD")
    git(night.root, "checkout", "-q", "-f", "main")
    with begin_from(night.record.run_directory, "second", without) as record:
        assert "lib" not in record.repository.entries(record.tip())
    assert (night.root / "lib" / "code.py").exists()
    assert git(night.root, "diff", "--cached") == ""
    with begin_from(night.record.run_directory, "third", "main") as record:
        assert record.repository.entries(record.tip())["lib"].mode == SUBMODULE
    assert git(night.root, "status", "--porcelain") == ""


def test_a_submodule_cannot_be_merged_and_is_a_conflict(night: Night) -> None:
    moved = _move_submodule(night, "old")
    experiment = night.record.propose(
        Proposal(description="older library", files={}, parent=moved, proposer="human"), 1, b""
    )
    night.number = 2
    night.record.judge(experiment.number, Verdict.KEEP, "baseline")
    git(night.root / "lib", "commit", "-q", "--allow-empty", "-m", "mine")
    git(night.root, "commit", "-qam", "another library")
    night.record.sync_tip()
    with pytest.raises(ConflictError, match="cannot be undone alone"):
        undo(night.record, "1")


def test_a_file_inside_a_submodule_is_refused(
    night: Night, make_record: Callable[..., Record]
) -> None:
    proposal = Proposal(
        description="x", files={"lib/code.py": "x"}, parent=night.record.tip(), proposer="command"
    )
    with pytest.raises(WorkError, match="`lib` is a submodule"):
        night.record.propose(proposal, 1, b"")
    with pytest.raises(WorkError, match="`lib` is a submodule"):
        Record.create(night.record.run_directory, "nov21", ["lib/code.py"])
    assert git(night.root, "status", "--porcelain") == ""


def test_what_an_experiment_may_change_must_be_a_file_of_the_branch(night: Night) -> None:
    check_editable(night.record.repository, "nov21", ["train.py", "not/yet.py"])
    for path in ("latest", "lib"):
        with pytest.raises(PrerequisiteError, match=f"`{path}` .* is a link or a submodule"):
            check_editable(night.record.repository, "nov21", ["train.py", path])
    with pytest.raises(PrerequisiteError, match=r"has no `model\.py`"):
        check_editable(night.record.repository, "nov21", ["model.py"])


def test_an_undone_change_of_mode_is_undone_with_the_text(night: Night) -> None:
    (night.root / "train.py").chmod(0o644)
    (night.root / "train.py").write_text(night.knob(3, 33))
    git(night.root, "commit", "-qam", "mine")
    tip = night.record.sync_tip()
    night.record.propose(
        Proposal(description="mine", files={}, parent=tip, proposer="human"), 1, b""
    )
    night.number = 2
    night.record.judge(1, Verdict.KEEP, "baseline")
    night.try_out(night.knob(9, 99))
    assert _modes(night, undo(night.record, "1"))["train.py"] == "100755"
