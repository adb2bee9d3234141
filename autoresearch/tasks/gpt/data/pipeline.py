"""The steps of `prepare` between a listing of files and a whole dataset.

    scan > split > tokenizer > tokenise > manifest

Every step leaves files in `work/<request>/` of the cache and skips what it finds there, so that an
interrupted call is continued by the next one. Results do not depend on the number of processes.
"""

import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from autoresearch.config import Config, DataConfig
from autoresearch.errors import AutoresearchError, PrerequisiteError
from autoresearch.events import now
from autoresearch.paths import cache_directory
from autoresearch.tasks.gpt.data import jobs, sources, splits
from autoresearch.tasks.gpt.data.dataset import (
    FORMAT,
    MANIFEST_NAME,
    TOKENIZER_NAME,
    Dataset,
    unigram_bits_per_byte,
)
from autoresearch.tasks.gpt.data.pool import Pool
from autoresearch.tasks.gpt.data.shards import SPLITS
from autoresearch.tasks.gpt.data.sources import Listing, Unit
from autoresearch.tasks.gpt.data.tokenizer import PATTERN, Tokenizer
from autoresearch.types import GB, MB
from autoresearch.util.files import file_sha256, write_file, write_json
from autoresearch.util.host import free_memory_bytes, memory_bytes, num_cores


@dataclass(frozen=True)
class PrepareProgress:
    """How far a step is; for the screen."""

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


SMALL_BYTES = 4 << 20
"""Less text than this is not worth the start of processes."""
BASE_MB, WORKER_MB, BIG_MB = 150, 160, 900
"""Memory of this process, of a worker, and what the one that holds large documents takes more: measured with two
documents of 100 MB in one page of a parquet file, the worst of the formats."""
LEAST_MB = 1500
"""Of memory, that is used in any case; else a quarter of the machine's, and half of what is free."""
DISK_SHARE = 0.8
"""Bytes of shards for a byte of text: two per token, with room for text that makes short tokens."""


@dataclass
class Run:
    """One call of `prepare`: its settings, its folder, its progress."""

    config: Config
    source: str
    request: str
    on_progress: OnProgress | None
    phases: list[PhaseSummary] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _started: float = 0.0

    @property
    def data(self) -> DataConfig:
        """Settings of the data."""
        return self.config.data

    @property
    def folder(self) -> Path:
        """Where what is done is kept until the whole is."""
        return cache_directory() / "work" / self.request

    def begin(
        self, phase: str, total: int, detail: str = "", unit: str = "bytes"
    ) -> Callable[[int], None]:
        """Start a phase; returns what is called with the amount done since the last call."""
        self._started = time.monotonic()
        done = 0

        def advance(amount: int) -> None:
            nonlocal done
            done += amount
            if self.on_progress:
                shown = min(done, total)
                self.on_progress(PrepareProgress(phase, shown, total, unit, detail))

        advance(0)
        return advance

    def end(self, phase: str, num_bytes: int) -> None:
        """Note how long the phase took."""
        seconds = time.monotonic() - self._started
        self.phases.append(PhaseSummary(phase, round(seconds, 3), num_bytes))

    def labels(self, unit: Unit) -> Path:
        """The file of a unit's labels."""
        return self.folder / f"labels-{unit.index:05d}.npy"

    def scan(self, unit: Unit) -> Path:
        """The file of a unit's scan."""
        return self.folder / f"scan-{unit.index:05d}.npz"


