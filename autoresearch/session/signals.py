"""Signals during a session, and keeping the machine awake."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

from autoresearch.util.streams import drop_broken, point_to_nowhere

P = ParamSpec("P")


class Terminal:
    """Who this process talks to, as long as there is one: a terminal, a file, or the reader of a pipe."""

    def __init__(self) -> None:
        self._files = [file for file in (0, 1, 2) if os.isatty(file)]

    def let_go(self) -> None:
        """Point whatever was the terminal to nowhere; a file or a pipe stays what it is."""
        point_to_nowhere(self._files)

    def guard(self, show: Callable[P, None]) -> Callable[P, None]:
        """Return `show`, made so that output which cannot be written does not matter to who calls it.

        A terminal or a reader that is gone, a full disk: what is printed from then on goes nowhere.
        """

        def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                show(*args, **kwargs)
            except OSError as exc:
                if exc.filename is not None:
                    raise
                drop_broken("\n")

        return guarded


@contextlib.contextmanager
def stop_on_signals(
    stop: threading.Event,
    say: Callable[[str], None],
    promise: str = "the trial under way ends, the next `run` repeats it",
    resume: Callable[[], str] = lambda: "",
) -> Iterator[Terminal]:
    """Set `stop` at the first Ctrl-C or SIGTERM; the second ends the process at once.

    `say` is called with a message that holds `promise`: what becomes of the trial under way; at the second, with the
    command that `resume` returns. On SIGHUP, detach from the terminal and keep running.
    """
    terminal = Terminal()

    def heard(number: int, _frame: Any) -> None:
        if stop.is_set():
            line = resume()
            terminal.guard(say)(
                f"killed; continue with `{line}`" if line else "killed; nothing is lost"
            )
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()
        terminal.guard(say)(f"stopping: {promise}; once more to kill")

    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, heard) for number in signals}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: terminal.let_go())
    try:
        yield terminal
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def inhibitor() -> list[str] | None:
    """Return a command that keeps the machine awake while it runs, None if there is none."""
    if sys.platform == "darwin" and shutil.which("caffeinate"):
        return ["caffeinate", "-i", "-w", str(os.getpid())]
    if shutil.which("systemd-inhibit") and os.path.isdir("/run/systemd/system"):  # noqa: PTH112
        return [
            "systemd-inhibit",
            "--what=sleep:idle",
            "--who=autoresearch",
            "--why=experiments are running",
            "cat",  # until its input ends, which is when this process does, however it dies
        ]
    return None


@contextlib.contextmanager
def kept_awake() -> Iterator[bool]:
    """Hold the machine awake; gives whether anything does it."""
    command = inhibitor()
    process = None
    if command is not None:
        with contextlib.suppress(OSError):
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
    try:
        yield process is not None
    finally:
        if process is not None:
            process.terminate()
            process.communicate()


def is_on_battery() -> bool:
    """Whether the machine runs on its battery."""
    import psutil

    sensor = getattr(psutil, "sensors_battery", lambda: None)()
    return sensor is not None and sensor.power_plugged is False
