"""A full disk, a folder that cannot be written, a directory that was renamed, no git: said, and survived."""

import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kill_support import BINDING, CAN_BIND
from record_support import Night, git

import autoresearch
from autoresearch.config import load_config
from autoresearch.errors import AutoresearchError, PrerequisiteError, WorkError
from autoresearch.events import Noted
from autoresearch.paths import RunDirectory
from autoresearch.record.git import RefUpdate
from autoresearch.record.git_command import FLUSHING_GIT, explain, git_environment, git_version
from autoresearch.record.record import Record
from autoresearch.session.housekeeping import Upkeep

FAKE_GIT = """#!/bin/sh
if [ -e {flag} ]; then
  case "$1" in hash-object|commit-tree|update-ref|update-index)
    if [ "$1" = "$(cat {flag})" ]; then
      echo "error: unable to write file: No space left on device" >&2; exit 128; fi ;;
  esac
fi
exec {git} "$@"
"""


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file whose content names the git command that finds the disk full."""
    flag, folder = tmp_path / "full", tmp_path / "bin"
    folder.mkdir()
    (folder / "git").write_text(FAKE_GIT.format(flag=flag, git=shutil.which("git")))
    (folder / "git").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return flag


@pytest.mark.parametrize("command", ["hash-object", "commit-tree", "update-ref"])
def test_a_full_disk_stops_cleanly_and_the_session_goes_on_after(
    full_disk: Path, make_record: object, tmp_path: Path, command: str
) -> None:
    record = make_record()  # type: ignore[operator]
    night = Night(record)
    night.start()
    night.try_out(night.knob(1, 11))
    before = night.record.session()
    full_disk.write_text(command)
    with pytest.raises(WorkError, match=r"the disk .* is full") as caught:
        night.try_out(night.knob(2, 22))
    assert caught.value.kind == "disk"
    assert "goes on" in (caught.value.hint or "")
    assert night.record.session() == before
    full_disk.unlink()
    night.number = 2
    night.try_out(night.knob(2, 22))
    assert night.record.session().best == 2
    assert git(night.root, "fsck", "--strict", "--no-dangling") == ""
    assert git(night.root, "status", "--porcelain") == ""


def test_a_full_disk_between_verdict_and_working_tree_is_made_up_for(
    full_disk: Path, make_record: object
) -> None:
    record = make_record()  # type: ignore[operator]
    night = Night(record)
    night.start()
    full_disk.write_text("update-index")
    with pytest.raises(WorkError, match="is full"):
        night.try_out(night.knob(2, 22))
    assert night.record.session().best == 1
    full_disk.unlink()
    assert night.record.update_worktree(night.record.tip())
    assert git(night.root, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("stderr", "kind", "words"),
    [
        ("fatal: unable to write: Disk quota exceeded", "disk", "is full"),
        ("fatal: sha1 file 'index.lock' write error. Out of diskspace", "disk", "is full"),
        ("error: unable to create temporary file: Read-only file system", "disk", "cannot write"),
        ("fatal: Unable to create 'HEAD.lock': Operation not permitted", "disk", "cannot write"),
        ("fatal: something else", "git", "`git mktree` failed: fatal: something else"),
        ("", "git", "exit code 1"),
    ],
)
def test_what_git_says_is_explained(tmp_path: Path, stderr: str, kind: str, words: str) -> None:
    error = explain("mktree", 1, stderr, tmp_path)
    assert error.kind == kind
    assert words in error.message
    assert error.hint


@pytest.fixture
def bound_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have git bound by the permissions of files, which do not bind root otherwise."""
    folder = tmp_path / "bin"
    folder.mkdir()
    exe = folder / "git"
    exe.write_text(f'#!/bin/sh\nexec {shlex.join(BINDING)} {shutil.which("git")} "$@"\n')
    exe.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


WRITES = {
    "hash-object": lambda r: r.write_blob(b"new"),
    "commit-tree": lambda r: r.write_commit(r.tree("HEAD"), [], "new", "2026-11-21T00:00:00Z"),
    "update-ref": lambda r: r.update_refs([RefUpdate("refs/new", r.ref("HEAD"), "")], "test"),
    "symbolic-ref": lambda r: r.set_head("refs/heads/new"),
    "update-index": lambda r: r.stage({"train.py": None}),
    "repack": lambda r: r.pack(),
}


@pytest.mark.skipif(not CAN_BIND, reason="nothing is read-only here")
@pytest.mark.parametrize("verb", WRITES)
def test_what_git_may_not_write_is_explained(bound_git: None, night: Night, verb: str) -> None:
    repository = night.record.repository
    folders = [p for p in (night.root / ".git").rglob("*") if p.is_dir()]
    for folder in (night.root / ".git", *folders):
        folder.chmod(0o555)
    try:
        with pytest.raises(WorkError, match="cannot write to the repository") as caught:
            WRITES[verb](repository)
        assert caught.value.kind == "disk"
    finally:
        for folder in (night.root / ".git", *folders):
            folder.chmod(0o755)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder_is_read_and_not_written(night: Night) -> None:
    folder = night.root / ".git" / "autoresearch"
    night.root.chmod(0o555)
    folder.chmod(0o555)
    (folder / "write.lock").chmod(0o444)
    try:
        with Record.open(night.record.run_directory) as record:
            assert len(record.session().experiments) == 1
            with pytest.raises(WorkError, match="cannot write") as caught:
                record.append(Noted(text="x"))
            assert caught.value.kind == "disk"
    finally:
        night.root.chmod(0o755)
        folder.chmod(0o755)
        (folder / "write.lock").chmod(0o644)


