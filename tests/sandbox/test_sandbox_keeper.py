"""A keeper in trouble of its own still tells how the child ended."""

import pytest

NO_THREADS = """
import _thread
def refuse(*_): raise RuntimeError("can't start new thread")
_thread.start_new_thread = refuse
"""
NO_CLEAN_UP = """
def fail(*_): raise OSError("no such luck")
keep.remove_shared = keep.wipe = keep.Keeper.sweep = fail
"""
LOOKS_ONCE_MORE = """
found = ["limit of 7 nested folders"]
keep.measure = lambda folder: (0, found.pop() if found else "")
kill = keep.Keeper.kill_tree
def kill_and_look(self):
    kill(self)
    self.look()
keep.Keeper.kill_tree = kill_and_look
"""


@pytest.mark.parametrize("sandbox", ["landlock"], indirect=True)
def test_a_connection_the_keeper_has_no_thread_for_may_be_tried_again(run):
    code = """
import os, socket
home = os.environ["HOME"]
listener = socket.socket(socket.AF_UNIX); listener.bind(home + "/own"); listener.listen()
for _ in range(300):
    try:
        socket.socket(socket.AF_UNIX).connect(home + "/own")
    except BlockingIOError:
        continue
    raise SystemExit("connected")
raise SystemExit(7)
"""
    child = run(code, patch=NO_THREADS)
    assert child.code == 7, child.err


def test_a_clean_up_that_fails_does_not_hide_how_the_child_ended(run):
    child = run("raise SystemExit(77)", patch=NO_CLEAN_UP, profile="judge")
    assert child.code == 77, child.err
    assert "cannot clean up: no such luck" in child.err


def test_a_limit_is_told_also_if_nothing_is_over_it_after_the_kill(run):
    child = run("import time; time.sleep(50)", patch=LOOKS_ONCE_MORE)
    assert child.code == 122, child.err
    assert "limit of 7 nested folders exceeded" in child.err
