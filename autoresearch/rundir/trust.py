"""Settings of autoresearch.toml that are obeyed only once the user has said so, and where that is remembered.

They start programs, name variables, addresses or files outside the folder, or choose the sandbox; a folder may come
from elsewhere. What comes from a flag or a variable the user typed. What is trusted is noted outside the folder. So are
links by which the lab would read program.md, or write and delete its own files, in another place.
"""

import glob
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autoresearch.config import Loaded
from autoresearch.errors import PrerequisiteError
from autoresearch.paths import CONFIG_NAME, RunDirectory
from autoresearch.util.files import write_file

GUARDED = (
    "data.source",
    "proposer.api_base",
    "proposer.api_key_env",
    "proposer.command",
    "proposer.fallback_models",
    "proposer.model",
    "proposer.pass_env",
    "proposer.ports",
    "sandbox.backend",
    "session.notify",
    "session.push_after_keep",
)


def untrusted(run_directory: RunDirectory, loaded: Loaded) -> list[str]:
    """Return the lines, `section.name = value` of autoresearch.toml and `link -> target`, to accept first."""
    lines = _lines(run_directory, loaded)
    return [] if not lines or _note(run_directory, lines).is_file() else lines


def trust(run_directory: RunDirectory, loaded: Loaded) -> list[str]:
    """Accept those lines as they are now, for this folder, and return them.

    Raises:
        WorkError: the note cannot be written.
    """
    lines = _lines(run_directory, loaded)
    if lines:
        text = "\n".join([str(run_directory.root), *lines, ""])
        write_file(_note(run_directory, lines), text.encode("utf-8", "replace"))
    return lines


def refusal(lines: list[str]) -> PrerequisiteError:
    """Return the error of lines that were not accepted."""
    return PrerequisiteError(
        f"this folder may come from elsewhere and was not trusted yet: {'; '.join(lines)}",
        hint="if each line is as you want it: `autoresearch trust`",
        kind="untrusted",
    )


def _lines(run_directory: RunDirectory, loaded: Loaded) -> list[str]:
    changed = loaded.changed()
    settings = [
        f"{key} = {json.dumps(changed[key])}"
        for key in GUARDED
        if key in changed
        and loaded.sources.get(key) == CONFIG_NAME
        and _is_guarded(run_directory.root, key, changed[key])
    ]
    return [*settings, *_links(run_directory)]


def _links(run_directory: RunDirectory) -> Iterator[str]:
    """Yield `link -> target` for program.md, the state folder, and what only the lab writes in that."""
    state = run_directory.state
    deep = (run_directory.trials, run_directory.logs, run_directory.weights)
    folders = [] if state.is_symlink() else [*_entries(state)]
    inside = [path for folder in folders if not folder.is_symlink() for path in _entries(folder)]
    files = [
        p
        for path in inside
        if path.parent in deep and not path.is_symlink()
        for p in _entries(path)
    ]
    for path in (run_directory.program, state, *folders, *inside, *files):
        if path.is_symlink():
            yield f"{path.relative_to(run_directory.root)} -> {path.readlink()}"


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _is_guarded(root: Path, key: str, value: Any) -> bool:
    if key == "data.source":
        return not value.startswith(("builtin:", "hf:")) and _leads_out(root.resolve(), value)
    if key in ("proposer.model", "proposer.fallback_models"):  # some providers take an address here
        return "://" in str(value)
    return True


def _leads_out(root: Path, source: str) -> bool:
    """Return whether a file, folder or glob is not all in the folder, also by way of a link."""
    path = root / Path(source).expanduser()
    if not path.is_relative_to(root) or ".." in path.parts:
        return True
    found = [path, *path.rglob("*")] if path.exists() else glob.glob(str(path), recursive=True)  # noqa: PTH207
    return any(not Path(os.path.realpath(p)).is_relative_to(root) for p in found)


def _note(run_directory: RunDirectory, lines: list[str]) -> Path:
    from platformdirs import user_state_path

    text = "\0".join([str(run_directory.root.resolve()), *lines])
    name = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return user_state_path("autoresearch") / "trusted" / name
