"""Which process runs a session and what it does now: the lock of the run directory and `.autoresearch/status.json`."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from autoresearch.errors import WorkError
from autoresearch.events import Phase, Progress, now
from autoresearch.paths import RunDirectory
from autoresearch.rundir import control
from autoresearch.util.files import clear_scratch, write_file
from autoresearch.util.locks import Holder, Lock, holder_of, session_lock, session_lock_path
from autoresearch.util.text import clean_json


class Presence:
    """Tells the processes of one session of each other."""

    def __init__(self, run_directory: RunDirectory, git_dir: Path, tag: str) -> None:
        self._run_directory = run_directory
        self._git_dir = git_dir
        self._tag = tag
        self._path = run_directory.state / "status.json"
        self.line: Callable[[], str] = lambda: ""
        """Gives the session as one line, for `glance.py`."""

    def holder(self) -> Holder | None:
        """Return who runs this session now, None if none does."""
        holder = holder_of(session_lock_path(self._git_dir))
        return holder if holder is not None and holder.tag in (self._tag, "") else None

    def open_state(self) -> str:
        """Return the state, as in `Session.state`, of a session that started and has not ended."""
        if self.holder() is not None:
            is_waiting = (
                control.is_paused(self._run_directory) and self._told().get("name") == "wait"
            )
            return "paused" if is_waiting else "running"
        return "dead" if session_lock_path(self._git_dir).exists() else "interrupted"

    @contextlib.contextmanager
    def lock(self) -> Iterator[Lock]:
        """Hold the run directory for this process; what was asked of an earlier holder is forgotten.

        Raises:
            WorkError: another process holds it (kind `locked`); names it.
        """
        what = f"session `{self._tag}` in `{self._run_directory.root}`"
        with session_lock(self._git_dir, what, self._tag) as lock:
            control.clear(self._run_directory)
            ensure_state(self._run_directory)
            clear_scratch(self._run_directory.state)
            try:
                yield lock
            finally:
                self.set_status(None)

    def tell(self, what: Phase | Progress) -> None:
        """Tell other terminals what happens now, as `set_status` does."""
        self.set_status({"type": what.type, **vars(what)})

    def set_status(self, status: Mapping[str, Any] | None) -> None:
        """Write what happens now to .autoresearch/status.json for other terminals; None removes it.

        Not durable and never needed: what cannot be written is left.
        """
        with contextlib.suppress(WorkError, OSError):
            if status is None:
                self._path.unlink(missing_ok=True)
                return
            ensure_state(self._run_directory)
            lock = str(session_lock_path(self._git_dir))
            known = {"at": now(), "tag": self._tag, "line": self.line(), "lock": lock}
            text = json.dumps({**known, **clean_json(status)})
            write_file(self._path, text.encode(), durable=False)

    def status(self) -> dict[str, Any] | None:
        """Return what the running session said last, None if none runs; `request` is what it is asked to do."""
        if self.holder() is None or not (value := self._told()):
            return None
        asked = control.poll(self._run_directory)
        return {**value, "request": asked.value} if asked else value

    def _told(self) -> dict[str, Any]:
        try:
            value = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) and value.get("tag") == self._tag else {}


def ensure_state(run_directory: RunDirectory) -> None:
    """Make .autoresearch/ so that git never sees it.

    Raises:
        WorkError: it cannot be made (kind `disk`).
    """
    ignore = run_directory.state / ".gitignore"
    if ignore.exists():
        return
    try:
        run_directory.state.mkdir(exist_ok=True)
        write_file(ignore, b"*\n")
    except OSError as exc:
        raise WorkError(
            f"cannot write in `{run_directory.root}`: {exc.strerror}",
            hint="is the disk full, or the folder read-only or gone?",
            kind="disk",
        ) from exc
