"""What others take of the machine, by the kernel's counters."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch.events import Progress
from autoresearch.machine import load
from autoresearch.machine.load import Meter, Reading, between, read

CORES = len(os.sched_getaffinity(0))
TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A kernel that counted 100 busy and 7 stolen ticks on each core of ours, and 1,000 on one that is not."""
    lines = [f"cpu{n} 50 5 40 900 3 2 3 7 0 0" for n in sorted(os.sched_getaffinity(0))]
    lines += ["cpu 1 1 1 1 1 1 1 1 0 0", "cpu9999 1000 0 0 0 0 0 0 1000 0 0", "intr 5 6"]
    (tmp_path / "stat").write_text("\n".join(lines))
    (tmp_path / "meminfo").write_text("")
    return tmp_path


def process(proc: Path, pid: int, parent: int, ticks: tuple[int, int, int, int]) -> None:
    fields = ["S", str(parent), *["0"] * 9, *map(str, ticks), "20"]
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "stat").write_text(f"{pid} (a ) b) {' '.join(fields)}\n")


def test_our_cores_and_our_processes_are_counted(proc):
    me = os.getpid()
    process(proc, me, 1, (10, 5, 3, 2))
    process(proc, me + 1, me, (7, 0, 0, 0))
    process(proc, me + 2, me + 1, (1, 1, 1, 0))
    process(proc, me + 3, 1, (500, 0, 0, 0))
    (proc / str(me + 4)).mkdir()
    found = read(proc)
    assert found is not None
    assert (found.busy, found.stolen, found.ours) == (100 * CORES, 7 * CORES, 20 + 7 + 3)


def test_a_machine_without_counters_says_nothing(tmp_path, proc):
    assert read(tmp_path / "none") is None
    (proc / "stat").write_text("\n".join(f"cpu{n} x" for n in range(64)))
    assert read(proc) is None
    assert between(None, None) is None


def test_shares_are_of_the_cores_time():
    before = Reading(at=100.0, busy=1000, stolen=50, ours=200)
    total = int(10 * CORES * TICKS)
    after = Reading(110.0, 1000 + total // 2, 50 + total // 10, 200 + total // 4)
    found = between(before, after)
    assert found is not None
    assert found.stolen == pytest.approx(0.1, abs=0.001)
    assert found.others == pytest.approx(0.25, abs=0.001)
    assert between(before, replace(after, ours=after.busy * 9)).others == 0.0
    assert between(before, replace(after, at=101.0)) is None


def test_only_training_is_counted_and_seldom_read(monkeypatch):
    clock, taken = [0.0], []

    def reading():
        taken.append(Reading(clock[0], int(10 * clock[0]), int(clock[0]), 0))
        return taken[-1]

    monkeypatch.setattr(load, "read", reading)
    monkeypatch.setattr(load.time, "monotonic", lambda: clock[0])
    meter = Meter()
    assert meter.load() is None
    phases = ["startup"] * 5 + ["train"] * 300 + ["submit"] * 5 + ["claim"] * 20
    for phase in phases:
        progress = Progress(number=1, label="", phase=phase, seconds=1, budget_seconds=300)
        meter.hear(progress)
        clock[0] += 1
    assert meter.load() == between(Reading(5, 50, 5, 0), Reading(300, 3000, 300, 0))
    assert len(taken) == 60


def test_this_machine_is_read():
    before = read()
    sum(i * i for i in range(300_000))
    after = read()
    assert before is not None
    assert after is not None
    assert after.busy >= before.busy
    assert after.ours >= before.ours > 0
