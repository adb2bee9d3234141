"""Compile caches that outlive a trial: those of the baseline and of kept experiments, and no others.

A train child compiles into its private home. When it asks for the clock, before any real text was seen, what it newly
wrote is copied out (`take`). That copy is used by later trials only once its experiment is kept (`keep`), else it is
dropped before the next trial starts. Later children see the kept copies read-only and copy them into their own home:
what they write stays there. Judging sees only the baseline's; none where the first code measured under a setup holds
kept experiments, as after `--rebaseline`.

    <folder>/baseline/     what code without a kept experiment wrote first
    <folder>/kept-<n>/     what each kept experiment added
    <folder>/partial/      what the baseline wrote before its start-up took too long
    <folder>/pending/      of the last trial, until it is decided

The files are opaque here: never opened as what they are, links and odd files are left behind, size, number
and depth capped. All folders are copied into the home of a train child, whose disk is limited; so of kept ones the
oldest go when all together are too much.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from autoresearch.trial.child.main import GROUP_PREFIX
from autoresearch.util.files import make_folder

MAX_BYTES = 1 << 30
MAX_FILES = 20_000
MAX_ENTRIES = 100_000
"""Of all kinds, copies of what is known among them."""
MAX_DEPTH = 24
_MAX_KEPT = 32
_MAX_ALL_FILES = 50_000
_TOP = Path()
_Entry = tuple[Path, int]
"""What tells a file of a cache from others: its path below the cache's folder, and its size."""


class CompileCaches:
    """The compile caches of one setup.

    Args:
        folder: Where they are; made when needed.
        max_bytes: Of all folders together.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._label = ""

    def for_training(self) -> tuple[Path, ...]:
        """Return the folders a train child may read."""
        partial = self._folder / "partial"
        return (*self.for_judging(), *self._kept(), *((partial,) if partial.is_dir() else ()))

    @property
    def is_cold(self) -> bool:
        """Whether no code has started yet with all its kernels kept."""
        return not (self.for_judging() or self._kept())

    def for_judging(self) -> tuple[Path, ...]:
        """Return the folder claim and audit may read: nothing in it was written by a candidate."""
        baseline = self._folder / "baseline"
        return (baseline,) if baseline.is_dir() else ()

    def drop(self) -> None:
        """Forget what the last trial wrote, unless it was kept."""
        self._label = ""
        shutil.rmtree(self._folder / "pending", ignore_errors=True)

    def take(self, source: Path, label: str, since: float) -> None:
        """Copy what a trial wrote into its cache; a failure only means that nothing is cached.

        Args:
            source: The cache folder in its private home; hostile.
            label: Of the trial.
            since: Seconds since the epoch; older files are copies of what is known.
        """
        self.drop()
        pending = self._folder / "pending"
        try:
            if _copy_new(source, pending, since, _contents(self.for_training())):
                self._label = label
                return
        except OSError:
            pass
        self.drop()

    def keep_partial(self, label: str) -> None:
        """Let later trials begin with what the baseline's trial `label`, the last, compiled in vain."""
        if self._label and label == self._label:
            with contextlib.suppress(OSError):
                # Files it has already are not taken again: earlier parts stay.
                pending, partial = self._folder / "pending", self._folder / "partial"
                shutil.copytree(pending, partial, dirs_exist_ok=True)
            self.drop()

    def keep(self, label: str, *, is_baseline: bool = False) -> None:
        """Let later trials use what the trial `label`, the last one, wrote.

        Args:
            label: Of the trial; if it is not the last one, nothing happens.
            is_baseline: No candidate wrote any of its code: the first such is what judging may use.
        """
        pending, baseline = self._folder / "pending", self._folder / "baseline"
        has_new = bool(self._label) and label == self._label
        with contextlib.suppress(OSError):
            if is_baseline and not baseline.is_dir():
                if has_new:
                    pending.rename(baseline)
                else:
                    make_folder(baseline)
            elif has_new:
                number = 1 + max((_number(path) for path in self._kept()), default=0)
                pending.rename(self._folder / f"kept-{number}")
                self._evict()
        if has_new:
            self._label = ""

    def _evict(self) -> None:
        """Remove the oldest kept folders until number, bytes and files of all are within bounds."""
        kept = list(self._kept())
        sizes = {
            folder: [path.lstat().st_size for path in folder.rglob("*") if path.is_file()]
            for folder in self.for_training()
        }
        while kept and (
            len(kept) > _MAX_KEPT
            or sum(map(sum, sizes.values())) > self._max_bytes
            or sum(map(len, sizes.values())) > _MAX_ALL_FILES
        ):
            oldest = kept.pop(0)
            del sizes[oldest]
            shutil.rmtree(oldest, ignore_errors=True)

    def _kept(self) -> tuple[Path, ...]:
        return tuple(sorted(self._folder.glob("kept-*"), key=_number))