def hash_of(value: Any) -> str:
    """Return a short hash of JSON values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def fingerprint(listing: Listing) -> str:
    """Return what tells, without reading the files, whether they are still the same."""
    return hash_of([[f.path, f.size, f.modified_ns, f.split] for f in listing.files])


def whole(path: Path) -> Dataset | None:
    """Open a dataset if all its files are there with the right sizes."""
    try:
        dataset = Dataset.open(path)
        for entry in dataset.manifest["shards"]:
            if (path / entry["file"]).stat().st_size != entry["size"]:
                return None
        if file_sha256(path / TOKENIZER_NAME) != dataset.manifest["tokenizer_sha256"]:
            return None
    except (OSError, PrerequisiteError):
        return None
    return dataset


def build(run: Run, listing: Listing) -> Dataset:
    """Make the dataset, or find that the same text was made into it already.

    Raises:
        AutoresearchError: a file is damaged or changes, there is too little text, or no space.
    """
    mark = fingerprint(listing)
    folder = run.folder
    stamp = folder / "fingerprint"
    if not stamp.is_file() or stamp.read_text() != mark:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_file(stamp, mark.encode())
    listing = sources.usable(listing, run.data.text_column)
    units = sources.plan_units(listing, run.data)
    with Pool(_num_workers(run, listing, len(units))) as pool:
        skipped = _scan(run, listing, units, pool)
        key, assignment, num_bytes = _split(run, units, left_out(skipped))
        target = cache_directory() / "datasets" / key
        dataset = whole(target)
        if dataset is None:
            _check_space(num_bytes)
            built = folder / "dataset"
            built.mkdir(exist_ok=True)
            _tokenizer(run, units, built, pool)
            entries = _tokenise(run, units, built, pool)
            manifest = {
                "format": FORMAT,
                "key": key,
                "source": run.source,
                "revision": listing.revision,
                "created_at": now(),
                "settings": run.data.model_dump(),
                "pattern": PATTERN,
                "duplicates": assignment.duplicates,
                "notes": list(listing.notes),
                **skipped,
                **_totals(run, units, built, entries),
            }
            for left_over in built.glob(".*"):  # Of workers that were killed.
                left_over.unlink()
            write_json(built / MANIFEST_NAME, manifest)
            dataset = _install(built, target)
    write_json(
        cache_directory() / "requests" / f"{run.request}.json",
        {"key": key, "source": run.source, "fingerprint": mark},
    )
    return dataset


def _install(built: Path, target: Path) -> Dataset:
    """Rename a whole dataset into place; the same one may have come there meanwhile."""
    target.parent.mkdir(parents=True, exist_ok=True)
    dataset = whole(target)
    if dataset is None:
        shutil.rmtree(target, ignore_errors=True)
        try:
            built.replace(target)
        except OSError:
            if whole(target) is None:
                raise
        dataset = Dataset.open(target)
    return dataset


def _num_workers(run: Run, listing: Listing, num_units: int) -> int:
    """Return how many processes to use; 0 is this one."""
    total = min(listing.num_bytes, run.data.max_bytes or listing.num_bytes)
    if total < SMALL_BYTES:
        return 0
    wanted = min(num_cores(), num_units)
    memory = max(LEAST_MB, min(memory_bytes() // 4, free_memory_bytes() // 2) // MB)
    allowed = max(1, (memory - BASE_MB - BIG_MB) // WORKER_MB)
    if allowed < wanted:
        run.warnings.append(
            f"{memory:,} MB of memory are enough for {allowed} of {wanted} workers;"
            f" all of them need {BASE_MB + BIG_MB + wanted * WORKER_MB:,} MB"
        )
    return max(1, min(wanted, allowed))


def disk_needed(num_bytes: int) -> int:
    """Return bytes of disk for the shards and rows of `num_bytes` of text, estimated from above."""
    return int(num_bytes * DISK_SHARE) + (64 << 20)


def _check_space(num_bytes: int) -> None:
    """Raise unless there is room for the tokens of `num_bytes` of text.

    Raises:
        AutoresearchError: there is not.
    """
    needed = disk_needed(num_bytes)
    folder = cache_directory()
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise AutoresearchError(
            f"`{folder}` has {free / GB:.1f} GB free, the shards need about {needed / GB:.1f} GB",
            hint="make room, set AUTORESEARCH_CACHE_DIR to another disk, or lower `data.max_bytes`",
            kind="disk",
        )


def _job(run: Run, unit: Unit, **more: Any) -> dict[str, Any]:
    return {
        "unit": jobs.unit_to_json(unit),
        "folder": str(run.folder),
        "text_column": run.data.text_column,
        **more,
    }


def _missing(run: Run, kind: str, units: Sequence[Unit]) -> list[Unit]:
    done = jobs.load_results(run.folder, kind, len(units))
    return [unit for unit, result in zip(units, done, strict=True) if result is None]


def _scan(
    run: Run, listing: Listing, units: Sequence[Unit], pool: Pool
) -> dict[str, dict[str, Any]]:
    """Scan what was not scanned yet; returns what was skipped, for the manifest."""
    todo = _missing(run, "scan", _enough(run.data, units))
    total = sum(u.num_bytes for u in todo)
    advance = run.begin("scan", total, detail=f"{len(listing.files):,} files")
    pool.run("scan", [_job(run, u, max_bytes=run.data.max_bytes) for u in todo], advance)
    run.end("scan", total)
    skipped: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for result in jobs.load_results(run.folder, "scan", len(units)):
        if result is not None:
            skipped.update(result["skipped"])
            examples = {**result["examples"], **examples}
    return {"skipped": dict(skipped), "examples": examples}


def left_out(manifest: Mapping[str, Any]) -> list[str]:
    """Return sentences about the documents that a scan left out, for each reason but emptiness."""
    return [
        f"{count:,} left out: {reason}, the first in `{manifest['examples'].get(reason, '')}`"
        for reason, count in sorted(manifest["skipped"].items())
        if reason != "empty"
    ]


def _enough(data: DataConfig, units: Iterable[Unit]) -> list[Unit]:
    """Leave out units that are certainly beyond `max_bytes`: twice as much text comes before them."""
    if not data.max_bytes:
        return list(units)
    used: Counter[Any] = Counter()
    chosen = []
    for unit in units:
        if used[unit.split] < 2 * data.max_bytes:
            chosen.append(unit)
        used[unit.split] += unit.num_bytes
    return chosen


def _split(
    run: Run, units: Sequence[Unit], remarks: Sequence[str]
) -> tuple[str, splits.Assignment, int]:
    """Label every document; returns the key that follows from all of them, and the bytes of text."""
    run.begin("split", 0)
    scans = [_load_scan(run, unit) for unit in units]
    assignment = splits.assign(
        scans,
        source=run.data.source,
        holdout_share=run.data.holdout_share,
        max_bytes=run.data.max_bytes,
        remarks=remarks,
    )
    digest = hashlib.sha256()
    num_bytes = 0
    for unit, scan, labels in zip(units, scans, assignment.labels, strict=True):
        write_file(run.labels(unit), partial(np.save, arr=labels))
        digest.update(scan.text[: len(labels)].tobytes())
        digest.update(labels.tobytes())
        num_bytes += int(scan.num_bytes[: len(labels)].sum(dtype=np.int64))
    vocab_size = run.data.vocab_size
    shaping: dict[str, Any] = {
        "vocab_size": vocab_size,
        "tokenizer_bytes": sample_bytes(vocab_size),
    }
    # The cut into units decides the shards and the tokenizer's sample.
    shaping["units"] = [len(labels) for labels in assignment.labels]
    run.end("split", num_bytes)
    key = hash_of({"format": FORMAT, "text": digest.hexdigest(), **shaping})
    return key, assignment, num_bytes


def _load_scan(run: Run, unit: Unit) -> splits.Scan:
    path = run.scan(unit)
    if not path.is_file():
        empty = np.empty(0, dtype=np.uint64)
        return splits.Scan(empty, empty, empty.astype(np.uint32), unit.split)
    with np.load(path) as arrays:
        text = arrays["text"]
        group = arrays.get("group", text)
        return splits.Scan(text, group, arrays["bytes"], unit.split)


def sample_bytes(vocab_size: int) -> int:
    """Return how much text a tokenizer is trained on: 200 MB for 8,192 tokens and more, fewer as their pairs."""
    return min(200_000_000, max(10_000_000, 200_000_000 * vocab_size**2 // 8192**2))


def _tokenizer(run: Run, units: Sequence[Unit], built: Path, pool: Pool) -> None:
    """Learn the tokenizer from an equal share of each unit's training text."""
    path = built / TOKENIZER_NAME
    if path.is_file():
        return
    sizes = []
    for unit in units:
        labels = np.load(run.labels(unit))
        taken = _load_scan(run, unit).num_bytes[: len(labels)][labels == 0]
        sizes.append(int(taken.sum(dtype=np.int64)))
    share = min(1.0, sample_bytes(run.data.vocab_size) / max(1, sum(sizes)))
    quotas = [int(np.ceil(size * share)) for size in sizes]
    used = [(u, q) for u, q in zip(units, quotas, strict=True) if q]
    job = {
        "units": [jobs.unit_to_json(u) for u, _ in used],
        "quotas": [q for _, q in used],
        "folder": str(run.folder),
        "text_column": run.data.text_column,
        "vocab_size": run.data.vocab_size,
        "path": str(path),
    }
    advance = run.begin("tokenizer", sum(quotas), detail=f"{run.data.vocab_size:,} tokens")
    pool.run("learn_tokenizer", [job], advance)
    run.end("tokenizer", sum(quotas))


