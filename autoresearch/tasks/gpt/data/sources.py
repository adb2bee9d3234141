"""Where text comes from: listing the files of a source and cutting them into units of work.

Local files are listed by name, size and time of change; nothing is read here but the ends of parquet
files.
"""

import glob
import os
import re
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from autoresearch.config import DataConfig
from autoresearch.errors import AutoresearchError, PrerequisiteError, UsageError
from autoresearch.paths import expanded
from autoresearch.tasks.gpt.data.formats import (
    FORMATS,
    SUFFIXES,
    Range,
    check,
    is_separated,
    kind_of,
)
from autoresearch.tasks.gpt.data.shards import DataSplit

HUB_PREFIX = "hf://datasets/"
BUILTINS = ("builtin:python", "builtin:packages")
MIN_UNIT_BYTES, MAX_UNIT_BYTES = 1 << 20, 48 << 20
MIN_PART_BYTES, MIN_GROUPED_PART_BYTES, MAX_PART_BYTES = 4096, 65_536, 1 << 20
_SHARD = re.compile(r"shard_\d+\.parquet")
NUM_GROUPED_FILES = 100
"""With fewer text files than this the parts of a file are split apart, else they stay together."""


@dataclass(frozen=True)
class SourceFile:
    """One file of a source, as listed."""

    path: str
    kind: str
    size: int
    modified_ns: int
    split: DataSplit | None = None
    """Set for sources whose shards are pinned to splits."""


@dataclass(frozen=True)
class Listing:
    """The files of a source."""

    source: str
    files: tuple[SourceFile, ...]
    revision: str = ""
    """What fixes the content, where the source has such a thing."""
    notes: tuple[str, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Sum of the sizes of the files."""
        return sum(f.size for f in self.files)


@dataclass(frozen=True)
class Unit:
    """Ranges that one process handles at a time; also what an interrupted `prepare` resumes by."""

    index: int
    ranges: tuple[Range, ...]
    split: DataSplit | None
    is_grouped: bool
    """Whether the parts of one text file go to the same split."""
    num_bytes: int = field(compare=False)
    """About how much text, for progress."""


def normalise(source: str, base: Path) -> str:
    """Return `source` with a local path made absolute.

    Raises:
        UsageError: a `builtin:` or `hf:` source that does not exist.
    """
    if source.startswith("builtin:") and source not in BUILTINS:
        raise UsageError(
            f"unknown source `{source}`", hint="use `builtin:python` or `builtin:packages`"
        )
    if re.match(r"[\w+.-]+://|hf:", source) and not source.startswith(HUB_PREFIX):
        page = re.fullmatch(
            r"https?://(?:huggingface\.co|hf\.co)/datasets/([^/]+/[^/?#]+).*", source
        )
        raise UsageError(
            f"cannot read the source `{source}`",
            hint=f"write it as `{HUB_PREFIX}{page[1] if page else 'OWNER/NAME'}`"
            if page or source.startswith("hf:")
            else "fetch it, and give the path of the file or folder",
        )
    if source.startswith(("builtin:", HUB_PREFIX)):
        return source
    return str(base / expanded(source))


def list_local(source: str) -> Listing:
    """List a builtin source, a file, a folder or a glob.

    Raises:
        PrerequisiteError: there is nothing there.
        UsageError: the file is of no known kind.
    """
    if source in BUILTINS:
        return Listing(source, _files(_python_files(source))[0], revision=_python_version())
    path = Path(source)
    if path.is_file() and not kind_of(path):
        raise UsageError(
            f"`{path}` is of no kind that can be read",
            hint=f"kinds are {SUFFIXES}",
            kind="data_invalid",
        )
    closed: list[str] = []
    if path.is_file():
        found = [path]
    elif path.is_dir():
        found = _inside(path, closed)
    else:
        matches = [Path(p) for p in sorted(glob.glob(source, recursive=True)) if kind_of(Path(p))]  # noqa: PTH207
        # Spark writes folders of such a name.
        each = (_inside(match, closed) if match.is_dir() else [match] for match in matches)
        found = list(dict.fromkeys(path for files in each for path in files))
    files, num_empty = _files(found)
    if not files:
        what = "matches no file of text" if set("*?[") & {*source} else "does not exist"
        if num_empty:
            what = "is empty" if found == [path] else f"has {num_empty} files, all of them empty"
        elif closed:
            what = f"has no file of text in it that can be read: `{closed[0]}` is closed to you"
        elif path.is_dir():
            what = "has no file of text in it"
        raise (UsageError if num_empty else PrerequisiteError)(
            f"the source `{source}` {what}",
            hint=f"set `data.source`, or `--source`, to a file, folder or glob of {SUFFIXES}",
            kind="data_invalid" if num_empty else "data_missing",
        )
    notes = (f"{num_empty} empty files were left out",) if num_empty else ()
    if closed:
        notes = (*notes, f"{len(closed)} folders cannot be read, the first: `{closed[0]}`")
    if len(files) >= 3 and all(_SHARD.fullmatch(Path(f.path).name) for f in files):
        files = _pinned(files)
        notes = (*notes, "shards: the last is validation, the one before it test")
    return Listing(source, files, notes=notes)


def usable(listing: Listing, column: str) -> Listing:
    """Return the files that can be read, with a note about the others.

    Raises:
        AutoresearchError: the only file cannot be read, none can, or one that is pinned to a split.
    """
    good, odd = [], []
    for file in listing.files:
        try:
            if listing.source not in BUILTINS:
                check(file.path, file.kind, column)
            good.append(file)
        except AutoresearchError as exc:
            if file.split:
                raise
            odd.append(exc)
    if not odd:
        return listing
    if not good:
        raise odd[0]
    note = f"{len(odd)} of {len(listing.files)} files were left out, the first: {odd[0].message}"
    return replace(listing, files=tuple(good), notes=(*listing.notes, note))


def _pinned(files: Sequence[SourceFile]) -> tuple[SourceFile, ...]:
    """Return numbered shards with the splits that those of a hub dataset have."""
    *others, test, validation = files
    train = [replace(file, split="train") for file in others]
    return (*train, replace(test, split="test"), replace(validation, split="validation"))


def _inside(folder: Path, closed: list[str]) -> list[Path]:
    """Return the files of text below a folder, but for hidden ones; add to `closed` the folders that cannot be read."""
    found: list[Path] = []
    for here, folders, names in os.walk(folder, onerror=lambda exc: closed.append(exc.filename)):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = (Path(here, name) for name in names if not name.startswith("."))
        found += (path for path in files if kind_of(path) and path.is_file())
    return sorted(found)


def _files(paths: Iterable[Path]) -> tuple[tuple[SourceFile, ...], int]:
    """Return the files that hold something, and how many hold nothing."""
    files, num_empty = [], 0
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            continue
        if not stat.st_size:
            num_empty += 1
            continue
        kind = kind_of(path) or "text"
        if kind == "text" and path.suffix.lower() == ".txt" and is_separated(path):
            kind = "separated"
        files.append(SourceFile(str(path), kind, stat.st_size, stat.st_mtime_ns))
    return tuple(files), num_empty


def _python_files(source: str) -> list[Path]:
    """Return the source files of the standard library, its own tests last, then those of packages."""
    library = Path(sysconfig.get_path("stdlib"))
    found = list(_walk(library))
    found.sort(key=lambda p: (bool({"test", "tests"} & {*p.parts}), p.as_posix()))
    if not found:
        raise PrerequisiteError(
            f"this Python has no source files in `{library}`",
            hint="give text of your own with `--source FOLDER`",
        )
    if source == "builtin:packages":
        folders = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
        packages = {p for folder in folders for p in _walk(folder)}
        found += sorted(packages - set(found))
    return found


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the Python files under a folder, without going into the packages inside of it."""
    for here, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if f not in {"site-packages", "dist-packages"}]
        yield from (Path(here, name) for name in names if name.endswith(".py"))


