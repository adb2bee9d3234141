"""A record of which a part was not fetched, by depth, filter or branch, is never taken for a whole one."""

import subprocess
from pathlib import Path

import pytest
from record_support import Night, git

from autoresearch.bootstrap.scaffold import scaffold
from autoresearch.cli import main
from autoresearch.errors import PrerequisiteError, WorkError
from autoresearch.paths import RunDirectory
from autoresearch.record.record import Record
from autoresearch.record.refs import FETCH
from autoresearch.record.remote import push

ALL = "refs/autoresearch/*:refs/autoresearch/*"
BRANCH = "autoresearch/nov21"


@pytest.fixture
def remote(night: Night, tmp_path: Path) -> Path:
    folder = tmp_path / "remote.git"
    git(tmp_path, "init", "-q", "--bare", str(folder))
    git(night.root, "remote", "add", "origin", str(folder))
    night.try_out(night.knob(3, 33))
    push(night.record)
    return folder


def test_a_record_without_its_beginning_is_neither_read_nor_written(
    night: Night, remote: Path, tmp_path: Path
) -> None:
    clone, address = tmp_path / "clone", f"file://{remote}"
    git(tmp_path, "clone", "-q", "--depth", "1", "-b", BRANCH, address, str(clone))
    git(clone, "fetch", "-q", "--depth", "1", "origin", ALL)
    before = git(clone, "for-each-ref")
    with Record.open(RunDirectory(clone)) as record:
        for use in (record.session, lambda: record.alert("x"), lambda: push(record)):
            with pytest.raises(PrerequisiteError, match="its beginning is missing"):
                use()
    assert git(clone, "for-each-ref") == before


def test_a_branch_fetched_alone_begins_no_record(
    night: Night, remote: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half"
    git(tmp_path, "init", "-q", str(half))
    git(half, "fetch", "-q", str(remote), f"{BRANCH}:{BRANCH}")
    git(half, "checkout", "-q", BRANCH)
    with (
        Record.open(RunDirectory(half)) as record,
        pytest.raises(PrerequisiteError, match="is not in this clone"),
    ):
        record.check_fetched()
    night.record.check_fetched()


def test_a_branch_newer_than_its_record_is_not_continued(
    night: Night, remote: Path, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "-b", BRANCH, str(remote), str(clone))
    git(clone, "fetch", "-q", "origin", ALL)
    night.try_out(night.knob(4, 44))
    push(night.record)
    git(clone, "pull", "-q")
    with Record.open(RunDirectory(clone)) as record:
        for use in (record.check_fetched, lambda: push(record)):
            with pytest.raises(PrerequisiteError, match="does not hold all experiments") as info:
                use()
        command = info.value.hint.split("`")[1]
        subprocess.run(command, cwd=clone, shell=True, check=True, capture_output=True)
        record.check_fetched()
        assert record.session().experiment(2).commit == night.record.tip()


@pytest.fixture
def filtered(remote: Path, tmp_path: Path) -> Path:
    """A clone whose remote kept all files but those of the checkout, and is away."""
    git(remote, "config", "uploadpack.allowFilter", "true")
    clone = tmp_path / "filtered"
    address = f"file://{remote}"
    git(tmp_path, "clone", "-q", "--filter=blob:none", "-b", BRANCH, address, str(clone))
    subprocess.run(FETCH, cwd=clone, shell=True, check=True, capture_output=True)
    remote.rename(remote.with_suffix(".away"))
    return clone


LACKS = "is a partial clone, and lacks files"


@pytest.mark.parametrize("is_linked", [False, True])
@pytest.mark.parametrize("says", ["could not fetch", "missing"])
def test_a_filtered_clone_says_what_to_do_and_that_helps(
    filtered: Path, remote: Path, tmp_path: Path, is_linked: bool, says: str, monkeypatch, capsys
) -> None:
    """Git 2.44 and newer says `missing`, as an older one where the remote is not marked; older ones die."""
    if says == "missing":
        git(filtered, "config", "--unset", "remote.origin.promisor")
    folder = filtered
    if is_linked:
        folder = tmp_path / "linked"
        git(filtered, "checkout", "-q", "--detach")
        git(filtered, "worktree", "add", "-q", str(folder), BRANCH)
    monkeypatch.chdir(folder)
    assert main(["log"]) == 0  # commits and trees are there
    assert LACKS in capsys.readouterr().err  # what was tried before is not known
    for words in (["diff", "baseline", "best"], ["report", "-o", "r.html"]):
        assert main(words) == 1, words
        told = " ".join(capsys.readouterr().err.split())
        assert LACKS in told
    with Record.open(RunDirectory(folder)) as record:
        first = record.session().experiment(0)
        with pytest.raises(WorkError, match=LACKS) as info:
            record.repository.file_at(first.commit, "train.py")
        assert record.repository.file_at(first.commit, "none.py") is None
    remote.with_suffix(".away").rename(remote)
    git(filtered, "config", "remote.origin.promisor", "true")
    command = info.value.hint.split("`")[1]
    subprocess.run(command, cwd=folder, shell=True, check=True, capture_output=True)
    remote.rename(remote.with_suffix(".away"))
    assert git(filtered, "rev-list", "--objects", "--all", "--missing=print").count("?") == 0
    assert main(["diff", "baseline", "best"]) == 0
    assert "+KNOB_03 = 33" in capsys.readouterr().out


def test_a_sparse_checkout_is_told_and_init_takes_the_files_of_the_branch(
    night: Night, tmp_path: Path, monkeypatch, capsys
) -> None:
    root = night.root
    git(root, "status")
    git(root, "sparse-checkout", "set", "--no-cone", "/train.py")
    assert not (root / "autoresearch.toml").exists()
    monkeypatch.chdir(root)
    assert main(["log"]) == 3
    assert "git sparse-checkout disable" in " ".join(capsys.readouterr().err.split())
    tip = night.record.tip()
    made = scaffold(root)
    assert {"autoresearch.toml", "program.md"} <= set(made.written)
    assert (root / "program.md").read_text() == git(root, "show", "HEAD:program.md") + "\n"
    assert git(root, "rev-parse", "HEAD") == tip


@pytest.mark.parametrize("name", ["autoresearch.toml", "train.py"])
def test_init_brings_back_a_deleted_file_as_the_session_has_it(night: Night, name: str) -> None:
    night.try_out(night.knob(3, 33))
    path, tip = night.root / name, night.record.tip()
    before = path.read_bytes()
    path.unlink()
    scaffold(night.root)
    assert path.read_bytes() == before
    assert night.record.tip() == tip
    assert git(night.root, "status", "--porcelain", "--untracked-files=no") == ""
