"""Requests from another terminal to a running session: stop, stop now, pause, resume.

A request is a file under `.autoresearch/control/`. The verbs leave it with `request`; the loop holds a `Control`, asks
it before each trial, and has its stop event set at once by `stop --now`. Requests that were meant for an earlier run
are forgotten when a run starts.
"""

import contextlib
import threading
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Self

from autoresearch.errors import WorkError
from autoresearch.paths import RunDirectory

POLL_SECONDS = 0.5


class Request(StrEnum):
    """What a person asked of the running session."""

    STOP = "stop"
    """End after the current trial."""
    STOP_NOW = "stop-now"
    """End the current trial too; it is tried again by the next `run`."""
    PAUSE = "pause"
    """Start no further trial until `resume`."""


def _folder(run_directory: RunDirectory) -> Path:
    return run_directory.state / "control"


def request(run_directory: RunDirectory, what: Request) -> None:
    """Leave a request for the running session.

    Raises:
        WorkError: the folder cannot be written (kind `disk`).
    """
    folder = _folder(run_directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / what.value).touch()
    except OSError as exc:
        raise WorkError(
            f"cannot write in `{folder}`: {exc.strerror}",
            hint="is the disk full, or the folder read-only?",
            kind="disk",
        ) from exc


def withdraw(run_directory: RunDirectory, what: Request) -> bool:
    """Take a request back; whether there was one."""
    path = _folder(run_directory) / what.value
    was = path.exists()
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    return was


def poll(run_directory: RunDirectory) -> Request | None:
    """Return the strongest request there is: stop-now, stop, pause."""
    for what in (Request.STOP_NOW, Request.STOP, Request.PAUSE):
        if (_folder(run_directory) / what.value).exists():
            return what
    return None


def is_paused(run_directory: RunDirectory) -> bool:
    """Whether a pause is asked for."""
    return (_folder(run_directory) / Request.PAUSE.value).exists()


def clear(run_directory: RunDirectory) -> None:
    """Forget all requests."""
    for what in Request:
        withdraw(run_directory, what)


class Control:
    """The loop's end: a context manager that lives as long as a run.

    Args:
        run_directory: Where the requests are left.
        stop: Set at once when somebody asks for `stop --now`.
    """

    def __init__(self, run_directory: RunDirectory, stop: threading.Event) -> None:
        self._run_directory = run_directory
        self._stop = stop
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="control", daemon=True)
        self.was_asked = False
        """Whether somebody asked for a stop: the session ended by request, not by Ctrl-C."""

    def __enter__(self) -> Self:
        clear(self._run_directory)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        clear(self._run_directory)

    def _watch(self) -> None:
        while not self._is_over.wait(POLL_SECONDS):
            if poll(self._run_directory) is Request.STOP_NOW:
                self.was_asked = True
                self._stop.set()
                return

    def before_trial(self, on_pause: Callable[[bool], None] = lambda _: None) -> bool:
        """Wait while the session is paused; True if it shall end now.

        Args:
            on_pause: Told True when a pause begins and False when it ends.
        """
        is_waiting = False
        while not self._stop.is_set():
            what = poll(self._run_directory)
            if what in (Request.STOP, Request.STOP_NOW):
                self.was_asked = True
                break
            if what is None:
                if is_waiting:
                    on_pause(False)
                return False
            if not is_waiting:
                is_waiting = True
                on_pause(True)
            self._stop.wait(POLL_SECONDS)
        return True
