"""Disturbs nights of the real loop and compares what they come to with an undisturbed one."""

import dataclasses
import multiprocessing
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest.mock
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

import loop_driver
import psutil
from record_support import git

import autoresearch
from autoresearch.config import load_config
from autoresearch.paths import RunDirectory
from autoresearch.record.record import Record
from autoresearch.session.housekeeping import Upkeep
from autoresearch.types import Confirmation, Experiment, Session

DRIVER = Path(__file__).with_name("loop_driver.py")
PATHS = os.pathsep.join([str(Path(autoresearch.__file__).parents[1]), str(DRIVER.parent)])
BINDING = (
    ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
    if os.geteuid() == 0
    else ()
)
"""Before a command: the permissions of files bind it, as they do not bind root otherwise."""
CAN_BIND = not BINDING or (
    shutil.which("setpriv") is not None
    and subprocess.run([*BINDING, "true"], capture_output=True, check=False).returncode == 0
)


SURVIVAL_SECONDS = 30.0
"""What outlives a killed lab by this would live for ever; git may still be flushing."""


@dataclass
class Ended:
    """How a process of the loop ended."""

    code: int
    stderr: str


def run_night(
    root: Path,
    num: int,
    *,
    fault: str = "",
    kill_after: float | None = None,
    is_bound: bool = False,
) -> Ended:
    """Run the loop for `num` experiments in a process group of its own.

    Args:
        root: The run directory, made where it is missing.
        num: Experiments beside the baseline.
        fault: AUTORESEARCH_FAULT; with `is_bound` the folder becomes read-only there, else the lab is killed.
        kill_after: Seconds after which it is killed.
        is_bound: By the permissions of files, which do not bind root otherwise.
    """
    environment = {**os.environ, "PYTHONPATH": PATHS, "AUTORESEARCH_FAULT": fault}
    if is_bound:
        command = [*BINDING, sys.executable, str(DRIVER), str(root), str(num), "read-only"]
        done = subprocess.run(
            command, env=environment, stderr=subprocess.PIPE, start_new_session=True, check=False
        )
        ended = Ended(done.returncode, done.stderr.decode())
    else:
        ended = _fork(environment, root, num, kill_after)
    if ended.code not in (0, -9) and (not ended.stderr.startswith("error: ")):
        raise AssertionError(ended.stderr)
    if ended.code == -9:
        check_processes(root)
    return ended


def _fork(environment: dict[str, str], root: Path, num: int, kill_after: float | None) -> Ended:
    """Run the loop in a copy of a process that has imported it: a night here is shorter than the imports."""
    forks = multiprocessing.get_context("forkserver")
    with unittest.mock.patch.dict(os.environ, {"PYTHONPATH": PATHS}):
        forkserver.set_forkserver_preload([loop_driver.__name__])
        forkserver.ensure_running()
    with tempfile.NamedTemporaryFile() as stderr:
        process = forks.Process(
            target=loop_driver.begin, args=(environment, stderr.name, str(root), str(num))
        )
        process.start()
        process.join(kill_after)
        if kill_after is not None and process.exitcode is None:
            process.kill()
        process.join(120)
        assert process.exitcode is not None, f"{root} does not end"
        return Ended(process.exitcode, stderr.read().decode())


def finish(root: Path, num: int) -> None:
    """Run a night to its end; nothing may go wrong any more."""
    ended = run_night(root, num)
    assert ended.code == 0, ended.stderr


