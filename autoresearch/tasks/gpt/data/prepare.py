"""`prepare`: from a source of text to a dataset in the cache, in steps that can be interrupted.

Folders in the cache:
    requests/<request>.json     which dataset the settings of a run directory lead to
    hub/                        listings of hub datasets
    work/<request>/             what an unfinished `prepare` has done so far
    datasets/<key>/             whole datasets, never changed (but for `eval/`, which only grows)

A request is the source as named and the settings that shape the data. A key is a hash of the text, its
splits and those settings: the same text from another place, or read by another number of processes,
is the same dataset.
"""

import json
import shutil
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autoresearch.config import Config, DataConfig
from autoresearch.errors import PrerequisiteError, UsageError
from autoresearch.paths import cache_directory, find_run_directory
from autoresearch.tasks.gpt.data import sources
from autoresearch.tasks.gpt.data.dataset import (
    DAMAGED_NAME,
    FORMAT,
    MANIFEST_NAME,
    SPARE,
    TOKENIZER_NAME,
    Dataset,
)
from autoresearch.tasks.gpt.data.formats import FORMATS
from autoresearch.tasks.gpt.data.pipeline import (
    OnProgress,
    PreparePlan,
    PrepareProgress,
    PrepareSummary,
    Run,
    build,
    disk_needed,
    fingerprint,
    hash_of,
    left_out,
    whole,
)
from autoresearch.tasks.gpt.data.pool import explain
from autoresearch.tasks.gpt.data.shards import SPLITS
from autoresearch.tasks.gpt.data.sources import HUB_PREFIX, Listing, SourceFile
from autoresearch.types import MB
from autoresearch.util.files import file_sha256, read_json, write_json
from autoresearch.util.locks import locked

if TYPE_CHECKING:
    from autoresearch.tasks.gpt.data.hub import HubFile

__all__ = [
    "Cached",
    "PreparePlan",
    "PrepareProgress",
    "PrepareSummary",
    "check",
    "key_of",
    "list_cached",
    "open_dataset",
    "plan",
    "prepare",
    "remove_cached",
    "request_key",
]


def prepare(
    config: Config, *, on_progress: OnProgress | None = None, offline: bool = False
) -> PrepareSummary:
    """Make the dataset of `config` unless it is there; resume where an earlier call was interrupted.

    A hub dataset that was prepared stays at its revision, without asking the network again.

    Args:
        config: `data` says what to make; `judge` which rows to fix.
        on_progress: Called often, in this thread.
        offline: Never use the network.

    Raises:
        AutoresearchError: the source is missing, damaged, too small, or there is no space.
    """
    started = time.monotonic()
    source = _source(config.data)
    run = Run(config, source, request_key(config.data, source), on_progress)
    try:
        with _alone(run):
            dataset = _find_hub(run)
            listing = None
            if dataset is None:
                listing = _list(run, offline=offline)
                dataset = _find(run, listing)
            is_new = dataset is None
            if dataset is None:
                assert listing is not None
                dataset = build(run, listing)
                shutil.rmtree(run.folder, ignore_errors=True)
            rows = _eval_rows(run, dataset)
    except OSError as exc:
        raise explain(exc) from exc
    return _summary(run, dataset, rows, is_new=is_new, seconds=time.monotonic() - started)


def plan(config: Config, *, offline: bool = False) -> PreparePlan:
    """Say what `prepare` would do; fetches and writes nothing but the listing of a hub dataset.

    The disk it needs is an estimate from above: hub files are packed text, and what they unpack to is
    known only when they are here.

    Raises:
        AutoresearchError: the source is missing, or the network failed.
    """
    source = _source(config.data)
    run = Run(config, source, request_key(config.data, source), None)
    download = 0
    files: Sequence[HubFile | SourceFile] = ()
    dataset = _find_hub(run)
    if not source.startswith(HUB_PREFIX):
        listing = sources.list_local(source)
        files, dataset = listing.files, _find(run, listing)
    elif dataset is None:
        from autoresearch.tasks.gpt.data.hub import plan_hub

        planned = plan_hub(source, config.data.shards, offline=offline)
        files, download = planned.files, planned.missing_bytes
    text = sum(f.size * FORMATS[f.kind].text_per_byte for f in files)
    if config.data.max_bytes:
        text = min(text, config.data.max_bytes)
    folder = cache_directory()
    while not folder.exists():
        folder = folder.parent
    return PreparePlan(
        source=source,
        is_done=dataset is not None,
        num_files=len(files),
        num_bytes=sum(f.size for f in files),
        download_bytes=download,
        disk_bytes=0 if dataset else download + disk_needed(text),
        free_bytes=shutil.disk_usage(folder).free,
    )


