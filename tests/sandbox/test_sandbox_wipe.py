"""Removing what a hostile child left."""

import os
from pathlib import Path

from autoresearch.trial.sandbox.launcher.folders import measure, wipe


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
