"""The contract between train.py and the lab, rule by rule, with real processes in the sandbox."""

import dataclasses
import functools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from trial_files import BARE, COUNTS, STARTS, SUBMITS, TRAIN, variant

from autoresearch.config import Loaded
from autoresearch.machine import hardware
from autoresearch.paths import RunDirectory
from autoresearch.sandbox import NoSandbox
from autoresearch.session.build import assemble
from autoresearch.tasks.gpt import feeder
from autoresearch.tasks.gpt.executor import GptExecutor
from autoresearch.trial import channel as wire
from autoresearch.trial.child import client, weights
from autoresearch.trial.child.script import describe
from autoresearch.types import Calibration, Outcome

counts = functools.partial(variant, base=COUNTS)
bare = functools.partial(variant, base=BARE)

pytestmark = pytest.mark.usefixtures("unjudged")

# Each is tried, told by its words, and does no harm to the trial.
MISUSES = variant(
    (
        "    trial.start()\n",
        """    def refused(action, *arguments):
        try:
            action(*arguments)
        except Exception as exc:
            print("refused:", type(exc).__name__, exc)
        else:
            print("allowed:", action)

    def after(**parts):
        other = build_model(trial.vocab_size, trial.max_seq_len, trial.device)
        for name, part in parts.items():
            setattr(other, name, part)
        return other

    refused(trial.batches, B, T)
    refused(trial.submit, model)
    trial.start()
    refused(trial.start)
    refused(trial.batches, B, 65)
    refused(trial.synthetic_batch, 0, T)
    refused(trial.submit, nn.Linear(2, 2))
    refused(trial.submit, after(extra=nn.Linear(2, 2)))
    refused(trial.submit, after(mix=nn.Linear(2, 2)))
""",
    )
)
REFUSALS = [
    "RuntimeError call `trial.start()` before `trial.batches()`",
    "RuntimeError call `trial.start()` and train before",
    "RuntimeError `trial.start()` was called twice",
    "ValueError B must be at least 1 and T between 1 and max_seq_len=64",
    "ValueError B must be at least 1",
    "RuntimeError `submit`: the model lacks embed.weight",
    "RuntimeError `submit`: the model has the unknown extra.weight",
    "RuntimeError `submit`: the model has mix.weight (2, 2) instead of (32, 64)",
]


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


def test_misuse_is_refused_with_words(run) -> None:
    result = run(MISUSES)
    assert result.outcome is Outcome.OK, result.detail + result.log_tail
    lines = [line for line in result.log_tail.splitlines() if line.startswith(("ref", "all"))]
    assert len(lines) == len(REFUSALS), lines
    for line, words in zip(lines, REFUSALS, strict=True):
        assert line.startswith(f"refused: {words}"), line


def test_without_build_model_nothing_starts(run) -> None:
    result = run(counts(("def build_model", "def make_model")))
    assert (result.outcome, result.reason) == (Outcome.CRASH, "exception")
    assert "NameError" in result.detail
    assert result.score is None


def test_wrappers_are_stripped_and_types_kept() -> None:
    class Wrapper(torch.nn.Module):
        def __init__(self, name: str, inner: torch.nn.Module) -> None:
            super().__init__()
            setattr(self, name, inner)

    inner = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 3)).double()
    shapes = {name: tuple(value.shape) for name, value in inner.state_dict().items()}
    expected = inner.state_dict()
    inner[1] = Wrapper("_orig_mod", inner[1])
    state = weights.clean_state(Wrapper("module", Wrapper("_orig_mod", inner)).state_dict(), shapes)
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert {value.dtype for value in state.values()} == {torch.float64}


def test_the_shapes_of_a_model_are_those_it_has_without_its_memory(monkeypatch) -> None:
    devices = []

    def build(vocab_size: int, max_seq_len: int, device: torch.device) -> torch.nn.Module:
        devices.append(device.type)
        model = torch.nn.Sequential(
            torch.nn.Embedding(vocab_size, 8),
            torch.nn.Linear(8, max_seq_len),
            torch.nn.TransformerEncoderLayer(8, 2),
        )
        torch.nn.init.trunc_normal_(model[1].weight, std=0.02)
        torch.nn.init.zeros_(tensor=model[1].bias)
        model[0].weight.data.uniform_(-1, 1)
        return model

    monkeypatch.setattr(sys.modules["__main__"], "build_model", build, raising=False)
    shapes, num_params = client._expected(16, 4)
    assert devices == ["meta"]
    real = build(16, 4, torch.device("cpu"))
    assert shapes == {name: tuple(value.shape) for name, value in real.state_dict().items()}
    assert num_params == sum(p.numel() for p in real.parameters())


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
    assert seen == sorted(seen) and 0 <= seen[0] <= seen[-1] < 1, seen
    print("nine", len(seen))
    trial.submit(model)
    for x, y in trial.batches(B, T):