def _python_version() -> str:
    import platform

    return f"Python {platform.python_version()}"


def plan_units(listing: Listing, config: DataConfig) -> list[Unit]:
    """Cut the files into units, the same ones whatever the number of processes."""
    total = listing.num_bytes
    if config.max_bytes:
        total = min(total, config.max_bytes)
    target = min(MAX_UNIT_BYTES, max(MIN_UNIT_BYTES, total // 16))
    is_grouped = sum(f.kind == "text" for f in listing.files) >= NUM_GROUPED_FILES
    least = MIN_GROUPED_PART_BYTES if is_grouped else MIN_PART_BYTES
    part = min(MAX_PART_BYTES, max(least, total // 500))
    units: list[Unit] = []
    ranges: list[Range] = []
    size = 0

    def close(split: DataSplit | None) -> None:
        nonlocal ranges, size
        if ranges:
            units.append(Unit(len(units), tuple(ranges), split, is_grouped, size))
        ranges, size = [], 0

    previous: DataSplit | None = None
    for file in listing.files:
        if file.split != previous:
            close(previous)
        previous = file.split
        is_one_of_many = len(listing.files) > 1 and not file.split
        stamp = (file.size, file.modified_ns)
        whole = Range(file.path, file.kind, 0, file.size, *stamp, part, is_one_of_many)
        for start, stop, num_bytes in FORMATS[file.kind].cuts(whole, target, config.text_column):
            if size + num_bytes > target:
                close(file.split)
            ranges.append(replace(whole, start=start, stop=stop))
            size += num_bytes
    close(previous)
    return units