def _number(path: Path) -> int:
    text = path.name.partition("-")[2]
    return int(text) if text.isdigit() else 0


class _Harvest:
    """Copies what is new below a hostile folder: regular files, following no link, within bounds.

    Names of compile caches are hashes of their source, so a file of a known path and size is not new,
    however young it looks: times cannot be set where the sandbox keeps the lab's own user.

    Args:
        since: Seconds since the epoch; what is older is not new.
        known: What is kept already.
    """

    def __init__(self, since: float, known: set[_Entry]) -> None:
        self._since = since
        self._known = known
        self._num_entries = 0
        self._num_bytes = 0
        self.num_files = 0

    def copy(self, source: int, top: Path, inner: Path = _TOP) -> None:
        """Copy the open folder `inner` of a cache to where it belongs below `top`, if there is something to copy.

        Raises:
            OSError: something cannot be read or written, or it is too much.
        """
        for name in os.listdir(source):
            self._num_entries += 1
            if self._num_entries > MAX_ENTRIES or len(inner.parts) > MAX_DEPTH:
                raise OSError("too much")
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            try:
                fd = os.open(name, flags, dir_fd=source)
            except OSError:
                continue
            try:
                found = os.fstat(fd)
                if stat.S_ISDIR(found.st_mode) and name != "locks":
                    self.copy(fd, top, inner / name)
                elif stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
                    self._copy_file(fd, found, top, inner / name)
            finally:
                os.close(fd)

    def _copy_file(self, fd: int, found: os.stat_result, top: Path, path: Path) -> None:
        if found.st_mtime < self._since or _entry(path, found.st_size) in self._known:
            return
        self.num_files += 1
        self._num_bytes += found.st_size
        if self.num_files > MAX_FILES or self._num_bytes > MAX_BYTES:
            raise OSError("too much")
        target = top / path
        make_folder(target.parent)
        # Triton's launchers are shared objects and helper programs.
        mode = 0o755 if found.st_mode & 0o100 else 0o644
        _copy(fd, target, found.st_size, mode)
        # Older than any later trial, so that it is not taken for new there.
        os.utime(target, (self._since, self._since))


def _entry(path: Path, size: int) -> _Entry:
    # Triton's lists of files name the home they are in, which has another length each time.
    return path, 0 if path.name.startswith(GROUP_PREFIX) else size


def _contents(folders: Iterable[Path]) -> set[_Entry]:
    """Return what is in folders of the lab's own."""
    return {
        _entry(path.relative_to(folder), path.lstat().st_size)
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }


def _copy_new(source: Path, target: Path, since: float, known: set[_Entry]) -> bool:
    """Copy new files below `source`, a folder; says whether there were any.

    Raises:
        OSError: something cannot be read or written, or it is too much.
    """
    harvest = _Harvest(since, known)
    top = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        harvest.copy(top, target)
    finally:
        os.close(top)
    return harvest.num_files > 0


def _copy(fd: int, target: Path, size: int, mode: int) -> None:
    """Copy at most `size` bytes, so that a file that grows meanwhile ends."""
    out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(out, "wb") as file:
        while size > 0:
            block = os.read(fd, min(size, 1 << 20))
            if not block:
                break
            file.write(block)
            size -= len(block)
