"""Locks, live and dead sessions, wrecks of killed writers."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from record_support import SETUP, Night

import autoresearch
from autoresearch.config import load_config
from autoresearch.errors import WorkError
from autoresearch.events import Noted, Phase, SessionEnded, SessionStarted
from autoresearch.record.record import Record
from autoresearch.rundir import control
from autoresearch.session.build import try_working_tree
from autoresearch.tasks.gpt import METRIC
from autoresearch.types import Outcome, TrialResult, TrialSpec, Verdict
from autoresearch.util import locks

HOLD = """
import sys, time
from pathlib import Path
from autoresearch.record.record import Record
from autoresearch.paths import RunDirectory
with Record.open(RunDirectory(Path(sys.argv[1]))).presence.lock():
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(night: Night) -> Iterator[subprocess.Popen[str]]:
    """Start a process that holds the run directory."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(night.root)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(autoresearch.__file__).parents[1])},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_run_is_refused_and_names_the_first(
    night: Night, holder: subprocess.Popen[str]
) -> None:
    with (
        pytest.raises(WorkError, match="running here already") as caught,
        night.record.presence.lock(),
    ):
        pass
    assert f"process {holder.pid}" in caught.value.message
    assert str(night.root) in caught.value.message
    assert caught.value.kind == "locked"


def test_a_try_beside_a_session_is_refused_also_on_a_processor(
    night: Night, holder: subprocess.Popen[str]
) -> None:
    trials = []

    def run(spec: TrialSpec, **_: Any) -> TrialResult:
        trials.append(spec)
        return TrialResult(spec.seed, Outcome.OK)

    lab: Any = SimpleNamespace(
        run_directory=night.record.run_directory,
        config=load_config(None).config,
        hardware=SimpleNamespace(kind="cpu"),
        executor=SimpleNamespace(run=run),
    )

    def try_now() -> TrialResult:
        return try_working_tree(lab, seed=0, emit=lambda _: None, stop=threading.Event())

    with pytest.raises(WorkError, match=f"running here already: process {holder.pid}") as caught:
        try_now()
    assert caught.value.kind == "locked"
    assert "`autoresearch stop --wait`" in str(caught.value.hint)
    assert trials == []
    holder.kill()
    holder.wait()
    assert try_now().outcome is Outcome.OK
    assert len(trials) == 1


def test_a_session_is_running_and_then_dead(night: Night, holder: subprocess.Popen[str]) -> None:
    assert autoresearch.read_session(night.root).state == "running"
    control.request(night.record.run_directory, control.Request.PAUSE)
    night.record.presence.tell(Phase(name="trial", number=1))
    assert autoresearch.read_session(night.root).state == "running"
    assert (night.record.presence.status() or {})["request"] == "pause"
    night.record.presence.tell(Phase(name="wait", detail="paused"))
    assert autoresearch.read_session(night.root).state == "paused"
    control.clear(night.record.run_directory)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert night.record.session().state == "dead"
    with night.record.presence.lock():
        assert night.record.session().state == "running"
    night.end()
    assert night.record.session().state == "finished"


def test_the_time_of_a_run_that_died_counts_as_busy(night: Night) -> None:
    def train(number: int, seconds: float) -> None:
        result = TrialResult(seed=1, outcome=Outcome.OK, score=1.4, train_seconds=seconds)
        night.record.record_trial(number, result, setup=SETUP.key, started_at="")

    def busy() -> dict[str, float]:
        return {b.kind: b.seconds for b in night.record.session().busy if b.seconds}

    started = SessionStarted(
        metric=METRIC,
        tag="nov21",
        tip=night.record.tip(),
        setup=vars(SETUP),
        seed=1,
        proposer="search",
    )
    experiment = night.propose(night.knob(3, 33), "x")
    train(experiment.number, 5.0)
    assert busy() == {"train": 5.0}
    night.record.append(started)  # the run before died
    train(experiment.number, 7.0)
    assert busy() == {"train": 12.0}
    night.record.append(SessionEnded(reason="finished", wall_seconds=9.0, busy={"train": 7.5}))
    assert busy() == {"train": 12.5}
    night.record.append(started)
    assert busy() == {"train": 12.5}


def test_status_is_there_only_while_a_session_runs(night: Night) -> None:
    with night.record.presence.lock():
        night.record.presence.set_status({"phase": "train", "seconds": 1.5, "bad": float("nan")})
        status = night.record.presence.status()
        assert status is not None
        assert (status["phase"], status["seconds"], status["bad"]) == ("train", 1.5, None)
    assert night.record.presence.status() is None
    night.record.presence.set_status(None)
    assert not (night.root / ".autoresearch" / "status.json").exists()


def test_one_gpu_is_held_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(locks, "_GPU_LOCKS", tmp_path / "locks")
    with locks.gpu_lock("GPU-1/2", "session `a`"):
        with (
            pytest.raises(WorkError, match=r"session trains on `GPU-1/2`: .*session `a`"),
            locks.gpu_lock("GPU-1/2", "session `b`"),
        ):
            pass
        with locks.gpu_lock("GPU-3", "session `b`"):
            pass
    with locks.gpu_lock("GPU-1/2", "session `b`"):
        pass


def test_locks_of_a_killed_writer_are_removed(night: Night) -> None:
    git_dir = night.root / ".git"
    mark = git_dir / "autoresearch" / "writing"
    mark.touch()
    then = time.time() - 60
    os.utime(mark, (then, then))
    wrecks = [
        git_dir / "refs/autoresearch/nov21/journal.lock",
        git_dir / "refs/heads/autoresearch/nov21.lock",
        git_dir / "HEAD.lock",
    ]
    for path in wrecks:
        path.touch()
        os.utime(path, (then + 1, then + 1))
    night.try_out(night.knob(3, 33))
    assert not any(path.exists() for path in [*wrecks, mark])


def test_a_lock_of_somebody_else_is_named_and_left(night: Night) -> None:
    path = night.root / ".git/refs/heads/autoresearch/nov21.lock"
    path.touch()
    experiment = night.propose(night.knob(3, 33), "x")
    with pytest.raises(WorkError, match=r"nov21\.lock") as caught:
        night.record.judge(experiment.number, Verdict.KEEP, "baseline")
    assert "rm " in (caught.value.hint or "")
    assert path.exists()
    path.unlink()
    night.record.judge(experiment.number, Verdict.KEEP, "baseline")
    assert night.record.session().best == 1


def test_an_old_lock_of_our_own_ref_is_removed_without_a_mark(night: Night) -> None:
    path = night.root / ".git/refs/autoresearch/nov21/journal.lock"
    path.touch()
    then = time.time() - 60
    os.utime(path, (then, then))
    night.propose(night.knob(3, 33), "x")
    assert not path.exists()


def test_a_wreck_that_cannot_be_removed_is_said(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = night.root / ".git/refs/autoresearch/nov21/journal.lock"
    path.touch()
    os.utime(path, (0, 0))
    really_unlink = Path.unlink

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if self == path:
            raise PermissionError(13, "Permission denied")
        really_unlink(self, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(WorkError, match=r"cannot write in .*nov21") as caught:
            night.record.append(Noted(text="x"))
    assert caught.value.kind == "disk"
    night.record.append(Noted(text="x"))


def test_requests_reach_the_loop(record: Record) -> None:
    where = record.run_directory
    assert control.poll(where) is None
    control.request(where, control.Request.PAUSE)
    control.request(where, control.Request.STOP)
    assert control.poll(where) is control.Request.STOP
    control.request(where, control.Request.STOP_NOW)
    assert control.poll(where) is control.Request.STOP_NOW
    control.clear(where)
    assert control.poll(where) is None


def test_a_git_command_that_outlives_its_lab_is_waited_for(night: Night, tmp_path: Path) -> None:
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text(
        f'#!/bin/sh\nhere={tmp_path}\nif [ "$1" = update-ref ]; then\n'
        "cat >$here/input; touch $here/begun; while [ ! -e $here/go ]; do sleep 0.05; done\n"
        # Without an output, or it would die of its answer.
        f'exec {shutil.which("git")} "$@" <$here/input >/dev/null; fi\n'
        f'exec {shutil.which("git")} "$@"\n'
    )
    slow.chmod(0o755)
    note = """
