"""The scratch folder of a coding agent: a private home with a copy of the editable files, and what came of them.

Everything in it after the run was written by an agent: it is read as plain files, without following links, and bounded
in size and number.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from autoresearch.util.text import hide

PROMPT_NAME = "PROMPT.md"
IDEA_NAME = "IDEA.md"
_MAX_FILE_BYTES = 4 << 20
_MAX_ENTRIES = 5000
_IGNORED = {PROMPT_NAME, IDEA_NAME, "__pycache__"}


@dataclass(frozen=True)
class Found:
    """What an agent left."""

    files: Mapping[str, str]
    """Editable path -> text."""
    idea: str
    outside: tuple[str, ...]
    """Other paths it made."""
    problem: str = ""
    """Why an editable file cannot be read, in one sentence."""


class Scratch:
    """A private home; the agent works in `work` inside it.

    Args:
        parent: Folder for temporary folders; None is the system's.
    """

    def __init__(self, parent: Path | None = None) -> None:
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        self.home = Path(tempfile.mkdtemp(prefix="proposer-", dir=parent)).resolve()
        self.work = self.home / "work"
        self.temporary = self.home / "tmp"
        for folder in (self.work, self.temporary):
            folder.mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.home, ignore_errors=True)

    def put(self, files: Mapping[str, str], prompt: str) -> None:
        """Make the working folder hold exactly these files and the prompt."""
        for entry in list(self.work.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        for path, text in files.items():
            target = self.work / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text.encode("utf-8", "surrogateescape"))
        self.put_prompt(prompt)

    def put_prompt(self, prompt: str) -> None:
        """Write the prompt, and remove the description of an earlier round."""
        for name in (PROMPT_NAME, IDEA_NAME):
            (self.work / name).unlink(missing_ok=True)
        (self.work / PROMPT_NAME).write_text(prompt, encoding="utf-8", errors="replace")

    def bring(self, source_home: Path, names: Sequence[str]) -> None:
        """Copy files of the person's home to the same place of the private one."""
        for name in names:
            source, target = source_home / name, self.home / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
                target.chmod(0o600)
                for keys, value in _leaves(read_plain(source) or b"").items():
                    if isinstance(value, str) and re.search(
                        "token|key|access|refresh", keys[-1], re.IGNORECASE
                    ):
                        hide(value, f"~/{name}")

    def give_back(self, source_home: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """Copy renewed sign-in files back where only tokens and their expiry changed; the old one stays as `.bak`.

        Returns:
            The files that were written, and for each that could not be, which and why.
        """
        written, problems = [], []
        for name in names:
            target = source_home / name
            data = read_plain(self.home / name)
            try:
                old = target.read_bytes() if target.is_file() else None
                if data is None or old is None or old == data:
                    continue
                if not _is_renewal(old, data):
                    problems.append(f"`~/{name}`: more than tokens and their expiry changed")
                    continue
                _write_private(target.with_name(f"{target.name}.bak"), old)
                _replace(target, data)
                written.append(f"`~/{name}`")
            except OSError as exc:
                problems.append(f"`~/{name}`: {exc.strerror}")
        return written, problems

    def read(self, editable: Mapping[str, str]) -> Found:
        """Return what the agent left.

        Args:
            editable: Editable path -> text before.
        """
        texts = dict(editable)
        problem = ""
        for path in editable:
            data = read_plain(self.work / path)
            if data is None:
                problem = f"`{path}` is gone, or is not a plain file of at most 4 MB any more"
                continue
            try:
                texts[path] = data.decode("utf-8")
            except UnicodeDecodeError:
                problem = f"`{path}` is not UTF-8 text any more"
        idea = (read_plain(self.work / IDEA_NAME) or b"")[:65_536].decode("utf-8", "replace")
        return Found(texts, idea, self._outside(set(editable)), problem)

    def _outside(self, editable: set[str]) -> tuple[str, ...]:
        found: list[str] = []
        num_entries = 0
        folders = {str(parent) for path in editable for parent in Path(path).parents}
        for root, directories, files in os.walk(self.work, followlinks=False):
            base = Path(root).relative_to(self.work)
            directories[:] = [d for d in directories if d not in _IGNORED and not d.startswith(".")]
            links = [d for d in directories if (Path(root) / d).is_symlink()]
            for name in (*files, *links):
                path = str(base / name)
                if path not in editable and name not in _IGNORED and not name.startswith("."):
                    found.append(path)
            num_entries += len(files) + len(directories)
            if num_entries > _MAX_ENTRIES:
                found.append("(thousands of files)")
                break
            found += [
                f"{base / d}/"
                for d in directories
                if str(base / d) not in folders and not any((Path(root) / d).iterdir())
            ]
        return tuple(sorted(found))


_RENEWED = re.compile(r"token$|^(access|refresh)$|expir|last_refresh", re.IGNORECASE)


def _is_renewal(old: bytes, new: bytes) -> bool:
    """Return whether two JSON files have the same keys, and the same values but of tokens and times."""
    before, after = _leaves(old), _leaves(new)
    return (
        bool(after)
        and before.keys() == after.keys()
        and all(
            before[keys] == value
            or (_RENEWED.search(keys[-1]) and isinstance(value, str | int | float))
            for keys, value in after.items()
        )
    )


def _leaves(data: bytes) -> dict[tuple[str, ...], object]:
    """Return what a JSON object holds, by the keys that lead there; nothing of any other file."""

    def walk(value: object, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                yield from walk(inner, (*keys, key))
        else:
            yield keys, value

    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return dict(walk(found, ())) if isinstance(found, dict) and found else {}


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _replace(target: Path, data: bytes) -> None:
    """Write a private file at once; one that is mounted alone cannot be replaced and is overwritten."""
    temporary = target.with_name(target.name + ".new")
    try:
        _write_private(temporary, data)
        temporary.replace(target)
    except OSError as exc:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if exc.errno not in (errno.EBUSY, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        with target.open("r+b") as file:
            file.write(data)
            file.truncate()


def read_plain(path: Path) -> bytes | None:
    """Return the bytes of a regular file without following a link; None if it is none, or too big."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError:
        return None
    with contextlib.closing(os.fdopen(descriptor, "rb")) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_FILE_BYTES:
            return None
        return file.read(_MAX_FILE_BYTES)
