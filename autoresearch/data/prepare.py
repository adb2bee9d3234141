"""`prepare`: from a source of text to a dataset in the cache, in steps that can be interrupted.

    list > scan > split > tokenizer > tokenise > manifest > rows

Folders in the cache:
    requests/<request>.json     which dataset the settings of a run directory lead to
    work/<request>/             what an unfinished `prepare` has done so far
    datasets/<key>/             whole datasets, never changed (but for `eval/`, which only grows)

A request is the source as named and the settings that shape the data. A key is a hash of the text, its
splits and those settings: the same text from another place, or read by another number of processes,
is the same dataset.
"""

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autoresearch.config import Config, DataConfig
from autoresearch.data import pool, sources, splits, work
from autoresearch.data.dataset import (
    FORMAT,
    MANIFEST_NAME,
    SPLITS,
    TOKENIZER_NAME,
    Dataset,
    unigram_bits_per_byte,
    write_atomic,
    write_json,
)
from autoresearch.data.shards import file_sha256
from autoresearch.data.sources import Listing, Unit
from autoresearch.data.tokenizer import PATTERN
from autoresearch.errors import PrerequisiteError
from autoresearch.events import now
from autoresearch.paths import cache_directory, find_run_directory

SMALL_BYTES = 4 << 20
"""Less text than this is not worth the start of processes."""


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
    skipped: dict[str, int]
    num_shards: int
    disk_bytes: int
    seconds: float
    phases: tuple[PhaseSummary, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return {**asdict(self), "path": str(self.path)}


OnProgress = Callable[[PrepareProgress], None]


@dataclass
class _Run:
    """The state of one call."""

    config: Config
    source: str
    request: str
    on_progress: OnProgress | None
    phases: list[PhaseSummary] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _started: float = 0.0

    @property
    def data(self) -> DataConfig:
        return self.config.data

    @property
    def folder(self) -> Path:
        return cache_directory() / "work" / self.request

    def begin(self, phase: str, total: int, detail: str = "") -> Callable[[int], None]:
        """Start a phase; returns what is called with bytes done."""
        self._started = time.monotonic()
        done = 0

        def advance(num_bytes: int) -> None:
            nonlocal done
            done += num_bytes
            if self.on_progress:
                self.on_progress(PrepareProgress(phase, min(done, total), total, detail=detail))

        advance(0)
        return advance

    def end(self, phase: str, num_bytes: int) -> None:
        seconds = time.monotonic() - self._started
        self.phases.append(PhaseSummary(phase, round(seconds, 3), num_bytes))


def prepare(
    config: Config, *, on_progress: OnProgress | None = None, offline: bool = False
) -> PrepareSummary:
    """Make the dataset of `config` unless it is there; go on where an earlier call was interrupted.

    Args:
        config: `data` says what to make; `judge` which rows to fix.
        on_progress: Called often, in this thread.
        offline: Never use the network.

    Raises:
        AutoresearchError: the source is missing, damaged, too small, or there is no space.
    """
    from filelock import FileLock

    started = time.monotonic()
    source = _source(config.data)
    run = _Run(config, source, request_key(config.data, source), on_progress)
    locks = cache_directory() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"{run.request}.lock"):
        listing = _list(run, offline=offline)
        dataset = _find(run, listing)
        is_new = dataset is None
        if dataset is None:
            dataset = _build(run, listing)
            shutil.rmtree(run.folder, ignore_errors=True)
        rows = _eval_rows(run, dataset)
    return _summary(run, dataset, rows, is_new=is_new, seconds=time.monotonic() - started)


def open_dataset(config: Config) -> Dataset:
    """Open the dataset that `prepare` made for these settings.

    What was prepared stays what it is when the files of the source change; `prepare` notices.

    Raises:
        PrerequisiteError: it was not made yet.
    """
    source = _source(config.data)
    found = _read_request(request_key(config.data, source))
    path = cache_directory() / "datasets" / str(found.get("key"))
    if not found or not (path / MANIFEST_NAME).is_file():
        raise PrerequisiteError(
            f"no prepared data for the source `{config.data.source}`",
            hint="run `autoresearch prepare`",
            kind="data_missing",
        )
    return Dataset.open(path)


