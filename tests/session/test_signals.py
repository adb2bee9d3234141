"""Signals of a session, in a process of its own."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import autoresearch
from autoresearch.session.signals import Terminal

CODE = """
import sys, threading
from autoresearch.session.signals import stop_on_signals
stop = threading.Event()
def say(text):
    print(text, file=sys.stderr, flush=True)
with stop_on_signals(stop, say, resume=lambda: "autoresearch run --tag t"):
    say("up")
    stop.wait()
    say("ended")
    threading.Event().wait()
"""
PATHS = {**os.environ, "PYTHONPATH": str(Path(autoresearch.__file__).parents[1])}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_in_order_and_the_second_at_once(number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CODE], stderr=subprocess.PIPE, text=True, env=PATHS
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "up\n"
        process.send_signal(number)
        assert "once more to kill" in process.stderr.readline()
        assert process.stderr.readline() == "ended\n"
        process.send_signal(number)
        assert "continue with `autoresearch run --tag t`" in process.stderr.readline()
    assert process.returncode == -number


def test_a_hang_up_is_survived() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CODE], stderr=subprocess.PIPE, text=True, env=PATHS
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "up\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert "stopping" in process.stderr.readline(), "a pipe is no terminal and stays"
        process.kill()


def shown_to_nobody(show: str, ours: int, theirs: int) -> tuple[int | None, bytes]:
    """Run guarded output into `theirs` once both ends are closed; return exit status and standard error."""
    code = f"""
import sys
from autoresearch.session.signals import Terminal
from autoresearch.ui.console import OutputMode
terminal = Terminal()
print("up", file=sys.stderr, flush=True)
sys.stdin.readline()
def show():
    {show}
terminal.guard(show)()
show()
sys.stderr.write("fine")
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=PATHS,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"up\n"
        os.close(theirs)
        os.close(ours)
        _, said = process.communicate(b"\n")
    return process.returncode, said


def test_output_to_a_terminal_that_is_gone_goes_nowhere() -> None:
    assert shown_to_nobody("print('x', flush=True)", *pty.openpty()) == (0, b"\nfine")


@pytest.mark.parametrize(
    "show",
    ["print('x', flush=True)", "OutputMode().data('x')", "OutputMode().json({})"],
)
def test_output_to_a_reader_that_is_gone_goes_nowhere(show: str) -> None:
    assert shown_to_nobody(show, *os.pipe()) == (0, b"\nfine")


def test_a_failure_that_names_a_file_is_no_failure_of_output() -> None:
    def full() -> None:
        raise OSError(28, "No space left on device", "/run/record")

    with pytest.raises(OSError, match="No space"):
        Terminal().guard(full)()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_full_disk_behind_the_output_ends_no_session(name: str, unbuffered: str) -> None:
    code = f"""
import sys
from autoresearch.session.signals import Terminal
show = Terminal().guard(lambda: print("x", file=sys.{name}, flush=True))
show()
show()
print("fine", file=sys.{"stderr" if name == "stdout" else "stdout"}, flush=True)
"""
    with Path("/dev/full").open("w") as full:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, name: full}
        done = subprocess.run(
            [sys.executable, "-c", code],
            text=True,
            env={**PATHS, "PYTHONUNBUFFERED": unbuffered},
            check=False,
            **streams,
        )
    assert done.returncode == 0
    assert (done.stdout or done.stderr).split() == ["fine"]
