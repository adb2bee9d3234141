"""Counting what a hostile child uses where no control group does, and removing what it left."""

import os
import subprocess
import sys
from pathlib import Path

from autoresearch.sandbox import landlock
from autoresearch.sandbox.launcher.folders import measure, wipe
from autoresearch.sandbox.launcher.kernel import usage


def test_wipe_removes_what_is_deep_locked_linked_and_odd(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    os.mkfifo(folder / "fifo")
    (folder / "locked").mkdir()
    (folder / "locked" / "inner").mkdir()
    (folder / "locked" / "inner" / "file").write_text("x")
    (folder / "locked").chmod(0)
    (folder / "1.wiped").mkdir()
    (folder / "new\nline").write_text("x")
    here = os.open(".", os.O_RDONLY)
    os.chdir(folder)
    for _ in range(1500):
        Path("d").mkdir()
        os.chdir("d")
    os.fchdir(here)
    os.close(here)
    assert measure(str(folder))[1] == "limit of 200 nested folders"
    wipe(str(folder))
    assert not list(folder.iterdir())
    assert (outside / "kept").read_text() == "x"


def test_memory_in_files_without_a_name_is_counted_once() -> None:
    code = """
import os, time
file = os.memfd_create("zoo")
os.write(file, bytes(96 << 20))
if os.fork(): print("ready", flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        assert child.stdout.readline() == "ready\n"
        try:
            pids = [int(p.name) for p in Path("/proc").glob("[0-9]*") if is_in(p, child.pid)]
            memory_mb, threads = usage(pids)
        finally:
            os.killpg(child.pid, 9)
    assert len(pids) == threads == 2
    assert 96 <= memory_mb < 180


def is_in(process: Path, session: int) -> bool:
    try:
        return os.getsid(int(process.name)) == session
    except OSError:
        return False


def test_links_to_the_package_go_with_their_lab_also_one_that_was_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(landlock.tempfile, "tempdir", str(tmp_path))
    names = {name: tmp_path / f"autoresearch-path-{name}" for name in ("gone", "young", "living")}
    for folder in names.values():
        folder.mkdir()
        (folder / "autoresearch").symlink_to(tmp_path)
    for name in ("gone", "living"):
        os.utime(names[name], (0, 0))
    lock = landlock._held(names["living"])
    try:
        own = landlock._package_link.__wrapped__()
        assert {*names.values()} & {*tmp_path.iterdir()} == {names["young"], names["living"]}
        assert landlock._held(own) is None
    finally:
        os.close(lock)
