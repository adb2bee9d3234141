"""`prepare` killed at any step resumes where it was, and what it makes is what it would have made."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from autoresearch.errors import AutoresearchError, PrerequisiteError
from autoresearch.tasks.gpt.data import pipeline as build_module
from autoresearch.tasks.gpt.data import prepare as prepare_module
from autoresearch.tasks.gpt.data.pool import Pool
from autoresearch.tasks.gpt.data.prepare import check, open_dataset, prepare
from autoresearch.util.locks import locked

KILLED = """
import os, signal, sys
from autoresearch.config import Config
from autoresearch.tasks.gpt.data import sources
from autoresearch.tasks.gpt.data.prepare import prepare
sources.MIN_UNIT_BYTES = 65_536
phase, count = sys.argv[2], int(sys.argv[3])
seen = 0
def on_progress(now):
    global seen
    seen += now.phase == phase
    if seen > count:
        os.kill(os.getpid(), signal.SIGKILL)
prepare(Config.model_validate_json(sys.argv[1]), on_progress=on_progress)
"""


def run_killed(config, phase: str, count: int) -> int:
    arguments = [sys.executable, "-c", KILLED, config.model_dump_json(), phase, str(count)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(arguments, env=environment, check=False).returncode


def shards(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in path.glob("*.arrow")}


EXPECTED: dict[str, bytes] = {}
"""What an uninterrupted call makes of the same text; made once."""


@pytest.fixture
def source(tmp_path, texts, monkeypatch):
    monkeypatch.setattr("autoresearch.tasks.gpt.data.sources.MIN_UNIT_BYTES", 65_536)
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"text": t}) + "\n" for t in texts]
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("phase", "count"),
    [("scan", 0), ("scan", 2), ("split", 0), ("tokenizer", 5), ("tokenise", 200), ("rows", 0)],
)
def test_kill_9_and_again(make_config, tmp_path, source, phase, count):
    config = make_config(source)
    assert run_killed(config, phase, count) == -signal.SIGKILL
    if phase != "rows":
        with pytest.raises(PrerequisiteError):
            open_dataset(config)
    work = tmp_path / "cache" / "work"
    kept = {p: p.stat().st_mtime_ns for p in work.rglob("unit-*.json")}
    assert bool(kept) == (phase == "tokenise")
    if kept:
        (next(iter(kept)).parent / "dataset" / ".train-00001.arrow.7.tmp").write_bytes(b"half")
    seen = []
    summary = prepare(config, on_progress=seen.append)
    assert not list(summary.path.rglob(".*"))
    if phase == "tokenise":
        # Only the units that were not written are tokenised again.
        size = source.stat().st_size
        assert max(p.total for p in seen if p.phase == "tokenise") < 0.8 * size
        assert not [p for p in seen if p.phase == "tokenizer"]
    again = shards(summary.path)
    assert check(config) == []
    if not EXPECTED:
        shutil.rmtree(tmp_path / "cache")
        EXPECTED.update(shards(prepare(config).path))
    assert again == EXPECTED


def test_a_source_that_changed_meanwhile_starts_again(make_config, source):
    config = make_config(source)
    assert run_killed(config, "tokenise", 30) == -signal.SIGKILL
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    source.write_text("".join(lines[:200]), encoding="utf-8")
    summary = prepare(config)
    assert sum(s["documents"] for s in summary.splits.values()) == 200


def test_half_written_files_are_never_taken_for_whole(make_config, tmp_path, source):
    config = make_config(source)
    assert run_killed(config, "tokenise", 200) == -signal.SIGKILL
    work = tmp_path / "cache" / "work"
    record = next(work.rglob("unit-*.json"))
    record.write_text(record.read_text()[:-30])
    scan = next(work.rglob("scan-*.json"))
    scan.write_text("{")
    assert prepare(config).is_new
    assert check(config) == []


def test_a_worker_that_dies_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("autoresearch.tasks.gpt.data.pool._start", dying_worker)
    with (
        Pool(2) as pool,
        pytest.raises(AutoresearchError, match="was killed by signal 9") as caught,
    ):
        pool.run("scan", [{}, {}], lambda num_bytes: None)
    assert "resumes where it was" in caught.value.hint


def dying_worker(num_threads):
    return subprocess.Popen(
        [sys.executable, "-c", "import os; input(); os.kill(os.getpid(), 9)"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_errors_of_a_worker_come_back(tmp_path):
    with Pool(1) as pool, pytest.raises(AutoresearchError, match="KeyError"):
        pool.run("scan", [{}], lambda num_bytes: None)


def test_workers_end_with_their_parent(tmp_path):
    code = (
        "import os, sys, time\n"
        "from autoresearch.tasks.gpt.data import pool\n"
        "worker = pool._start(1)\n"
        "print(worker.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    # Its standard input is closed: it reads the end of it and leaves.
    import psutil

    worker = int(done.stdout)
    # A PID 1 that does not reap leaves a zombie, for ever.
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(worker)
        for _ in range(400):
            if process.status() == psutil.STATUS_ZOMBIE:
                return
            time.sleep(0.05)
        pytest.fail("the worker is alive")


def test_no_space_is_told_before_writing(make_config, source, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(build_module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(AutoresearchError, match="GB free") as caught:
        prepare(make_config(source))
    assert caught.value.kind == "disk"
    assert caught.value.exit_code == 1


def test_a_full_disk_is_told(make_config, source, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare_module, "build", full)
    with pytest.raises(AutoresearchError, match="no space left") as caught:
        prepare(make_config(source))
    assert caught.value.kind == "disk"


def test_a_second_call_waits_for_the_first(make_config, tmp_path, source):
    config = make_config(source)
    locks = tmp_path / "cache" / "locks"
    locks.mkdir(parents=True)
    key = prepare_module.request_key(config.data, str(source))
    seen, done = [], []
    waits = threading.Event()

    def on_progress(now):
        seen.append(now.phase)
        if now.phase == "wait":
            waits.set()

    thread = threading.Thread(target=lambda: done.append(prepare(config, on_progress=on_progress)))
    with locked(locks / f"{key}.lock"):
        thread.start()
        assert waits.wait(20)
        assert seen == ["wait"]
    thread.join(60)
    assert done[0].is_new


def test_the_same_dataset_may_come_meanwhile(make_config, tmp_path, source, monkeypatch):
    config = make_config(source)
    first = prepare(config)
    whole = build_module.whole
    calls = []

    def late(path):
        calls.append(path)
        return None if len(calls) < 3 else whole(path)

    monkeypatch.setattr(build_module, "whole", late)
    monkeypatch.setattr(build_module.shutil, "rmtree", lambda *args, **kwargs: None)
    (
        tmp_path
        / "cache"
        / "requests"
        / f"{prepare_module.request_key(config.data, str(source))}.json"
    ).unlink()
    assert prepare(config).key == first.key


def test_memory_limits_the_workers(make_config, monkeypatch):
    monkeypatch.setattr(build_module, "num_cores", lambda: 64)
    monkeypatch.setattr(build_module, "memory_bytes", lambda: 8 << 30)
    config = make_config("builtin:python")
    listing = build_module.sources.list_local("builtin:python")
    for free, megabytes, num in (
        (64 << 30, "2,048", 6),
        (3 << 30, "1,536", 3),
        (1 << 30, "1,500", 2),
    ):
        monkeypatch.setattr(build_module, "free_memory_bytes", lambda free=free: free)
        run = build_module.Run(config, "builtin:python", "x", None)
        assert build_module._num_workers(run, listing, 64) == num
        assert f"{megabytes} MB of memory are enough for {num} of 64 workers" in run.warnings[0]