def check(config: Config, on_progress: OnProgress | None = None) -> list[str]:
    """Compare every file of the dataset with its checksum; returns a sentence for each that is wrong.

    Raises:
        PrerequisiteError: nothing was prepared.
    """
    dataset = open_dataset(config)
    expected = {e["file"]: (e["size"], e["sha256"]) for e in dataset.manifest["shards"]}
    tokenizer = dataset.path / TOKENIZER_NAME
    size = tokenizer.stat().st_size if tokenizer.is_file() else 0
    expected[TOKENIZER_NAME] = (size, dataset.manifest["tokenizer_sha256"])
    for path in sorted((dataset.path / "eval").glob("*.json")):
        rows = path.with_suffix(".npy")
        size = rows.stat().st_size if rows.is_file() else 0
        digest = json.loads(path.read_text(encoding="utf-8"))["sha256"]
        expected[f"eval/{rows.name}"] = (size, digest)
    total = sum(size for size, _ in expected.values())
    wrong = []
    done = 0
    for name, (size, digest) in expected.items():
        path = dataset.path / name
        if not path.is_file():
            wrong.append(f"`{path}` is missing")
        elif path.stat().st_size != size:
            wrong.append(f"`{path}` has {path.stat().st_size:,} bytes instead of {size:,}")
        elif file_sha256(path) != digest:
            wrong.append(f"`{path}` does not match its checksum")
        done += size
        if on_progress:
            on_progress(PrepareProgress("check", done, total, detail=name))
    return wrong


def request_key(data: DataConfig, source: str) -> str:
    """Return a hash of what was asked for."""
    fields = data.model_dump(exclude={"source", "memory_mb", "workers"})
    return _hash({"format": FORMAT, "source": source, **fields})


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _source(data: DataConfig) -> str:
    try:
        base = find_run_directory().root
    except PrerequisiteError:
        base = Path.cwd()
    return sources.normalise(data.source, base)


def _read_request(request: str) -> dict[str, Any]:
    try:
        path = cache_directory() / "requests" / f"{request}.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _list(run: _Run, *, offline: bool) -> Listing:  # noqa: ARG001
    run.begin("list", 0)
    listing = sources.list_local(run.source)
    run.warnings += listing.notes
    return listing


def _fingerprint(listing: Listing) -> str:
    return _hash([[f.path, f.size, f.modified_ns, f.split] for f in listing.files])


def _find(run: _Run, listing: Listing) -> Dataset | None:
    """Return the dataset of an earlier call if the source is still the same and all files are there."""
    found = _read_request(run.request)
    if found.get("fingerprint") != _fingerprint(listing):
        return None
    return _whole(cache_directory() / "datasets" / str(found["key"]))


def _whole(path: Path) -> Dataset | None:
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


def _build(run: _Run, listing: Listing) -> Dataset:
    fingerprint = _fingerprint(listing)
    folder = run.folder
    stamp = folder / "fingerprint"
    if not stamp.is_file() or stamp.read_text() != fingerprint:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        stamp.write_text(fingerprint)
    units = sources.plan_units(listing, run.data)
    num_workers = _num_workers(run.data, listing, len(units))
    scanned = _scan(run, listing, units, num_workers)
    key, assignment = _split(run, units)
    target = cache_directory() / "datasets" / key
    dataset = _whole(target)
    if dataset is None:
        built = folder / "dataset"
        built.mkdir(exist_ok=True)
        _tokenizer(run, units, built, num_workers)
        entries = _tokenise(run, units, built, num_workers)
        manifest = {
            "format": FORMAT,
            "key": key,
            "source": run.source,
            "revision": listing.revision,
            "created_at": now(),
            "settings": run.data.model_dump(exclude={"memory_mb", "workers"}),
            "pattern": PATTERN,
            "duplicates": assignment.duplicates,
            **scanned,
            **_totals(run, built, entries),
        }
        write_json(built / MANIFEST_NAME, manifest)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():  # Damaged: a whole one would have been found.
            shutil.rmtree(target)
        built.replace(target)
        dataset = Dataset.open(target)
    write_json(
        cache_directory() / "requests" / f"{run.request}.json",
        {"key": key, "source": run.source, "fingerprint": fingerprint},
    )
    return dataset


