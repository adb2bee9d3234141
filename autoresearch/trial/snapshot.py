"""The private folder of one process of a trial: its files, written out from a git tree, and its home.

A lab that is killed leaves its folders behind; their locks are free then, and whoever makes the next folder there
removes them. The address of a local socket has at most 107 bytes (103 on a Mac), and the path of a run directory may be
long; so the temporary folder inside the home has a short name, a link in /tmp, which goes with the folder.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from autoresearch.errors import AutoresearchError, WorkError
from autoresearch.paths import is_safe
from autoresearch.sandbox.launcher.folders import wipe
from autoresearch.util.files import make_folder

_PARTS = ("snapshot", "home")
_NAME = re.compile(r".+-[a-z0-9_]{8}")
_SHORT_PLACES = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - the only short names there are


class Folder:
    """A scratch folder of one process: `snapshot` to read, `home` to write, `work` in it if made. Removed at the end.

    Args:
        scratch: Where to make it.
        label: What it is for, in its name.
        files: Path -> content of the snapshot.

    Raises:
        AutoresearchError: the disk is full or `scratch` cannot be written.
    """

    def __init__(self, scratch: Path, label: str, files: Mapping[str, bytes]) -> None:
        try:
            make_folder(scratch)
            safe = "".join(c if c.isalnum() else "-" for c in label)[:40] or "trial"
            with _locked(scratch) as can_lock:
                if can_lock:
                    clear_left_behind(scratch)
                self.path = Path(tempfile.mkdtemp(prefix=f"{safe}-", dir=scratch)).resolve()
                self._lock = _lock(self.path)
            self.snapshot, self.home = (self.path / name for name in _PARTS)
            self.cache = self.home / ".cache"
            self.work = self.home / "work"
            self.snapshot.mkdir()
            self.home.mkdir()
            # A sandbox that drops to another user must be able to pass through.
            self.path.chmod(0o711)
            self.temporary = _make_short(self.path)
            write_files(self.snapshot, files)
        except OSError as exc:
            raise AutoresearchError(
                f"cannot write the files of a trial to `{scratch}`: {exc.strerror or exc}",
                hint="free space there, or point the run directory at another disk",
                kind="disk",
            ) from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _remove(self.path)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def clear_left_behind(scratch: Path) -> None:
    """Remove the folders in `scratch` whose lab is gone, and short names that lead nowhere any more.

    `scratch` may be a link to a place where others keep theirs: only what looks like one of ours goes.
    """
    for path in scratch.resolve().iterdir():
        if path.is_symlink() or not path.is_dir() or not _is_ours(path):
            continue
        lock = _lock(path)
        if lock is not None:
            _remove(path)
            os.close(lock)
    for link in (link for place in _SHORT_PLACES for link in place.glob("ar-*")):
        with contextlib.suppress(OSError):
            is_ours = os.geteuid() in (0, link.lstat().st_uid)
            target = link.readlink()
            if is_ours and target.parts[-2:] == ("home", "tmp") and not target.exists():
                link.unlink()


def _is_ours(path: Path) -> bool:
    """Whether a folder has the name and the parts of a `Folder`, some of which may not be there."""
    with contextlib.suppress(OSError):
        parts = {entry.name for entry in path.iterdir()}
        return bool(_NAME.fullmatch(path.name)) and parts <= {*_PARTS}
    return False


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a snapshot below `folder`.

    Raises:
        WorkError: a path leads out of the folder.
    """
    for name, content in files.items():
        if not is_safe(name):
            raise WorkError(f"the snapshot has the path `{name}`, which leads out of it")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _make_short(path: Path) -> Path:
    """Make the temporary folder of a scratch folder; return its short name, or where it is if it can have none."""
    temporary = path / "home" / "tmp"
    temporary.mkdir()
    for link in _short_names(path):
        with contextlib.suppress(OSError):
            link.symlink_to(temporary)
            return link
    return temporary


def _short_names(path: Path) -> list[Path]:
    """Return the names that the temporary folder of a scratch folder may have; the same at any time."""
    name = "ar-" + hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    return [place / name for place in _SHORT_PLACES]


def _remove(path: Path) -> None:
    """Remove a scratch folder and its short name, as far as that goes."""
    target = str(path / "home" / "tmp")
    for link in _short_names(path):
        with contextlib.suppress(OSError):
            if str(link.readlink()) == target:
                link.unlink()
    # Not by shutil: a child may have left folders that are locked, or too deep for it.
    with contextlib.suppress(OSError):
        wipe(str(path))
    with contextlib.suppress(OSError):
        path.rmdir()


def _lock(folder: Path, *, is_waiting: bool = False) -> int | None:
    """Return a descriptor that holds the lock of a folder, None if another process holds it or there are no locks."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if is_waiting else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder, so that what is being made is not removed; False where there are no locks."""
    descriptor = _lock(folder.resolve(), is_waiting=True)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)
