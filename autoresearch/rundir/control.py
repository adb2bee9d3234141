"""Requests from another terminal to a running session: stop, stop now, pause, resume.

A request is a file under `.autoresearch/control/`. The verbs leave it with `request`, the loop looks with `poll`
between trials and while one runs. Who takes the run directory forgets all of them, and so does a loop that ends:
requests meant for an earlier run do nothing. A confirmation handles them in the same way.
"""

import contextlib
from enum import StrEnum
from pathlib import Path

from autoresearch.errors import WorkError
from autoresearch.paths import RunDirectory

LOOK_SECONDS = 1.0
"""Between two looks for a request while nothing else happens."""


class Request(StrEnum):
    """A request to the running session."""

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