def open_dataset(config: Config) -> Dataset:
    """Open the dataset that `prepare` made for these settings.

    What was prepared stays what it is when the files of the source change; `prepare` notices.

    Raises:
        PrerequisiteError: it was not made yet, or `check` found it damaged.
    """
    key = key_of(config)
    path = cache_directory() / "datasets" / key
    if not key or not (path / MANIFEST_NAME).is_file():
        raise PrerequisiteError(
            f"no prepared data for the source `{config.data.source}`{_prepared_otherwise(config)}",
            hint="run `autoresearch prepare`",
            kind="data_missing",
        )
    return Dataset.open(path)


def _prepared_otherwise(config: Config) -> str:
    """Return with which vocabularies the source was prepared, where it was, but not with these settings."""
    wanted = _source(config.data)
    manifests = map(read_json, (cache_directory() / "datasets").glob(f"*/{MANIFEST_NAME}"))
    sizes = sorted({int(m.get("vocab_size", 0)) for m in manifests if m.get("source") == wanted})
    if not sizes:
        return ""
    there = ", ".join(f"{size:,}" for size in sizes)
    return (
        f" with these settings of `[data]`: vocab_size is {config.data.vocab_size:,}, prepared with {there}"
        if config.data.vocab_size not in sizes
        else " with these settings of `[data]`, only with others"
    )


def key_of(config: Config) -> str:
    """Return the key of the dataset these settings led to, empty if they led to none yet."""
    source = _source(config.data)
    return str(_read_request(request_key(config.data, source)).get("key", ""))


def check(config: Config, on_progress: OnProgress | None = None) -> list[str]:
    """Compare every file of the dataset with its checksum; returns a sentence for each that is wrong.

    A dataset with a damaged shard is marked: from then on it cannot be opened, and `prepare` makes it
    again.

    Raises:
        PrerequisiteError: nothing was prepared, or the dataset is marked already.
    """
    dataset = open_dataset(config)
    expected = {e["file"]: (e["size"], e["sha256"]) for e in dataset.manifest["shards"]}
    tokenizer = dataset.path / TOKENIZER_NAME
    expected[TOKENIZER_NAME] = (_size(tokenizer), dataset.manifest["tokenizer_sha256"])
    for path in sorted((dataset.path / "eval").glob("*.json")):
        rows = path.with_suffix(".npy")
        digest = json.loads(path.read_text(encoding="utf-8"))["sha256"]
        expected[f"eval/{rows.name}"] = (_size(rows), digest)
    total = sum(size for size, _ in expected.values())
    wrong = []
    is_damaged = False
    done = 0
    for name, (size, digest) in expected.items():
        problem = _problem(dataset.path / name, size, digest)
        if problem:
            wrong.append(problem)
            is_damaged |= not name.startswith("eval/")
        done += size
        if on_progress:
            on_progress(PrepareProgress("check", done, total, detail=name))
    if is_damaged:
        write_json(dataset.path / DAMAGED_NAME, wrong)
    return wrong


def _problem(path: Path, size: int, digest: str) -> str:
    if not path.is_file():
        return f"`{path}` is missing"
    if path.stat().st_size != size:
        return f"`{path}` has {path.stat().st_size:,} bytes instead of {size:,}"
    if file_sha256(path) != digest:
        return f"`{path}` does not match its checksum"
    return ""


