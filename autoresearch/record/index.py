"""The index: the fold of a long journal, so that `log` need not read it all again.

A cache under `.autoresearch/index/`, one file a session: the fold's state at some journal commit. It is used only if
the journal continues exactly that commit, and rebuilt when it is missing, damaged or of another version. Deleting it
costs half a second.
"""

import contextlib
import json
from pathlib import Path

from autoresearch.errors import AutoresearchError
from autoresearch.paths import RunDirectory
from autoresearch.record.fold import Fold, without_gc

_MIN_NEW_EVENTS = 400
"""Fewer are folded faster than the index is written."""


def _path(run_directory: RunDirectory, tag: str) -> Path:
    return run_directory.state / "index" / f"{tag}.json"


def load_index(run_directory: RunDirectory, tag: str) -> Fold | None:
    """Return the stored fold of a session, None if there is none that can be used."""
    try:
        with without_gc():
            state = json.loads(_path(run_directory, tag).read_bytes())
            fold = Fold.load(state)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return fold if fold is not None and fold.tag == tag else None


def save_index(run_directory: RunDirectory, fold: Fold, num_stored: int) -> int:
    """Store a fold if enough is new in it; returns how many events are stored then.

    Does nothing where `.autoresearch/` does not exist or cannot be written.
    """
    from autoresearch.util.files import write_file

    if fold.num_events - num_stored < _MIN_NEW_EVENTS or not run_directory.state.is_dir():
        return num_stored
    text = json.dumps(fold.dump(), separators=(",", ":"))
    with contextlib.suppress(AutoresearchError, OSError):
        write_file(_path(run_directory, fold.tag), text.encode(), durable=False)
    return fold.num_events