def check_processes(root: Path) -> None:
    """Fail if a process of a killed lab still lives after SURVIVAL_SECONDS."""
    deadline = time.monotonic() + SURVIVAL_SECONDS
    while left := [p for p in psutil.process_iter() if _is_in(p, root)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def _is_in(process: psutil.Process, root: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(root)
    except (psutil.Error, OSError):
        return False


def plain(session: Session) -> list[Experiment | Confirmation]:
    """Return experiments and confirmations without what depends on the clock."""
    experiments = [
        dataclasses.replace(
            e, commit="", parent="", event="", started_at="", judged_at="", judged_place=0,
            trials=tuple(dataclasses.replace(t, event="", started_at="", place=0) for t in e.trials),
        )
        for e in session.experiments
    ]  # fmt: skip
    return [*experiments, *(dataclasses.replace(c, at="") for c in session.confirmations)]


def results(root: Path) -> list[str]:
    """Return results.tsv without the shas."""
    return [line.split("\t", 1)[1] for line in (root / "results.tsv").read_text().splitlines()]


def check_night(root: Path, expected: Path, told: Sequence[str] = ()) -> None:
    """Compare a disturbed night with an undisturbed one.

    Args:
        root: Its run directory.
        expected: That of the undisturbed one.
        told: Alerts that it has beside those of the other.
    """
    ours, theirs = autoresearch.read_session(root), autoresearch.read_session(expected)
    assert plain(ours) == plain(theirs)
    assert (ours.best, ours.state) == (theirs.best, "finished")
    # Of a slow machine the alert says since when, and who else uses it.
    texts, wanted = (
        [
            re.sub(r"since \d\d:\d\d; .*", "since", a.text)
            for a in session.alerts
            if a.text not in told
        ]
        for session in (ours, theirs)
    )
    assert texts == wanted
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
        if run_night(root, num, fault=f"{step}:{count}").code == 0:
            break
        num_kills += 1
        assert autoresearch.read_session(root).state in ("dead", "finished")
    assert num_kills
    finish(root, num)
    check_night(root, undisturbed)
    return num_kills


def kill_at_each(undisturbed: Path, root: Path, num: int, steps: Sequence[str]) -> None:
    """Kill one night at each of the steps, which are in the order in which it passes them."""
    for step in steps:
        assert run_night(root, num, fault=step).code == -9, f"{step} was not reached"
        assert autoresearch.read_session(root).state in ("dead", "finished")
    finish(root, num)
    check_night(root, undisturbed)


def kill_at_random(undisturbed: Path, root: Path, num: int, num_kills: int, seed: int) -> int:
    """Kill nights at random moments, `num_kills` times in all; return how many nights that took."""
    chance = random.Random(seed)
    began = time.monotonic()
    finish(root.with_name("timed"), num)
    length = time.monotonic() - began
    done = num_nights = 0
    while done < num_kills:
        if run_night(root, num, kill_after=chance.uniform(0.15, 1.0) * length).code == -9:
            done += 1
            continue
        check_night(root, undisturbed)
        num_nights += 1
        root = root.with_name(f"lab{num_nights}")
    finish(root, num)
    check_night(root, undisturbed)
    return num_nights + 1


# What is not a kill


def leave_lock(undisturbed: Path, root: Path, num: int, lock: str, *, is_ours: bool) -> str:
    """Have git's lock file in the way of a night; return what the night made of it.

    Args:
        undisturbed: What to compare with.
        root: The run directory.
        num: Experiments.
        lock: Path in `.git`.
        is_ours: A killed writer of ours left it; else it is somebody else's.
    """
    run_night(root, num, fault="decided:2")
    path = root / ".git" / lock
    mark = root / ".git" / "autoresearch" / "writing"
    then = time.time() - 60
    if is_ours:
        mark.touch()
        os.utime(mark, (then, then))
    path.touch()
    os.utime(path, (then + 1, then + 1))
    ended, told = run_night(root, num), []
    if ended.code == 0 and not path.exists():
        what = "removed, goes on"
    elif ended.code == 0:
        path.unlink()
        told = [a.text for a in autoresearch.read_session(root).alerts if str(path) in a.text]
        what = "told, goes on, files given by the next run" if told else "not in the way"
        with Record.open(RunDirectory(root)) as record:
            Upkeep(record, load_config(record.run_directory).config).begin()
    else:
        assert str(path) in ended.stderr, ended.stderr
        assert path.exists(), "somebody else's lock was removed"
        what = "named, clean stop"
        path.unlink()
        finish(root, num)
    check_night(root, undisturbed, told)
    return what


def forbid_writing(undisturbed: Path, root: Path, num: int, steps: Sequence[str]) -> int:
    """Make the run directory read-only at steps of a night, one after the other; return how often that stopped it."""
    for step in steps:
        ended = run_night(root, num, fault=step, is_bound=True)
        subprocess.run(["chmod", "-R", "u+w", str(root)], check=True)
        assert ended.code != 0, step
        assert "cannot write" in ended.stderr, (step, ended.stderr)
    finish(root, num)
    check_night(root, undisturbed)
    return len(steps)


def fill_disk(undisturbed: Path, folder: Path, num: int, step_kb: int) -> int | None:
    """Run nights on a disk with ever so little more room; return how many it stopped.

    Returns:
        None where this user cannot mount a small disk.
    """
    script = Path(__file__).with_name("full_disk.py")
    for unshare in (["unshare", "--map-root-user", "--mount"], ["unshare", "--mount"]):
        probe = ["mount", "-t", "tmpfs", "none", "/mnt"]
        try:
            if subprocess.run([*unshare, *probe], capture_output=True, check=False).returncode:
                continue
        except OSError:
            return None
        done = subprocess.run(
            [*unshare, sys.executable, str(script), str(folder), str(undisturbed), str(num),
             str(step_kb)],
            env={**os.environ, "PYTHONPATH": PATHS},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return int(done.stdout)
    return None
