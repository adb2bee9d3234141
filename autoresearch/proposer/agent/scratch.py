"""The scratch folder of a coding agent: a private home with a copy of the editable files, and what came of them.

Everything in it after the run was written by an agent: it is read as plain files, without following links, and bounded
in size and number.
"""

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

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

    def give_back(self, source_home: Path, names: Sequence[str]) -> list[str]:
        """Copy renewed sign-in files back; only JSON objects, only where there was one.

        Returns:
            For each file that could not be written, which and why.
        """
        problems = []
        for name in names:
            target = source_home / name
            data = read_plain(self.home / name)
            if data is None or not _is_object(data):
                continue
            try:
                if target.is_file() and target.read_bytes() != data:
                    _replace(target, data)
            except OSError as exc:
                problems.append(f"`~/{name}`: {exc.strerror}")
        return problems

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


def _is_object(data: bytes) -> bool:
    import json

    try:
        return isinstance(json.loads(data), dict)
    except ValueError:
        return False


def _replace(target: Path, data: bytes) -> None:
    """Write a private file at once; one that is mounted alone cannot be replaced and is overwritten."""
    temporary = target.with_name(target.name + ".new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
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
