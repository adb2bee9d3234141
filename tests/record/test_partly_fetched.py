"""A record whose beginning, or end, was not fetched is never taken for one that begins."""

from pathlib import Path

import pytest
from record_support import Night, git

from autoresearch.errors import PrerequisiteError
from autoresearch.paths import RunDirectory
from autoresearch.record.record import Record
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