import sys
from pathlib import Path
from autoresearch.events import Noted, Phase, SessionEnded, SessionStarted
from autoresearch.record.record import Record
from autoresearch.paths import RunDirectory
Record.open(RunDirectory(Path(sys.argv[1]))).append(Noted(text="late"))
"""
    environment = {
        **os.environ,
        "PATH": f"{slow.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(autoresearch.__file__).parents[1]),
    }
    with subprocess.Popen([sys.executable, "-c", note, str(night.root)], env=environment) as lab:
        while not (tmp_path / "begun").exists():
            assert lab.poll() is None
            time.sleep(0.01)
        lab.kill()
    assert night.record.session().notes == ()
    other = threading.Thread(target=night.record.append, args=(Noted(text="after"),))
    other.start()
    other.join(0.3)
    assert other.is_alive(), "it waits for git"
    (tmp_path / "go").touch()
    other.join(60)
    assert [n.text for n in night.record.session().notes] == ["late", "after"]


def test_a_gpu_is_shared_with_users_whose_lock_file_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder for all, Linux refuses to open with O_CREAT what another user made."""
    monkeypatch.setattr(locks, "_GPU_LOCKS", tmp_path / "locks")
    really_open = os.open

    def protected_open(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT and Path(path).exists() and not flags & os.O_EXCL:
            raise PermissionError(13, "Permission denied")
        return really_open(path, flags, mode)

    monkeypatch.setattr(os, "open", protected_open)
    with locks.gpu_lock("GPU-1", "the first to use it"):
        pass
    with locks.gpu_lock("GPU-1", "another user") as held:
        assert held.path.stat().st_mode & 0o777 == 0o666
        holder = locks.holder_of(held.path)
        assert holder is not None
        assert holder.what == "another user"


def test_two_users_may_make_the_lock_file_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gpu.lock"
    really_open = os.open

    def raced_open(name: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            path.write_text("")
        return really_open(name, flags, mode)

    monkeypatch.setattr(os, "open", raced_open)
    mine = locks.Lock(path, "mine")
    assert mine.acquire()
    mine.release()