def _alone(run: Run) -> AbstractContextManager[None]:
    """Hold the lock of a request; says so if another process has it."""
    locks = cache_directory() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    told = "another `prepare` is at work on the same data"
    return locked(locks / f"{run.request}.lock", lambda: run.begin("wait", 0, told))


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def request_key(data: DataConfig, source: str) -> str:
    """Return a hash of what was asked for."""
    fields = data.model_dump(exclude={"source"})
    return hash_of({"format": FORMAT, "source": source, **fields})


def _source(data: DataConfig) -> str:
    try:
        base = find_run_directory().root
    except PrerequisiteError:
        base = Path.cwd()
    return sources.normalise(data.source, base)


def _read_request(request: str) -> dict[str, Any]:
    return read_json(cache_directory() / "requests" / f"{request}.json")


def _list(run: Run, *, offline: bool) -> Listing:
    run.begin("list", 0)
    if run.source.startswith(HUB_PREFIX):
        from autoresearch.tasks.gpt.data.hub import fetch, plan_hub

        plan = plan_hub(run.source, run.data.shards, offline=offline)
        size = plan.missing_bytes
        detail = f"{len(plan.missing)} files, {size / MB:,.0f} MB" if plan.missing else ""
        listing = fetch(plan, run.begin("download", size, detail) if size else lambda _: None)
        if size:
            run.end("download", size)
    else:
        listing = sources.list_local(run.source)
    return listing


def _find_hub(run: Run) -> Dataset | None:
    """Return the dataset of a hub source that was prepared before; its revision stays."""
    found = _read_request(run.request)
    if not found or not run.source.startswith(HUB_PREFIX):
        return None
    return whole(cache_directory() / "datasets" / str(found["key"]))


def _find(run: Run, listing: Listing) -> Dataset | None:
    """Return the dataset of an earlier call if the source is still the same and all files are there."""
    found = _read_request(run.request)
    if found.get("fingerprint") != fingerprint(listing):
        return None
    return whole(cache_directory() / "datasets" / str(found["key"]))


def _eval_rows(run: Run, dataset: Dataset) -> dict[str, int]:
    """Fix the rows the judge reads; returns how many there are of each split."""
    judge = run.config.judge
    advance = run.begin("rows", 2, unit="splits")
    found: dict[str, int] = {}
    splits: tuple[Literal["validation", "test"], ...] = ("validation", "test")
    for split in splits:
        rows = dataset.eval_rows(split, judge.context, SPARE * judge.eval_tokens)
        wanted = max(1, judge.eval_tokens // judge.context)
        found[split] = min(wanted, len(rows))
        advance(1)
        if len(rows) < wanted:
            run.warnings.append(
                f"{split} has {len(rows) * judge.context:,} tokens for judging where"
                f" `judge.eval_tokens` asks for {judge.eval_tokens:,}: all of them are used"
            )
    run.end("rows", sum(found.values()) * (judge.context + 1) * 2)
    return found


def _summary(
    run: Run, dataset: Dataset, rows: dict[str, int], *, is_new: bool, seconds: float
) -> PrepareSummary:
    manifest = dataset.manifest
    warnings = [*manifest["notes"], *run.warnings]
    if manifest["vocab_size"] < run.data.vocab_size:
        warnings.append(
            f"the text gives {manifest['vocab_size']:,} tokens where `data.vocab_size` asks for"
            f" {run.data.vocab_size:,}"
        )
    warnings += left_out(manifest)
    disk = sum(p.stat().st_size for p in dataset.path.rglob("*") if p.is_file())
    return PrepareSummary(
        key=dataset.key,
        path=dataset.path,
        source=str(manifest["source"]),
        revision=str(manifest["revision"]),
        is_new=is_new,
        vocab_size=dataset.vocab_size,
        unigram_bpb=dataset.unigram_bpb,
        splits={s: dict(manifest["splits"][s]) for s in SPLITS},
        eval_rows=rows,
        duplicates=dict(manifest["duplicates"]),
        skipped=dict(manifest["skipped"]),
        num_shards=len(manifest["shards"]),
        disk_bytes=disk,
        seconds=round(seconds, 3),
        phases=tuple(run.phases) if is_new else (),
        warnings=tuple(warnings),
    )


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
