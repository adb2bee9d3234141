"""Control groups that another keeper, or nobody, left; and limits where a group is gone."""

import os
import subprocess
import time

import pytest

from autoresearch.sandbox.launcher import groups
from autoresearch.sandbox.launcher.groups import Group, clear_left_behind
from autoresearch.trial.process import tree_pids
from autoresearch.trial.telemetry import MemoryMeter

NOBODY = 2**22 + 1
"""A pid above the largest there can be."""


def test_only_old_groups_of_processes_that_are_gone_are_taken_away(tmp_path):
    old = time.time() - 3600
    names = {
        f"autoresearch-{NOBODY}-0a1b2c3d": old,
        f"autoresearch-{NOBODY}": old,
        f"autoresearch-{NOBODY}-young": time.time() - 5,
        f"autoresearch-{os.getpid()}-0a1b2c3d": old,
        f"somebody-{NOBODY}": old,
        f"autoresearch-{NOBODY}-full": old,
    }
    for name in names:
        (tmp_path / name).mkdir()
    # What refuses here because a file is in it, refuses there because a process is.
    (tmp_path / f"autoresearch-{NOBODY}-full" / "cgroup.procs").write_text("7\n")
    for name, at in names.items():
        os.utime(tmp_path / name, (at, at))
    clear_left_behind(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == set(list(names)[2:])


def test_a_group_holds_those_that_are_in_all_its_parts(tmp_path):
    group = Group(0, 100)
    group.remove()
    assert not group.holds(7)
    for name, text in (("memory", "7\n8\n"), ("pids", "7\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").write_text(text)
        group.directories.append(str(tmp_path / name))
    assert [group.holds(pid) for pid in (7, 8, 9)] == [True, False, False]
    assert group.processes() == {7, 8}
    group.directories.append(str(tmp_path / "gone"))
    group.join()
    assert not group.holds(7)


GONE = 'groups.Group._make = lambda self, *_: self.directories.append("/sys/fs/cgroup/nowhere")'


def test_where_the_group_is_gone_memory_is_watched(run):
    code = """
import time
block = bytearray(600 << 20)
for i in range(0, len(block), 4096): block[i] = 1
time.sleep(50)
print("kept it")
"""
    child = run(code, patch=GONE, memory_mb=200)
    assert "memory limit of 200 MB exceeded" in child.err, child
    assert not child.out


USES = {
    "memory file": """
file = os.memfd_create("x")
for _ in range(120): os.write(file, bytes(1 << 20))
""",
    "folder": """
file = os.open(os.environ["TMPDIR"] + "/x", os.O_CREAT | os.O_RDWR)
for _ in range(120): os.write(file, bytes(1 << 20))
""",
    "workers": """
held = b"x" * (120 << 20)
for _ in range(4):
    if os.fork() == 0:
        time.sleep(60); os._exit(0)
""",
}


@pytest.mark.parametrize("patch", ["", GONE], ids=["group", "no-group"])
@pytest.mark.parametrize("what", USES)
def test_a_trial_is_metered_for_what_it_has_of_its_own_once(start, sandbox, what, patch):
    """Also where nothing maps it, and where several share it."""
    code = "import os, sys, time" + USES[what] + "print('up', flush=True); time.sleep(60)"
    with start(code, patch=patch, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout.readline() == b"up\n"
        meter = MemoryMeter(keeper.pid)
        meter.sample(is_last=True)
        keeper.terminate()
    is_on_disk = what == "folder" and sandbox.name == "landlock"
    low, high = (0, 100) if is_on_disk else (120, 220)
    assert low < meter.peak_mb < high
    assert low < meter.last_mb < high


@pytest.mark.parametrize("sandbox", ["bubblewrap", "landlock"], indirect=True)
def test_a_moment_between_two_looks_is_metered_where_there_is_a_group(start):
    code = """
import os, time
if os.fork() == 0:
    held = b"x" * (200 << 20); os._exit(0)
os.wait()
print("up", flush=True); time.sleep(60)
"""
    with start(code, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout.readline() == b"up\n"
        meter = MemoryMeter(keeper.pid)
        meter.sample(is_last=True)
        is_grouped = any(map(groups.memory_of, tree_pids(keeper.pid)))
        keeper.terminate()
    if not is_grouped:
        pytest.skip("no control group can be made here")
    assert 200 < meter.peak_mb < 300
