"""Files written whole: those of the user are never replaced unless the lab wrote them."""

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from autoresearch.errors import ForeignFileError, WorkError
from autoresearch.paths import STATE_NAME, cache_directory


def read_file(path: Path) -> bytes | None:
    """Return the content of a regular file, None if there is none (a link counts as none)."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        return path.read_bytes()
    except OSError:
        return None


def write_ours(path: Path, content: bytes) -> None:
    """Write a file unless one is there that the lab did not write, or that was changed since.

    The hashes of the content before and of the new one are noted first, so that a kill between note and file leaves a
    file that is known. Where notes are lost, a file that holds just `content` is taken for the lab's again.

    Raises:
        ForeignFileError: such a file is there; it was left as it is.
        WorkError: the disk is full or the folder cannot be written (kind `disk`).
    """
    new, old = _digest(content), _digest(read_file(path) or b"")
    notes, known = _notes(path), _known(path)
    if os.path.lexists(path):
        if read_file(path) is None or old not in known | {new}:
            raise ForeignFileError(
                f"`{path}` exists and is not as the lab wrote it, so it is not replaced",
                hint="give another name, or move that file away",
            )
        if old == new and new in known:
            return
    with contextlib.suppress(WorkError):
        write_file(notes[0], f"{old}\n{new}\n".encode())
    if old != new or not path.exists():
        write_file(path, content)


def is_ours(path: Path) -> bool:
    """Whether a file is as the lab wrote it."""
    return _digest(read_file(path) or b"") in _known(path)


def _known(path: Path) -> set[str]:
    """Return the hashes of what the lab wrote to `path`, as far as that was noted."""
    return {line for note in _notes(path) for line in (read_file(note) or b"").decode().split()}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _notes(path: Path) -> list[Path]:
    """Return where it may be noted what the lab wrote to `path`: in its run directory, or in the cache."""
    path = path.parent.resolve() / path.name
    places = [(cache_directory(), str(path))]
    state = _state(path.parent)
    if state is not None:
        places.insert(0, (state, os.path.relpath(path, state.parent)))
    return [place / "written" / _digest(os.fsencode(name))[:32] for place, name in places]


def write_file(
    path: Path,
    content: bytes | Path | Callable[[BinaryIO], object],
    mode: int | None = None,
    *,
    durable: bool = True,
) -> None:
    """Write a file so that it is whole at any instant, whatever was there; keeps the permissions of the old one.

    What a kill leaves of it is in `.autoresearch/tmp/` of the nearest run directory, where `clear_scratch` finds it,
    or in the same folder where there is none.

    Args:
        path: Where; folders above it are made.
        content: A path means the content of that file; a function is called with the file to write to.
        mode: Permissions, if not those of the old file.
        durable: Whether it must outlast a power cut.

    Raises:
        WorkError: the disk is full or the folder cannot be written (kind `disk`).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".autoresearch-", dir=_scratch(path.parent))
        try:
            with os.fdopen(handle, "wb") as file:
                if isinstance(content, Path):
                    with content.open("rb") as source:
                        shutil.copyfileobj(source, file)
                elif callable(content):
                    content(file)
                else:
                    file.write(content)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            old = path.stat().st_mode if path.exists() else 0o666 & ~_umask()
            Path(name).chmod(mode or stat.S_IMODE(old))
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise WorkError(
            f"cannot write `{path}`: {exc.strerror or exc}",
            hint="free some space or make the folder writable, then give the same command again",
            kind="disk",
        ) from exc


def _state(folder: Path) -> Path | None:
    """Return the state folder of the nearest run directory at or above `folder`."""
    for here in (folder, *folder.parents):
        state = here if here.name == STATE_NAME else here / STATE_NAME
        if state.is_dir():
            return state
    return None


def _scratch(folder: Path) -> Path:
    """Return the folder on the same file system for files that are half written."""
    state = _state(folder.resolve())
    if state is None or state.stat().st_dev != folder.stat().st_dev:
        return folder
    (state / "tmp").mkdir(exist_ok=True)
    return state / "tmp"


def clear_scratch(state: Path) -> None:
    """Delete what killed writers left; the caller holds the run directory."""
    for path in (state / "tmp").glob(".autoresearch-*"):
        with contextlib.suppress(OSError):
            path.unlink()


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, an empty one if there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, with `write_file`."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True) + "\n"
    write_file(path, text.encode())


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