def _tokenise(run: Run, units: Sequence[Unit], built: Path, pool: Pool) -> list[dict[str, Any]]:
    """Write the shards that are not written yet; returns the entries of all."""
    labelled = [u for u in units if len(np.load(run.labels(u), mmap_mode="r"))]
    waiting = {u.index for u in _missing(run, "unit", units)}
    todo = [u for u in labelled if u.index in waiting]
    total = sum(u.num_bytes for u in todo)
    advance = run.begin("tokenise", total)
    path = built / TOKENIZER_NAME
    pool.run(
        "tokenise", [_job(run, u, target=str(built), tokenizer=str(path)) for u in todo], advance
    )
    run.end("tokenise", total)
    results = jobs.load_results(run.folder, "unit", len(units))
    return [entry for u in labelled for entry in results[u.index] or []]


def _totals(
    run: Run, units: Sequence[Unit], built: Path, entries: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what the manifest says of the shards and the tokenizer."""
    tokenizer = Tokenizer.load(built / TOKENIZER_NAME)
    totals = {
        split: {
            name: sum(e[name] for e in entries if e["split"] == split)
            for name in ("documents", "tokens", "bytes")
        }
        for split in SPLITS
    }
    counts = {split: np.zeros(tokenizer.vocab_size, dtype=np.int64) for split in SPLITS}
    for unit in units:
        path = run.folder / f"counts-{unit.index:05d}.npz"
        if path.is_file():
            with np.load(path) as arrays:
                for split in arrays.files:
                    counts[split] += arrays[split]
    floor = unigram_bits_per_byte(
        counts["train"], counts["validation"], totals["validation"]["bytes"]
    )
    return {
        "vocab_size": tokenizer.vocab_size,
        "dtype": tokenizer.dtype.name,
        "tokenizer_sha256": file_sha256(built / TOKENIZER_NAME),
        "unigram_bpb": floor,
        "splits": totals,
        "shards": sorted(entries, key=lambda e: (SPLITS.index(e["split"]), e["file"])),
    }