""",
        ),
    )
    result = run(text, trial__budget_seconds=60.0)
    assert result.outcome is Outcome.OK, result
    assert "nine 9" in result.log_tail


def test_no_batch_comes_after_the_deadline(run) -> None:
    text = counts(
        (
            "    trial.submit(model)",
            """    assert trial.progress == 1.0
    import time
    trial._batches.deadline = time.monotonic() + 100
    trial._batches._is_over = False
    print("more", sum(1 for _ in trial._batches.stream(B, T, trial.device, lambda: None)))
    trial.submit(model)""",
        ),
    )
    result = run(text)
    assert result.outcome is Outcome.OK, result
    assert "more 0" in result.log_tail
    assert result.train_seconds >= 0.5
    assert result.submit_seconds > 0


def test_seeds_decide_and_one_process_only(run) -> None:
    text = counts(
        (
            "    trial = Trial.join()\n",
            """    import os, random
    import numpy as np
    trial = Trial.join()
    shown = [None] * 10
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
        (
            "        trial.log(loss=loss)\n",
            (
                "        print(x.sum().item(), y.sum().item(), flush=True)\n"
                "        shown.pop()\n"
                "        if not shown:\n"
                "            break\n"
            ),
        ),
    )
    results = [run(text, spec={"seed": seed}, trial__budget_seconds=60.0) for seed in (3, 3, 4)]
    assert results[0].outcome is Outcome.OK, results[0]
    assert "forked: a trial is one process on one device" in results[0].log_tail
    draws = [r.log_tail.split("draws ")[1].split("\n")[0] for r in results]
    tails = [r.log_tail.splitlines() for r in results]
    batches = [[line for line in lines if line[:1].isdigit()] for lines in tails]
    assert draws[0] == draws[1] != draws[2]
    assert batches[0] == batches[1] != batches[2]
    assert len(batches[0]) == 10


def test_nothing_real_before_start_and_two_ahead_at_most(run) -> None:
    text = bare(
        (
            STARTS,
            """    import select
    feeder.send("open", generation=1, batch=8, length=32)
    assert feeder.receive(30)["type"] == "opened"
    time.sleep(0.2)
    data = os.pread(ring, 10**6, 0)
    assert len(data) > 2000 and not any(data) and not select.select([feeder], [], [], 0.1)[0]
""",
        ),
        (
            '    feeder.send("open", generation=1, batch=8, length=32)\n    while',
            """    for _ in range(2):
        assert feeder.receive(30)["type"] == "ready"
    assert not select.select([feeder], [], [], 0.2)[0] and any(os.pread(ring, 10**6, 0))
    print("two ahead", flush=True)
    while False and""",
        ),
    )
    result = run(text, trial__budget_seconds=60.0)
    assert result.outcome is Outcome.OK, result.detail + result.log_tail
    assert "two ahead" in result.log_tail


def test_a_feeder_that_starts_after_the_clock_serves_all_the_same(dataset) -> None:
    (host, feeders_host), (child, feeders_child) = wire.pair(), wire.pair()
    files = [
        wire.memory_file("ring", can_be_sealed=False),
        wire.memory_file("counters", feeder.COUNTERS_BYTES),
    ]
    fds = (feeders_host.fileno(), feeders_child.fileno(), *files)
    lab, trial = wire.Channel(host), wire.Channel(child)
    lab.send("setup", path=str(dataset.path), seed=1, max_seq_len=64)
    lab.send("go", deadline=time.monotonic() + 60)
    code = "import sys; from autoresearch.tasks.gpt.feeder import main; main(sys.argv)"
    with subprocess.Popen([sys.executable, "-c", code, *map(str, fds)], pass_fds=fds) as process:
        feeders_host.close()
        feeders_child.close()
        trial.send("open", generation=1, batch=8, length=32)
        said = [trial.receive(30)["type"] for _ in range(3)]
        lab.close()
        trial.close()
    for fd in files:
        os.close(fd)
    assert said == ["opened", "ready", "ready"]
    assert process.returncode == 0


