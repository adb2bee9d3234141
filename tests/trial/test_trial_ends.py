"""How a child ended is told as it was, also where it died in the middle of a word, or as not known."""

import gc
import io
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trial_files import BARE, STARTS, SUBMITS, variant

from autoresearch.errors import AutoresearchError
from autoresearch.sandbox import NoSandbox
from autoresearch.tasks.gpt.training import Training
from autoresearch.trial import supervisor
from autoresearch.trial.process import Child
from autoresearch.trial.snapshot import Folder
from autoresearch.types import Outcome


@pytest.fixture
def start(configure, sandbox, tmp_path) -> Iterator[Callable[[str], Child]]:
    """Return a function that starts a train.py."""
    children: list[Child] = []

    with Folder(tmp_path, "1-1", {}) as folder:

        def go(text: str) -> Child:
            (folder.snapshot / "train.py").write_text(text)
            values = {"config": configure(), "sandbox": sandbox, "folder": folder}
            children.append(Child("train", file="train.py", **values))
            return children[-1]

        yield go
        for child in children:
            child.close()


def test_an_exit_status_is_the_childs_own_or_not_known(start) -> None:
    child = start("import os; os._exit(3)")
    assert child.wait(60)
    child.kill()
    assert child.exit_code == 3
    child = start("import time; time.sleep(60)")
    child.kill()
    assert child.exit_code is None
    child = start("import time; time.sleep(60)")
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait(60)
    assert child.exit_code is None


@pytest.mark.parametrize(
    ("place", "failing", "words"),
    [
        ("autoresearch.trial.process.subprocess", "Popen", "the feeder of a trial: no room"),
        ("autoresearch.trial.channel", "memory_file", "the feeder of a trial: no room"),
        ("autoresearch.trial.channel.Channel", "send", "the feeder of a trial: no room"),
        ("autoresearch.trial.process", "environment_for", "a trial process: no room"),
    ],
)
def test_a_machine_that_can_start_nothing_says_so_and_nothing_is_left_open(
    run, monkeypatch, place, failing, words
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "no room")

    monkeypatch.setattr(f"{place}.{failing}", refuse)
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(AutoresearchError, match=f"cannot start {words}"):
        run(BARE)
    gc.collect()
    left = set(Path("/proc/self/fd").iterdir()) - before
    assert not [path for path in left if path.is_symlink()]  # one was open to list them


def test_a_process_that_has_no_name_any_more_is_passed_over(monkeypatch) -> None:
    monkeypatch.setattr(supervisor, "open", lambda *_: io.BytesIO(b""), raising=False)
    assert supervisor._descendants() == []


def test_a_training_that_ended_nobody_knows_how_is_tainted(run, unjudged) -> None:
    text = "import os\nos.kill(os.getppid(), 9)\nos._exit(0)\n"
    result = run(text, within=NoSandbox())
    assert (result.outcome, result.reason) == (Outcome.TAINTED, "supervisor"), result


JOINS = """
import os
from autoresearch.trial import channel as wire
wire.Channel(wire.inherited()).send("join", protocol=1)
os._exit(5)
"""
START = variant((STARTS, "    lab.send('start', num_params=1)\n    END\n"), base=BARE)
DIES = "os._exit(5)"
SUBMIT = variant(
    (SUBMITS, f"    lab.send('submit', size=9, num_params=1)\n    {DIES}\n"), base=BARE
)


@pytest.mark.parametrize(
    ("text", "message", "reason", "words"),
    [
        pytest.param(JOINS, "join", "exception", "exit code 5", id="join"),
        pytest.param(START.replace("END", DIES), "start", "exception", "exit code 5", id="start"),
        pytest.param(
            START.replace("END", "raise MemoryError('much')"), "start", "oom", "much", id="error"
        ),
        pytest.param(SUBMIT, "submit", "exception", "exit code 5", id="submit"),
    ],
)
def test_a_child_that_dies_before_it_is_answered_is_told_by_its_end(
    run, unjudged, monkeypatch, text, message, reason, words
) -> None:
    handle = Training._handle

    def late(self: Training, received: dict[str, object]) -> None:
        if received["type"] == message:
            assert self._child.wait(60)
        handle(self, received)

    monkeypatch.setattr(Training, "_handle", late)
    result = run(text)
    assert (result.outcome, result.reason) == (Outcome.CRASH, reason), result
    assert words in result.detail


@pytest.mark.parametrize("message", ["start", "log"])
def test_a_feeder_that_died_is_never_the_candidates_fault(
    run, unjudged, monkeypatch, message
) -> None:
    """The look every moment, which would see it, is left out: the child may end before the next one."""
    handle = Training._handle

    def killed(self: Training, received: dict[str, object]) -> None:
        if received["type"] == message:
            self._feeder._process.kill()
        handle(self, received)

    monkeypatch.setattr(Training, "_handle", killed)
    monkeypatch.setattr(Training, "_check", lambda _: None)
    result = run(BARE, trial__budget_seconds=60.0)
    assert (result.outcome, result.reason) == (Outcome.TAINTED, "feeder"), result