def _num_workers(data: DataConfig, listing: Listing, num_units: int) -> int:
    """Return how many processes to use; 0 is this one."""
    total = min(listing.num_bytes, data.max_bytes or listing.num_bytes)
    if total < SMALL_BYTES:
        return 0
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, min(data.workers or cores, num_units))


def _job(run: _Run, unit: Unit, **more: Any) -> dict[str, Any]:
    return {
        "unit": work.unit_to_json(unit),
        "folder": str(run.folder),
        "text_column": run.data.text_column,
        **more,
    }


def _missing(run: _Run, kind: str, units: Sequence[Unit]) -> list[Unit]:
    done = work.load_results(run.folder, kind, len(units))
    return [unit for unit, result in zip(units, done, strict=True) if result is None]


def _scan(
    run: _Run, listing: Listing, units: Sequence[Unit], num_workers: int
) -> dict[str, dict[str, Any]]:
    """Scan what was not scanned yet; returns what was skipped, for the manifest."""
    todo = _missing(run, "scan", units)
    total = sum(u.num_bytes for u in todo)
    advance = run.begin("scan", total, detail=f"{len(listing.files):,} files")
    jobs = [_job(run, unit, max_bytes=run.data.max_bytes) for unit in _enough(run.data, todo)]
    pool.run("scan", jobs, num_workers, advance)
    run.end("scan", total)
    skipped: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for result in work.load_results(run.folder, "scan", len(units)):
        if result is not None:
            skipped.update(result["skipped"])
            examples = {**result["examples"], **examples}
    return {"skipped": dict(skipped), "examples": examples}


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


def _split(run: _Run, units: Sequence[Unit]) -> tuple[str, splits.Assignment]:
    """Label every document, and return the key that follows from all of them."""
    run.begin("split", 0)
    scans = []
    for unit in units:
        path = run.folder / f"scan-{unit.index:05d}.npz"
        if path.is_file():
            with np.load(path) as arrays:
                scan = splits.Scan(arrays["text"], arrays["group"], arrays["bytes"], unit.split)
        else:
            empty = np.empty(0, dtype=np.uint64)
            scan = splits.Scan(empty, empty, empty.astype(np.int64), unit.split)
        scans.append(scan)
    assignment = splits.assign(
        scans,
        source=run.data.source,
        holdout_share=run.data.holdout_share,
        max_bytes=run.data.max_bytes,
    )
    digest = hashlib.sha256()
    for unit, scan, labels in zip(units, scans, assignment.labels, strict=True):
        path = run.folder / f"labels-{unit.index:05d}.npy"
        write_atomic(path, lambda file, labels=labels: np.save(file, labels))
        digest.update(scan.text[: len(labels)].tobytes())
        digest.update(labels.tobytes())
    shaping = run.data.model_dump(include={"vocab_size", "tokenizer_bytes"})
    # The cut into units decides the shards and the tokenizer's sample.
    shaping["units"] = [len(labels) for labels in assignment.labels]
    run.end("split", 0)
    return _hash({"format": FORMAT, "text": digest.hexdigest(), **shaping}), assignment


def _tokenizer(run: _Run, units: Sequence[Unit], built: Path, num_workers: int) -> None:
    path = built / TOKENIZER_NAME
    if path.is_file():
        return
    sizes = []
    for unit in units:
        labels = np.load(run.folder / f"labels-{unit.index:05d}.npy")
        if not len(labels):
            sizes.append(0)
            continue
        with np.load(run.folder / f"scan-{unit.index:05d}.npz") as arrays:
            sizes.append(int(arrays["bytes"][: len(labels)][labels == 0].sum()))
    total = sum(sizes)
    share = min(1.0, run.data.tokenizer_bytes / max(1, total))
    quotas = [int(np.ceil(size * share)) for size in sizes]
    used = [(u, q) for u, q in zip(units, quotas, strict=True) if q]
    job = {
        "units": [work.unit_to_json(u) for u, _ in used],
        "quotas": [q for _, q in used],
        "folder": str(run.folder),
        "text_column": run.data.text_column,
        "vocab_size": run.data.vocab_size,
        "path": str(path),
    }
    advance = run.begin("tokenizer", sum(quotas), detail=f"{run.data.vocab_size:,} tokens")
    pool.run(
        "learn_tokenizer", [job], min(1, num_workers), advance, num_threads=max(1, num_workers)
    )
    run.end("tokenizer", sum(quotas))