@pytest.mark.parametrize("change", ["time.sleep(600)", "while True: pass"])
def test_ignoring_the_deadline_is_overtime(run, change) -> None:
    text = bare((SUBMITS, f"    {change}\n"))
    result = run(text, executor={"calibration": Calibration(submit_seconds=0.1)})
    assert (result.outcome, result.reason) == (Outcome.CRASH, "overtime")
    assert result.train_seconds < 300


def test_training_on_within_the_allowance_is_run_again(run, unjudged) -> None:
    text = bare((SUBMITS, "    time.sleep(0.8)\n"))
    result = run(text, executor={"calibration": Calibration(submit_seconds=0.01)})
    assert (result.outcome, result.reason) == (Outcome.TAINTED, "overtime"), result
    assert "after the budget" in result.detail


@pytest.mark.parametrize(
    ("baseline", "budget", "seconds", "usual"),
    [
        (None, 300.0, 35.0, None),
        (None, 0.5, 5.05, None),
        (0.1, 300.0, 2.5, 0.75),
        (0.1, 0.5, 1.0025, 0.4505),
        (4.0, 300.0, 8.0, 8.55),
    ],
)
def test_the_allowance_is_what_the_design_page_says(
    configure, dataset, sandbox, tmp_path, baseline, budget, seconds, usual
) -> None:
    executor = GptExecutor(
        configure(), dataset, sandbox, scratch=tmp_path, calibration=Calibration(baseline)
    )
    assert executor.allowance_seconds(budget) == pytest.approx(seconds)
    assert executor.usual_seconds(budget) == (None if usual is None else pytest.approx(usual))


def test_never_submitting(run) -> None:
    result = run(bare((SUBMITS, "    return\n")))
    assert (result.outcome, result.reason) == (Outcome.CRASH, "no_submission")


