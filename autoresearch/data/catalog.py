"""What `prepare` has left in the cache: prepared datasets and unfinished work, to list and to remove."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autoresearch.config import Config
from autoresearch.data.dataset import MANIFEST_NAME
from autoresearch.data.pipeline import whole
from autoresearch.data.prepare import key_of
from autoresearch.errors import UsageError
from autoresearch.paths import cache_directory
from autoresearch.util.files import read_json


@dataclass(frozen=True)
class Cached:
    """One folder of the cache."""

    key: str
    source: str
    """Empty where the folder does not say."""
    created_at: str
    """UTC, ISO 8601; empty where the folder does not say."""
    disk_bytes: int
    state: str
    """`ready`; `unusable`: of another version, or damaged; `unfinished`: an interrupted `prepare`."""
    is_current: bool
    """Whether the settings in force lead to it."""
    path: Path

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**asdict(self), "path": str(self.path)}


def list_cached(config: Config) -> list[Cached]:
    """Return what is in the cache, the largest first."""
    current = key_of(config)
    root = cache_directory()
    found = []
    for path in sorted([*(root / "datasets").glob("*"), *(root / "work").glob("*")]):
        manifest = read_json(path / MANIFEST_NAME)
        state = "unfinished"
        if path.parent.name == "datasets":
            state = "unusable" if whole(path) is None else "ready"
        found.append(
            Cached(
                key=path.name,
                source=str(manifest.get("source", "")),
                created_at=str(manifest.get("created_at", "")),
                disk_bytes=sum(p.stat().st_size for p in path.rglob("*") if p.is_file()),
                state=state,
                is_current=path.name == current,
                path=path,
            )
        )
    return sorted(found, key=lambda one: -one.disk_bytes)


def remove_cached(config: Config, keys: Sequence[str], *, is_dry_run: bool = False) -> list[Cached]:
    """Remove what has these keys, or begins with them, and return it.

    A session whose data this is stops at its next trial and asks for `prepare`, which makes the same again.

    Raises:
        UsageError: a key names none or several; nothing is removed then.
    """
    there = list_cached(config)
    chosen: dict[Path, Cached] = {}
    for key in keys:
        named = [one for one in there if key and one.key.startswith(key)]
        if len(named) != 1:
            what = "several datasets" if named else "no dataset"
            raise UsageError(
                f"`{key}` names {what} of the cache",
                hint="`autoresearch prepare --list` shows the keys",
            )
        chosen[named[0].path] = named[0]
    for path in () if is_dry_run else chosen:
        # First what says that it is whole.
        (path / MANIFEST_NAME).unlink(missing_ok=True)
        shutil.rmtree(path)
    return list(chosen.values())
