"""Kills a night of the real loop and compares what it came to with an undisturbed one."""

import dataclasses
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
from record_support import git

import autoresearch
from autoresearch.types import Experiment, Session

DRIVER = Path(__file__).with_name("loop_driver.py")


def run_night(root: Path, num: int, *, fault: str = "", kill_after: float | None = None) -> int:
    """Run the loop for `num` experiments in a process group of its own; return its exit code.

    Args:
        root: The run directory, made where it is missing.
        num: Experiments beside the baseline.
        fault: AUTORESEARCH_FAULT.
        kill_after: Seconds after which it is killed.
    """
    path = os.pathsep.join([str(Path(autoresearch.__file__).parents[1]), str(DRIVER.parent)])
    environment = {**os.environ, "PYTHONPATH": path, "AUTORESEARCH_FAULT": fault}
    with subprocess.Popen(
        [sys.executable, str(DRIVER), str(root), str(num)],
        env=environment,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        if kill_after is not None:
            try:
                process.wait(kill_after)
            except subprocess.TimeoutExpired:
                process.kill()
        _, err = process.communicate(timeout=120)
    if process.returncode not in (0, -9):
        raise AssertionError(err.decode())
    if process.returncode == -9:
        check_processes(root)
    return process.returncode


def check_processes(root: Path) -> None:
    """Fail if a process of a killed lab still lives after two seconds."""
    deadline = time.monotonic() + 2.0
    while left := [p for p in psutil.process_iter() if _is_in(p, root)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def _is_in(process: psutil.Process, root: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(root)
    except (psutil.Error, OSError):
        return False


def plain(session: Session) -> list[Experiment]:
    """Return the experiments without what depends on the clock."""
    return [
        dataclasses.replace(
            e, commit="", parent="", event="", started_at="", judged_at="",
            trials=tuple(dataclasses.replace(t, event="", started_at="") for t in e.trials),
        )
        for e in session.experiments
    ]  # fmt: skip


def results(root: Path) -> list[str]:
    """Return results.tsv without the shas."""
    return [line.split("\t", 1)[1] for line in (root / "results.tsv").read_text().splitlines()]


def check_night(root: Path, expected: Path) -> None:
    """Compare a disturbed night with an undisturbed one."""
    ours, theirs = autoresearch.read_session(root), autoresearch.read_session(expected)
    assert plain(ours) == plain(theirs)
    assert (ours.best, ours.state, ours.alerts) == (theirs.best, "finished", ())
    assert git(root, "log", "--format=%B") == git(expected, "log", "--format=%B")
    assert (root / "train.py").read_text() == (expected / "train.py").read_text()
    assert results(root) == results(expected)
    assert git(root, "status", "--porcelain") == ""
    assert git(root, "fsck", "--strict", "--no-dangling") == ""
    assert {p.name for p in root.rglob("*.lock")} == {"session.lock", "write.lock"}
    assert list(root.rglob(".autoresearch-*")) == []


def kill_at_step(undisturbed: Path, root: Path, num: int, step: str) -> int:
    """Kill a night when it reaches a step for the first and then for the second time; return how often."""
    num_kills = 0
    for count in (1, 2):
        if run_night(root, num, fault=f"{step}:{count}") == 0:
            break
        num_kills += 1
        assert autoresearch.read_session(root).state in ("dead", "finished")
    assert num_kills
    assert run_night(root, num) == 0
    check_night(root, undisturbed)
    return num_kills


def kill_at_random(undisturbed: Path, root: Path, num: int, num_kills: int, seed: int) -> int:
    """Kill nights at random moments, `num_kills` times in all; return how many nights that took."""
    chance = random.Random(seed)
    began = time.monotonic()
    assert run_night(root.with_name("timed"), num) == 0
    length = time.monotonic() - began
    done = num_nights = 0
    while done < num_kills:
        if run_night(root, num, kill_after=chance.uniform(0.15, 1.0) * length) == -9:
            done += 1
            continue
        check_night(root, undisturbed)
        num_nights += 1
        root = root.with_name(f"lab{num_nights}")
    assert run_night(root, num) == 0
    check_night(root, undisturbed)
    return num_nights + 1