def test_a_renamed_run_directory_is_said_and_not_made_again(night: Night, tmp_path: Path) -> None:
    new = tmp_path / "renamed"
    with night.record.presence.lock():
        night.root.rename(new)
        for work in (
            lambda: night.record.append(Noted(text="x")),
            night.record.session,
            night.record.tip,
            lambda: Upkeep(night.record, load_config(None).config)._write_results(),
            lambda: night.record.update_worktree("HEAD"),
        ):
            with pytest.raises(AutoresearchError, match="was moved or deleted"):
                work()
        night.record.presence.set_status({"phase": "train"})
        assert not night.root.exists()
        with Record.open(RunDirectory(new)) as record:
            assert record.session().state == "running"
    with Record.open(RunDirectory(new)) as record:
        Night(record, number=1).try_out(Night(record).knob(3, 33))
        assert record.session().best == 1


def test_a_missing_git_is_said(
    night: Night, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    night.record.close()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PrerequisiteError, match="`git` is missing") as caught:
        Record.open(night.record.run_directory).session()
    assert caught.value.kind == "git_missing"


def test_no_repository_is_said(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="not a git repository") as caught:
        Record.open(RunDirectory(tmp_path))
    assert caught.value.kind == "not_a_run_directory"


def test_a_linked_working_tree_has_its_own_lock(night: Night, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    git(night.root, "worktree", "add", "-q", "--detach", str(linked))
    with Record.open(RunDirectory(linked)) as record, night.record.presence.lock():
        assert record.tag == "nov21"
        assert record.repository.common_dir == night.record.repository.git_dir
        record.append(Noted(text="from the other"))
    assert night.record.session().notes[-1].text == "from the other"


@pytest.mark.skipif(git_version() < FLUSHING_GIT, reason="this git cannot flush refs")
def test_every_object_and_ref_is_flushed_to_the_disk(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "trace"
    repository = night.record.repository
    monkeypatch.setattr(
        repository, "_environment", {**repository._environment, "GIT_TRACE2_EVENT": str(trace)}
    )
    night.record.append(Noted(text="x"), files={"a": b"content", "b/c": b"more"})
    flushed, command = set(), ""
    for line in trace.read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "cmd_name":
            command = event["name"]
            flushed.discard(command)
        if event.get("category") == "fsync" and event["value"] != "0":
            flushed.add(command)
    assert flushed == {"hash-object", "commit-tree", "update-ref"}


def _pretend(folder: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have git say that it is another version."""
    (folder / "git").write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo git version {version} && exit\n'
        f'exec {shutil.which("git")} "$@"\n'
    )
    (folder / "git").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_a_git_that_is_too_old_is_refused(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend(tmp_path, "2.31.8", monkeypatch)
    with pytest.raises(PrerequisiteError, match=r"git 2\.31\.8 at .* is too old") as caught:
        Record.open(night.record.run_directory)
    assert "2.32" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("version", "setting"), [("2.34.1", "core.fsyncObjectFiles"), ("2.36.0", "core.fsync")]
)
def test_git_is_told_to_flush_in_the_words_of_its_version(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, setting: str
) -> None:
    _pretend(tmp_path, version, monkeypatch)
    environment = git_environment(night.root)
    keys = {environment[f"GIT_CONFIG_KEY_{n}"] for n in range(int(environment["GIT_CONFIG_COUNT"]))}
    assert {key for key in keys if key in ("core.fsync", "core.fsyncObjectFiles")} == {setting}


def test_git_warns_of_no_setting(night: Night) -> None:
    done = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"],
        input=b"content",
        env=git_environment(night.root),
        cwd=night.root,
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""


AWAKE = """
import signal, sys
from autoresearch.session.signals import kept_awake
with kept_awake() as is_kept:
    print(is_kept, flush=True)
    signal.pause()
"""


def test_what_keeps_the_machine_awake_ends_with_a_killed_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`systemd-inhibit` starts its command as a child and ends when that does."""
    fake = tmp_path / "bin" / "systemd-inhibit"
    fake.parent.mkdir()
    fake.write_text(
        f'#!/bin/sh\nwhile [ "${{1#--}}" != "$1" ]; do shift; done\n"$@"\ntouch {tmp_path}/ended\n'
    )
    fake.chmod(stat.S_IRWXU)
    path = f"{fake.parent}{os.pathsep}{os.environ['PATH']}"
    code = AWAKE.replace(
        "import signal",
        "import os\nos.path.isdir = lambda path: path == '/run/systemd/system'\nimport signal",
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(Path(autoresearch.__file__).parents[1])},
    ) as lab:
        assert lab.stdout is not None
        said = lab.stdout.readline()
        was_ended = (tmp_path / "ended").exists()
        lab.kill()
    assert (said, was_ended) == ("True\n", False)
    deadline = time.monotonic() + 60
    while not (tmp_path / "ended").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