def test_hanging_in_training(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoresearch.tasks.gpt.executor.HUNG_SECONDS", 0.5)
    text = bare(("            time.sleep(0.02)", "            time.sleep(600)"))
    result = run(text, trial__budget_seconds=60.0)
    assert (result.outcome, result.reason) == (Outcome.CRASH, "hung")
    assert result.train_seconds < 60


def test_hanging_at_start(run) -> None:
    result = run("import time\ntime.sleep(99)\n", trial__startup_seconds=1.0)
    assert (result.outcome, result.reason) == (Outcome.CRASH, "startup_timeout")
    assert "`[trial] startup_seconds`" in result.detail


def test_a_daemon_dies_with_its_trial_even_without_a_sandbox(run) -> None:
    text = bare(
        (
            SUBMITS,
            """    import signal
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(writer, b"%d" % os.getpid())
            time.sleep(300)
        os._exit(0)
    print("daemon", os.read(reader, 20).decode(), flush=True)
""",
        )
    )
    result = run(text, within=NoSandbox())
    assert result.outcome is Outcome.OK, result
    pid = int(result.log_tail.split("daemon ")[1].split()[0])
    assert not psutil.pid_exists(pid)


def test_output_is_bounded_and_the_environment_an_allow_list(run, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    monkeypatch.setenv("SOME_SETTING", "canary")
    text = bare(
        (
            SUBMITS,
            """    block = b"\\x1b[31mspam\\x07 " * 100_000
    for _ in range(30):
        os.write(1, block)
    print(dict(os.environ))
    print("the end", flush=True)
""",
        )
    )
    logs = tmp_path / "logs"
    monkeypatch.setattr("autoresearch.tasks.gpt.training.MAX_LOG_BYTES", 100_000)
    result = run(text, executor={"log_directory": logs})
    assert result.outcome is Outcome.OK, result
    assert result.extra["num_log_bytes"] > 30_000_000
    assert len(result.log_tail) <= 16_000
    assert "canary" not in result.log_tail
    assert "'PATH'" in result.log_tail
    text = (logs / "1-1.log").read_text()
    assert len(text) < 110_000
    assert "\x1b" not in text
    assert "bytes dropped" in text
    assert result.log_tail.rstrip().endswith("the end")


@pytest.mark.parametrize(
    ("line", "reason", "words"),
    [
        ("torch.empty(1 << 50)", "oom", "RuntimeError"),
        ("loss = loss * float('nan')", "nan", "the loss became nan"),
    ],
)
def test_crashes_in_training_are_told_apart(run, line, reason, words) -> None:
    text = counts(("        trial.log(loss", f"        {line}\n        trial.log(loss"))
    result = run(text, trial__budget_seconds=60.0)
    assert (result.outcome, result.reason) == (Outcome.CRASH, reason), result
    assert words in result.detail
    assert result.score is None


def test_a_loss_far_too_high_is_told_after_a_tenth_of_the_budget(run) -> None:
    text = bare(('"loss": 5.0', '"loss": 1e6'))
    result = run(text, trial__budget_seconds=10.0)
    assert (result.outcome, result.reason) == (Outcome.CRASH, "diverged"), result
    assert "above" in result.detail
    assert result.score is None


@pytest.mark.parametrize(
    ("line", "reason", "words"),
    [
        ("1 / 0", "exception", "ZeroDivisionError: division by zero (train.py line 2)"),
        ("raise SystemExit(3)", "exception", "SystemExit: 3"),
        ("raise MemoryError('much')", "oom", "MemoryError: much"),
        ("print('CUDA out of memory'); raise ValueError('x')", "exception", "ValueError: x"),
        ("import os; os._exit(5)", "exception", "exit code 5"),
        ("import os; os.kill(os.getpid(), 9)", "oom", "SIGKILL"),
        ("import os; os.kill(os.getpid(), 11)", "exception", "signal 11"),
        ("def broken(:", "exception", "SyntaxError"),
    ],
)
def test_crashes_before_it_joined_are_told_apart(run, line, reason, words) -> None:
    result = run(f"import sys\n{line}\n")
    assert (result.outcome, result.reason) == (Outcome.CRASH, reason), result
    assert words in result.detail


def raised(exc: Exception, cause: Exception | None, context: Exception | None = None) -> Exception:
    """Return an exception that was raised from another, or while another was handled."""
    exc.__context__ = context
    if cause is not None:
        exc.__cause__ = cause
    return exc


@pytest.mark.parametrize(
    ("exc", "kind"),
    [
        (MemoryError("much"), "oom"),
        (torch.OutOfMemoryError("CUDA"), "oom"),
        (RuntimeError("MPS backend out of memory (allocated)"), "oom"),
        (torch.AcceleratorError("CUDA error: out of memory\nSearch for `cudaErrorMemory`"), "oom"),
        (RuntimeError("CUDA driver error: out of memory"), "oom"),
        (RuntimeError("Triton Error [CUDA]: out of memory"), "oom"),
        (RuntimeError("CUDNN_STATUS_ALLOC_FAILED"), "oom"),
        (raised(ValueError("backend"), torch.OutOfMemoryError("CUDA")), "oom"),
        (raised(ValueError("backend"), None, torch.OutOfMemoryError("CUDA")), "oom"),
        (raised(ValueError("typo"), KeyError("x"), torch.OutOfMemoryError("CUDA")), "exception"),
        (Exception("out of resource: shared memory, Required: 278528"), "exception"),
        (ValueError("CUDA out of memory"), "exception"),
        (KeyError("x"), "exception"),
    ],
)
def test_memory_is_told_by_type(exc, kind) -> None:
    assert describe(exc, "train.py")["kind"] == kind


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA works here")
def test_a_gpu_that_fails_in_the_trial_alone_is_not_blamed_on_the_code(run) -> None:
    result = run(COUNTS, trial__device="cuda")
    assert (result.outcome, result.reason) == (Outcome.TAINTED, "device"), result
    told = "the trial could not train on `cuda`: torch cannot use `cuda` in this process: "
    assert result.detail.startswith(told)
    assert len(result.detail) > len(told) + 10  # and what CUDA says


def test_a_trial_that_is_not_told_what_auto_means_finds_a_device_itself(run) -> None:
    text = counts(("    trial.start()\n", "    print('on', trial.device)\n    trial.start()\n"))
    result = run(text, trial__device="auto")
    assert result.outcome is Outcome.OK, result.detail + result.log_tail
    assert f"on {result.extra['device']}" in result.log_tail


@pytest.mark.parametrize(
    ("setting", "device", "told"),
    [
        ("cuda", "cpu", "cuda"),
        ("auto", "cuda", "cuda"),
        ("auto", "cpu", "cpu"),
        ("auto", None, "auto"),
    ],
)
def test_what_auto_means_is_the_labs_to_say(run, setting, device, told) -> None:
    text = bare(("    feeder, ring", "    sys.exit('on ' + welcome['device'])\n    feeder, ring"))
    result = run(text, executor={"device": device}, trial__device=setting)
    assert f"on {told}" in result.detail, result


@pytest.mark.parametrize(
    ("cuda", "mps", "usable"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_the_best_and_a_name_means_what_it_says(monkeypatch, cuda, mps, usable) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert client.resolve_device("auto").type == usable
    for name, is_there in (("cuda", cuda), ("mps", mps), ("cpu", True)):
        if is_there:
            assert client.resolve_device(name).type == name
        else:
            with pytest.raises(client.DeviceError, match=f"cannot use `{name}`"):
                client.resolve_device(name)


@pytest.mark.parametrize(("setting", "kind"), [("auto", "rocm"), ("cpu", "cpu")])
def test_a_lab_tells_its_trials_the_device_it_found(
    configure, dataset, sandbox, tmp_path, monkeypatch, setting, kind
) -> None:
    asked, told = [], []
    found = dataclasses.replace(hardware.describe("cpu"), kind=kind)
    monkeypatch.setattr(hardware, "describe", lambda device: asked.append(device) or found)
    monkeypatch.setattr("autoresearch.tasks.gpt.data.prepare.open_dataset", lambda _config: dataset)
    monkeypatch.setattr("autoresearch.sandbox.choose", lambda *_, **__: sandbox)
    monkeypatch.setattr(
        "autoresearch.tasks.gpt.executor.GptExecutor",
        lambda *_, **named: told.append(named["device"]),
    )
    monkeypatch.setenv("AUTORESEARCH_ATTENTION", "sdpa+folded")
    loaded = Loaded(configure(trial__device=setting), {})
    lab = assemble(RunDirectory(tmp_path), loaded)
    assert lab.hardware is found
    assert asked == [setting]
    assert told == ["cuda" if kind == "rocm" else "cpu"]


@pytest.mark.parametrize(
    ("when", "outcome", "words"),
    [
        (STARTS, Outcome.TAINTED, "on `cpu`: it took another device"),
        (SUBMITS, Outcome.CRASH, "unexpected message `joined`"),
    ],
)
def test_a_trial_elsewhere_than_asked_does_not_count(run, when, outcome, words) -> None:
    """Said late it is no excuse: a training that went badly could call itself tainted."""
    text = bare((when, "    lab.send('joined', device='cuda')\n"))
    result = run(text)
    assert result.outcome is outcome, result
    assert words in result.detail


def test_stop_ends_a_trial_soon(run) -> None:
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    started_at = time.monotonic()
    result = run(BARE, trial__budget_seconds=600.0, stop=stop)
    assert (result.outcome, result.reason) == (Outcome.TAINTED, "stopped")
    assert time.monotonic() - started_at < 300


def test_weights_have_a_cap(run, monkeypatch: pytest.MonkeyPatch) -> None:
    text = bare((SUBMITS, "    lab.send('submit', size=3 << 20, num_params=1)\n"))
    monkeypatch.setattr("autoresearch.tasks.gpt.executor.MAX_WEIGHTS_BYTES", 2**20)
    result = run(text)
    assert result.outcome is Outcome.CRASH
    assert "at most 1 MB" in result.detail


def test_weights_beyond_the_memory_of_this_machine_are_a_crash(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = bare((SUBMITS, "    lab.send('submit', size=1 << 48, num_params=1)\n"))
    monkeypatch.setattr("autoresearch.tasks.gpt.executor.MAX_WEIGHTS_BYTES", 10**15)
    result = run(text)
    assert (result.outcome, result.reason) == (Outcome.CRASH, "oom"), result
    assert result.detail == "weights of 268435456 MB do not fit in the memory of this machine"


def test_a_protocol_breaker_is_a_crash(run) -> None:
    text = bare((STARTS, "    lab.send_bytes(b'\\xff' * 64)\n"))
    result = run(text)
    assert (result.outcome, result.reason) == (Outcome.CRASH, "exception")
    assert "protocol" in result.detail
