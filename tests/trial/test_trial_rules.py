"""The contract between train.py and the lab, rule by rule, with real processes."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from trial_files import TRAIN, variant

from autoresearch.types import Outcome

CLAIM_ONLY = {"audit_below": 0.0}


def test_outside_a_trial_it_says_what_to_run(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "train.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith("run `autoresearch try`")
    assert "Traceback" not in done.stderr


def test_wrapped_and_cast_weights_are_taken_as_they_are(run) -> None:
    text = variant(
        (
            "    trial.submit(model)",
            """    model.double()
    class Wrapper(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.module = inner
    class Compiled(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self._orig_mod = inner
    model.mix = Compiled(model.mix)
    trial.submit(Wrapper(Compiled(model)))""",
        ),
    )
    result = run(text)
    assert result.outcome is Outcome.OK, result


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("    trial.submit(model)", "    trial.submit(nn.Linear(2, 2))"), "lacks embed.weight"),
        (
            (
                "    trial.submit(model)",
                "    model.extra = nn.Linear(2, 2)\n    trial.submit(model)",
            ),
            "has the unknown extra.weight",
        ),
        (
            ("    trial.submit(model)", "    model.mix = nn.Linear(2, 2)\n    trial.submit(model)"),
            "instead of",
        ),
        (("    trial.start()", ""), "trial.start()"),
        (("trial.batches(B, T)", "trial.batches(B, 65)"), "max_seq_len=64"),
        (("def build_model", "def make_model"), "NameError"),
    ],
)
def test_broken_contract_is_an_exception_with_words(run, change, words) -> None:
    result = run(variant(change))
    assert result.outcome is Outcome.CRASH
    assert result.reason == "exception"
    assert words in result.detail
    assert result.bpb is None


def test_any_shape_per_call_and_pure_progress(run) -> None:
    text = variant(
        (
            "    for x, y in trial.batches(B, T):\n",
            """    seen = []
    for b, t in ((1, 1), (16, 64), (3, 7)):
        for x, y in trial.batches(b, t):
            assert x.shape == y.shape == (b, t), x.shape
            assert x.dtype == torch.int64 and x.is_contiguous() and y.is_contiguous()
            assert t == 1 or (x[:, 1:] == y[:, :-1]).all()
            seen.append(trial.progress)
            if len(seen) % 3 == 0:
                break
    assert seen == sorted(seen) and 0 <= seen[0] <= 1, seen
    print("nine", len(seen))
    for x, y in trial.batches(B, T):
""",
        ),
        ("    trial.submit(model)", "    assert trial.progress == 1.0\n    trial.submit(model)"),
    )
    result = run(text, spec=CLAIM_ONLY)
    assert result.outcome is Outcome.OK, result
    assert "nine 9" in result.log_tail


def test_seeds_are_set_and_one_process_only(run) -> None:
    text = variant(
        (
            "    trial = Trial.join()\n",
            """    import os, random
    import numpy as np
    trial = Trial.join()
    assert Trial.join() is trial
    print("draws", torch.rand(1).item(), np.random.rand(), random.random())
    if os.fork() == 0:
        try:
            Trial.join()
        except SystemExit as exc:
            print("forked:", exc)
        os._exit(0)
    os.wait()
""",
        ),
    )
    first = run(text, spec=CLAIM_ONLY)
    second = run(text, spec={**CLAIM_ONLY, "seed": 4})
    assert first.outcome is Outcome.OK, first
    assert "forked: a trial is one process on one device" in first.log_tail
    draws = [r.log_tail.split("draws ")[1].split("\n")[0] for r in (first, second)]
    assert draws[0] != draws[1]


def test_nothing_real_before_start_and_two_ahead_at_most(run) -> None:
    text = variant(
        (
            "    trial.start()\n",
            """    import os, select, time
    import numpy as np
    ring, feeder = trial._batches._ring, trial._batches._channel
    feeder.send("open", generation=1, batch=B, length=T)
    time.sleep(0.2)
    assert feeder.receive(1)["type"] == "opened"
    data = np.frombuffer(os.pread(ring, 10**6, 0), np.int32)
    assert not data.any() and not select.select([feeder], [], [], 0.1)[0]
    trial.start()
    time.sleep(0.2)
    for _ in range(2):
        assert feeder.receive(1)["type"] == "ready"
    assert not select.select([feeder], [], [], 0.1)[0]
    trial._batches._generation = 1
    print("two ahead")
""",
        ),
    )
    result = run(text, spec=CLAIM_ONLY)
    assert result.outcome is Outcome.OK, result.detail + result.log_tail
    assert "two ahead" in result.log_tail


def test_ignoring_the_deadline_is_overtime(run) -> None:
    text = variant(
        ("    trial.submit(model)", "    import time\n    time.sleep(60)\n    trial.submit(model)")
    )
    result = run(text, executor={"submit_seconds": 0.1})
    assert (result.outcome, result.reason) == (Outcome.CRASH, "overtime")
    assert result.train_seconds < 6
    text = variant(
        (
            "    trial.submit(model)",
            "    while True:\n        model(x)\n",
        )
    )
    result = run(text, executor={"submit_seconds": 0.1})
    assert (result.outcome, result.reason) == (Outcome.CRASH, "overtime")


def test_no_batch_is_taken_after_the_deadline(run) -> None:
    text = variant(
        (
            "    trial.submit(model)",
            """    import time
    trial._batches.deadline = time.monotonic() + 100
    trial._batches._is_over = False
    print("more", sum(1 for _ in trial._batches.stream(B, T, trial.device, lambda: None)))
    trial.submit(model)""",
        )
    )
    result = run(text, spec=CLAIM_ONLY)
    assert result.outcome is Outcome.OK, result
    assert "more 0" in result.log_tail


def test_never_submitting(run) -> None:
    result = run(variant(("    trial.submit(model)", "    pass")))
    assert (result.outcome, result.reason) == (Outcome.CRASH, "no_submission")


def test_hanging_at_start_and_in_training(run) -> None:
    text = variant(("    trial.start()", "    import time\n    time.sleep(99)"))
    result = run(text, trial__startup_seconds=4.0)
    assert (result.outcome, result.reason) == (Outcome.CRASH, "startup_timeout")
    text = variant(("        optimizer.step()\n", "        __import__('time').sleep(99)\n"))
    result = run(text, trial__hung_seconds=0.5, trial__budget_seconds=8.0)
    assert (result.outcome, result.reason) == (Outcome.CRASH, "hung")
    assert result.train_seconds < 6


def test_a_daemon_dies_with_its_trial(run, tmp_path: Path) -> None:
    text = variant(
        (
            "    trial.submit(model)",
            """    import os, signal, sys, time
    sys.stdout.flush()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("daemon", os.getpid(), flush=True)
            time.sleep(300)
        os._exit(0)
    time.sleep(0.3)
    trial.submit(model)""",
        )
    )
    result = run(text, spec=CLAIM_ONLY)
    assert result.outcome is Outcome.OK, result
    pid = int(result.log_tail.split("daemon ")[1].split()[0])
    assert not psutil.pid_exists(pid)


def test_a_flood_of_output_is_bounded(run, tmp_path: Path) -> None:
    text = variant(
        (
            "    trial.submit(model)",
            """    import os
    block = b"\\x1b[31mspam\\x07 " * 100_000
    for _ in range(100):
        os.write(1, block)
    print("the end")
    trial.submit(model)""",
        )
    )
    logs = tmp_path / "logs"
    result = run(
        text,
        spec=CLAIM_ONLY,
        executor={"log_directory": logs},
        trial__max_log_bytes=100_000,
    )
    assert result.outcome is Outcome.OK, result
    assert result.extra["num_log_bytes"] > 100_000_000
    assert len(result.log_tail) <= 16_000
    text = (logs / "1-1.log").read_text()
    assert len(text) < 110_000
    assert "\x1b" not in text
    assert "bytes dropped" in text
    assert result.log_tail.rstrip().endswith("the end")


@pytest.mark.parametrize(
    ("line", "reason", "words"),
    [
        ("raise MemoryError('much')", "oom", "MemoryError: much"),
        ("torch.empty(1 << 50)", "oom", "RuntimeError"),
        ("raise torch.OutOfMemoryError('CUDA')", "oom", "OutOfMemoryError"),
        ("1 / 0", "exception", "ZeroDivisionError: division by zero (train.py line"),
        ("print('CUDA out of memory'); raise ValueError('x')", "exception", "ValueError: x"),
        ("raise SystemExit(3)", "exception", "SystemExit: 3"),
        ("import os; os.kill(os.getpid(), 9)", "oom", "SIGKILL"),
        ("import os; os.kill(os.getpid(), 11)", "exception", "signal 11"),
        ("import os; os._exit(5)", "exception", "exit code 5"),
        ("loss = loss * float('nan')", "nan", "the loss became nan"),
        ("loss = loss + 1e6", "diverged", "above"),
    ],
)
def test_crashes_are_told_apart_by_type(run, line, reason, words) -> None:
    result = run(variant(("        trial.log(loss", f"        {line}\n        trial.log(loss")))
    assert (result.outcome, result.reason) == (Outcome.CRASH, reason), result
    assert words in result.detail
    assert result.bpb is None


def test_stop_ends_a_trial_soon(run) -> None:
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    started_at = time.monotonic()
    result = run(TRAIN, trial__budget_seconds=60.0, stop=stop)
    assert (result.outcome, result.reason) == (Outcome.TAINTED, "stopped")
    assert time.monotonic() - started_at < 10


def test_the_environment_is_an_allow_list(run, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    monkeypatch.setenv("SOME_SETTING", "canary")
    text = variant(
        ("    trial.start()", "    import os\n    print(dict(os.environ))\n    trial.start()")
    )
    result = run(text, spec=CLAIM_ONLY)
    assert result.outcome is Outcome.OK
    assert "canary" not in result.log_tail
    assert "OMP_NUM_THREADS" in result.log_tail or "PATH" in result.log_tail


def test_weights_have_a_cap(run) -> None:
    text = variant(("32, 3e-3, 32", "32, 3e-3, 2048"))
    result = run(text, trial__max_weights_mb=1)
    assert result.outcome is Outcome.CRASH
    assert "at most 1 MB" in result.detail


def test_a_protocol_breaker_is_a_crash(run) -> None:
    text = variant(
        ("    trial.start()", "    trial._channel.send_bytes(b'\\xff' * 64)\n    trial.start()")
    )
    result = run(text)
    assert (result.outcome, result.reason) == (Outcome.CRASH, "exception")
    assert "protocol" in result.detail
