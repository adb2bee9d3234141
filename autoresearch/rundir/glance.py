"""`autoresearch status` of a session that runs: its line from `.autoresearch/status.json`, and nothing loaded."""

import fcntl
import json
from pathlib import Path


def glance(start: Path | None = None) -> str:
    """Return the line of the session that runs in the run directory of `start`; empty where none does."""
    here = start or Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "autoresearch.toml").is_file():
            return _line(folder / ".autoresearch" / "status.json")
    return ""


def _line(path: Path) -> str:
    try:
        said = json.loads(path.read_bytes())
        with Path(said["lock"]).open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:  # a session holds it
                line = str(said["line"])
                # The line is older than the pause.
                return (
                    line.replace(" running", " paused", 1)
                    if said.get("detail") == "paused"
                    else line
                )
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return ""