def _tokenise(
    run: _Run, units: Sequence[Unit], built: Path, num_workers: int
) -> list[dict[str, Any]]:
    """Write the shards that are not written yet; returns the entries of all."""
    labelled = [
        u for u in units if len(np.load(run.folder / f"labels-{u.index:05d}.npy", mmap_mode="r"))
    ]
    waiting = {u.index for u in _missing(run, "unit", units)}
    todo = [u for u in labelled if u.index in waiting]
    total = sum(u.num_bytes for u in todo)
    advance = run.begin("tokenise", total)
    path = built / TOKENIZER_NAME
    jobs = [_job(run, u, target=str(built), tokenizer=str(path)) for u in todo]
    pool.run("tokenise", jobs, num_workers, advance)
    run.end("tokenise", total)
    results = work.load_results(run.folder, "unit", len(units))
    return [entry for u in labelled for entry in results[u.index] or []]


def _totals(run: _Run, built: Path, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the manifest says of the shards and the tokenizer."""
    from autoresearch.data.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(built / TOKENIZER_NAME)
    totals = {
        split: {
            name: sum(e[name] for e in entries if e["split"] == split)
            for name in ("documents", "tokens", "bytes")
        }
        for split in SPLITS
    }
    counts = {split: np.zeros(tokenizer.vocab_size, dtype=np.int64) for split in SPLITS}
    for path in sorted(run.folder.glob("counts-*.npz")):
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


def _eval_rows(run: _Run, dataset: Dataset) -> dict[str, int]:
    """Fix the rows the judge reads; returns how many there are of each split."""
    judge = run.config.judge
    advance = run.begin("rows", 2)
    found = {}
    for split in ("validation", "test"):
        rows = dataset.eval_rows(split, judge.context, judge.eval_tokens)
        found[split] = len(rows)
        advance(1)
        wanted = max(1, judge.eval_tokens // judge.context)
        if len(rows) < wanted:
            run.warnings.append(
                f"{split} has {len(rows) * judge.context:,} tokens for judging where"
                f" `judge.eval_tokens` asks for {judge.eval_tokens:,}: all of them are used"
            )
    run.end("rows", sum(found.values()) * (judge.context + 1) * 2)
    return found


def _summary(
    run: _Run, dataset: Dataset, rows: dict[str, int], *, is_new: bool, seconds: float
) -> PrepareSummary:
    manifest = dataset.manifest
    warnings = list(run.warnings)
    if manifest["vocab_size"] < run.data.vocab_size:
        warnings.append(
            f"the text gives {manifest['vocab_size']:,} tokens where `data.vocab_size` asks for"
            f" {run.data.vocab_size:,}"
        )
    for reason, count in sorted(manifest["skipped"].items()):
        if reason != "empty":
            place = manifest["examples"].get(reason, "")
            warnings.append(f"{count:,} left out: {reason}, the first in `{place}`")
    disk = sum(p.stat().st_size for p in dataset.path.rglob("*") if p.is_file())
    return PrepareSummary(
        key=dataset.key,
        path=dataset.path,
        source=str(manifest["source"]),
        revision=str(manifest["revision"]),
        is_new=is_new,
        vocab_size=dataset.vocab_size,
        unigram_bpb=dataset.unigram_bpb,
        splits={s: dict(v) for s, v in manifest["splits"].items()},
        eval_rows=rows,
        duplicates=dict(manifest["duplicates"]),
        skipped=dict(manifest["skipped"]),
        num_shards=len(manifest["shards"]),
        disk_bytes=disk,
        seconds=round(seconds, 3),
        phases=tuple(run.phases) if is_new else (),
        warnings=tuple(warnings),
    )
