"""`kill -9` at every step, and at random moments: the night ends with the same record."""

import dataclasses
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from record_support import git

import autoresearch
from autoresearch.types import Experiment, Session

NUM = 4
DRIVER = Path(__file__).with_name("night_driver.py")
STEPS = [
    "session_started", "proposal_written", "proposal_stored", "trial_stored", "decided",
    "commit_written", "branch_moved", "index_staged", "files_written", "worktree_given",
    "exported", "session_ended",
]  # fmt: skip

Run = Callable[..., int]


def _run(root: Path, *, fault: str = "", kill_after: float | None = None) -> int:
    """Run the driver in a process group of its own; return its exit code."""
    path = os.pathsep.join([str(Path(autoresearch.__file__).parents[1]), str(DRIVER.parent)])
    environment = {**os.environ, "PYTHONPATH": path, "AUTORESEARCH_FAULT": fault}
    with subprocess.Popen(
        [sys.executable, str(DRIVER), str(root), str(NUM)],
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
    return process.returncode


def _plain(session: Session) -> list[Experiment]:
    """Return the experiments without what depends on the clock."""
    return [
        dataclasses.replace(
            e, commit="", parent="", event="", started_at="", judged_at="",
            trials=tuple(dataclasses.replace(t, event="") for t in e.trials),
        )
        for e in session.experiments
    ]  # fmt: skip


def _tsv(root: Path) -> list[str]:
    return [line.split("\t", 1)[1] for line in (root / "results.tsv").read_text().splitlines()]


def _check(root: Path, expected: Path) -> None:
    """Compare a disturbed night with an undisturbed one."""
    ours, theirs = autoresearch.read_session(root), autoresearch.read_session(expected)
    assert _plain(ours) == _plain(theirs)
    assert (ours.best, ours.state, ours.alerts) == (theirs.best, "finished", ())
    assert git(root, "log", "--format=%B") == git(expected, "log", "--format=%B")
    assert (root / "train.py").read_text() == (expected / "train.py").read_text()
    assert _tsv(root) == _tsv(expected)
    assert git(root, "status", "--porcelain") == ""
    assert git(root, "fsck", "--strict", "--no-dangling") == ""
    assert {p.name for p in root.rglob("*.lock")} == {"session.lock", "write.lock"}
    assert list(root.rglob(".autoresearch-*")) == []


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run directory of a night nobody disturbed."""
    root = tmp_path_factory.mktemp("undisturbed") / "lab"
    assert _run(root) == 0
    return root


@pytest.mark.parametrize("step", STEPS)
def test_a_night_killed_at_a_step_goes_on(undisturbed: Path, tmp_path: Path, step: str) -> None:
    root = tmp_path / "lab"
    num_kills = 0
    for count in (1, 2):
        if _run(root, fault=f"{step}:{count}") == 0:
            break
        num_kills += 1
        assert autoresearch.read_session(root).state in ("dead", "finished")
    assert num_kills
    assert _run(root) == 0
    _check(root, undisturbed)


def _kill_at_random(undisturbed: Path, root: Path, num: int, seed: int) -> None:
    """Kill nights at random moments, `num` times in all, and check each when it has ended."""
    chance = random.Random(seed)
    began = time.monotonic()
    assert _run(root.with_name("timed")) == 0
    length = time.monotonic() - began
    num_kills = num_nights = 0
    while num_kills < num:
        if _run(root, kill_after=chance.uniform(0.15, 1.0) * length) == -9:
            num_kills += 1
            continue
        _check(root, undisturbed)
        num_nights += 1
        root = root.with_name(f"lab{num_nights}")
    assert _run(root) == 0
    _check(root, undisturbed)


def test_a_night_killed_at_random_moments_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    _kill_at_random(undisturbed, tmp_path / "lab", 8, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_night_killed_two_hundred_times_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    _kill_at_random(undisturbed, tmp_path / "lab", 200, seed=2)
