"""Control groups that another keeper, or nobody, left; and limits where a group is gone."""

import os
import time

from autoresearch.sandbox.launcher.groups import Group, clear_left_behind

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
