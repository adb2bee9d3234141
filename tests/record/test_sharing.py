"""A session goes to a remote whole, and never over another one."""

import json
import shlex
from pathlib import Path

import pytest
from record_support import Night, git

import autoresearch
from autoresearch.cli import main
from autoresearch.errors import UsageError, WorkError
from autoresearch.paths import RunDirectory
from autoresearch.record.record import Record
from autoresearch.record.refs import FETCH
from autoresearch.record.remote import push
from autoresearch.record.sessions import begin_from


@pytest.fixture
def remote(night: Night, tmp_path: Path) -> Path:
    """Return a bare repository that is the run directory's `origin`."""
    folder = tmp_path / "remote.git"
    git(tmp_path, "init", "-q", "--bare", str(folder))
    git(night.root, "remote", "add", "origin", str(folder))
    return folder


def test_what_was_pushed_is_read_in_a_clone(night: Night, remote: Path, tmp_path: Path) -> None:
    night.try_out(night.knob(3, 33))
    night.try_out(night.knob(4, 44), keep=False)
    night.end()
    done = push(night.record)
    assert set(done.changed) == {"refs/heads/autoresearch/nov21", "refs/autoresearch/nov21/journal"}
    assert push(night.record).changed == ()
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "-b", "autoresearch/nov21", str(remote), str(clone))
    git(clone, "fetch", "-q", "origin", "refs/autoresearch/*:refs/autoresearch/*")
    assert autoresearch.read_session(clone) == night.record.session()
    with Record.open(RunDirectory(clone)) as record:
        assert record.diff(*[e.commit for e in record.session().experiments[:2]])
        resumed = Night(record, number=3)
        resumed.try_out(resumed.knob(9, 99))
        assert (clone / "train.py").read_text().count("KNOB_09 = 99\n") == 1
        assert len(push(record).changed) == 2


def test_another_history_is_not_overwritten(night: Night, remote: Path, tmp_path: Path) -> None:
    push(night.record)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "-b", "autoresearch/nov21", str(remote), str(clone))
    git(clone, "fetch", "-q", "origin", "refs/autoresearch/*:refs/autoresearch/*")
    with Record.open(RunDirectory(clone)) as record:
        theirs = Night(record, number=1)
        theirs.try_out(theirs.knob(9, 99))
        push(record)
    night.try_out(night.knob(3, 33))
    before = git(remote, "for-each-ref")
    with pytest.raises(WorkError, match="holds other experiments") as caught:
        push(night.record)
    assert "--from best" in (caught.value.hint or "")
    assert git(remote, "for-each-ref") == before


def test_a_remote_that_is_not_there_is_said(night: Night, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no remote `origin`") as caught:
        push(night.record)
    assert "git remote add" in (caught.value.hint or "")
    with pytest.raises(WorkError, match="cannot send to"):
        push(night.record, str(tmp_path / "nowhere.git"))


@pytest.mark.parametrize("name", ["pre-push", "reference-transaction"])
def test_hooks_do_not_run(night: Night, remote: Path, name: str) -> None:
    hook = night.root / ".git" / "hooks" / name
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    git(night.root, "config", "core.hooksPath", str(hook.parent))
    assert push(night.record).changed


def test_a_fetch_that_prunes_deletes_no_session(
    night: Night, remote: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sessions that were not pushed are not at the remote, and go with its refspec: not with the documented command."""
    git(night.root, "config", "fetch.prune", "true")
    git(night.root, *shlex.split(FETCH)[1:])
    assert git(night.root, "for-each-ref", "refs/autoresearch/nov21/journal")
    before = night.record.session()
    git(night.root, "fetch", "-q", "origin", "refs/autoresearch/*:refs/autoresearch/*")
    assert not git(night.root, "for-each-ref", "refs/autoresearch/nov21/journal")
    with Record.open(night.record.run_directory) as record:
        assert record.session() == before
        assert len(push(record).changed) == 2
    monkeypatch.chdir(night.root)
    assert main(["log", "--json"]) == 0
    assert [e["number"] for e in json.loads(capsys.readouterr().out)["experiments"]] == [0]


@pytest.mark.parametrize("is_spare_gone", [False, True])
def test_a_journal_that_is_deleted_in_mid_run_is_written_again(
    night: Night, is_spare_gone: bool
) -> None:
    experiment = night.propose(night.knob(3, 33), "x")
    for ref in git(night.root, "for-each-ref", "--format=%(refname)", "refs/autoresearch/").split():
        git(night.root, "update-ref", "-d", ref)
    if is_spare_gone:
        git(night.root, "update-ref", "-d", "refs/autoresearch-spare/nov21")
    night.trial(experiment.number, 1.2)
    night.keep(experiment.number)
    with Record.open(night.record.run_directory) as record:
        session = record.session()
    assert [len(e.trials) for e in session.experiments] == [1, 1]
    assert session.best == 1
    assert ["was deleted by another program" in a.text for a in session.alerts] == [True]


@pytest.mark.parametrize("verb", ["init", "from"])
def test_a_session_that_the_user_deleted_does_not_come_back(night: Night, verb: str) -> None:
    where, first = night.record.run_directory, night.record.tip()
    git(night.root, "checkout", "-q", "-b", "main")
    git(night.root, "branch", "-q", "-D", "autoresearch/nov21")
    for ref in git(night.root, "for-each-ref", "--format=%(refname)", "refs/autoresearch/").split():
        git(night.root, "update-ref", "-d", ref)
    made = (
        Record.create(where, "nov21", ["train.py"])
        if verb == "init"
        else begin_from(where, "nov21", first)
    )
    with made as record:
        assert record.session().experiments == ()
