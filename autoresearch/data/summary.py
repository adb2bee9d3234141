"""What `prepare` tells: how far it is, and what it made. Plain objects, quick to import."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PrepareProgress:
    """A step goes on; for the screen."""

    phase: str
    """`list`, `download`, `scan`, `split`, `tokenizer`, `tokenise`, `rows`, `check`."""
    done: int
    total: int
    """In `unit`; 0 when not known."""
    unit: str = "bytes"
    detail: str = ""


OnProgress = Callable[[PrepareProgress], None]


@dataclass(frozen=True)
class PhaseSummary:
    """What one step took."""

    phase: str
    seconds: float
    num_bytes: int
    """Of text, or of files, that went through."""


@dataclass(frozen=True)
class PrepareSummary:
    """What `prepare` made or found."""

    key: str
    path: Path
    source: str
    revision: str
    is_new: bool
    """False: everything was there already."""
    vocab_size: int
    unigram_bpb: float
    """The floor that a model must beat, in bits per byte."""
    splits: dict[str, dict[str, int]]
    """Split -> `documents`, `tokens`, `bytes`."""
    eval_rows: dict[str, int]
    """Split -> rows the judge reads."""
    duplicates: dict[str, int]
    """Split -> documents taken out of it because a held-out split has their text."""
    skipped: dict[str, int]
    """Reason -> documents left out."""
    num_shards: int
    disk_bytes: int
    seconds: float
    phases: tuple[PhaseSummary, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return {**asdict(self), "path": str(self.path)}


@dataclass(frozen=True)
class PreparePlan:
    """What `prepare` would do."""

    source: str
    is_done: bool
    num_files: int
    num_bytes: int
    """Of the files."""
    download_bytes: int
    disk_bytes: int
    """Needed, download included; an estimate from above."""
    free_bytes: int
