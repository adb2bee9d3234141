"""What the workers of `prepare` do with a unit: scan it, learn a tokenizer, write its shards.

Arguments and results are JSON values. Results of a scan and of tokenising are files in the work folder,
written atomically, so that an interrupted `prepare` finds what is done.
"""

import hashlib
import json
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from autoresearch.tasks.gpt.data.faults import changed, cut_utf8
from autoresearch.tasks.gpt.data.formats import Range, Reader
from autoresearch.tasks.gpt.data.shards import SPLITS, ShardWriter
from autoresearch.tasks.gpt.data.sources import Unit
from autoresearch.tasks.gpt.data.splits import DROPPED
from autoresearch.tasks.gpt.data.tokenizer import Tokenizer, train
from autoresearch.util.files import write_file, write_json

Report = Callable[[int], None]
"""Called with the number of bytes done since the last call."""

HEAD_BYTES = 65_536
BIG_LOCK = "big.lock"


def unit_to_json(unit: Unit) -> dict[str, Any]:
    """Return a unit as JSON values."""
    return {**vars(unit), "ranges": [vars(r) for r in unit.ranges]}


def unit_from_json(value: dict[str, Any]) -> Unit:
    """Return the unit that `unit_to_json` wrote."""
    return Unit(**{**value, "ranges": tuple(Range(**r) for r in value["ranges"])})


def scan(job: dict[str, Any], report: Report) -> dict[str, Any]:
    """Hash every document of a unit; write `scan-NNNNN.npz` with (documents,) arrays.

    `text` is the hash of the text, `bytes` its length, `group`, where it differs from `text`, the hash of what
    must not be parted.
    """
    unit, folder = unit_from_json(job["unit"]), Path(job["folder"])
    reader = Reader(job["text_column"], folder / BIG_LOCK)
    # Eight bytes per document and not a list of objects: a packed file of 10 GB is one unit.
    texts, groups, sizes = array("Q"), array("Q"), array("Q")
    total = 0
    for part in unit.ranges:
        before = total
        group = _head_hash(part) if unit.is_grouped and part.kind == "text" else None
        for data in reader.documents(part):
            digest = _hash(data)
            texts.append(digest)
            groups.append(digest if group is None else group)
            sizes.append(len(data))
            total += len(data)
            del data
            if job["max_bytes"] and total >= job["max_bytes"]:
                break
        report(total - before)
        if job["max_bytes"] and total >= job["max_bytes"]:
            break
    arrays: dict[str, Any] = {
        "text": np.array(texts, dtype=np.uint64),
        "bytes": np.array(sizes, dtype=np.uint32),
    }
    if unit.is_grouped:
        arrays["group"] = np.array(groups, dtype=np.uint64)
    write_file(folder / f"scan-{unit.index:05d}.npz", lambda file: np.savez(file, **arrays))
    result = {"skipped": dict(reader.skipped), "examples": reader.examples}
    write_json(folder / f"scan-{unit.index:05d}.json", result)
    return result


def learn_tokenizer(job: dict[str, Any], report: Report) -> dict[str, Any]:
    """Train the tokenizer on the first training documents of each unit, up to the unit's quota."""
    folder = Path(job["folder"])
    sizes: list[int] = []

    def sample() -> Iterator[bytes]:
        for value, quota in zip(job["units"], job["quotas"], strict=True):
            unit = unit_from_json(value)
            taken = 0
            for data, label in _labelled(unit, folder, job["text_column"]):
                if taken >= quota:
                    break
                if label == 0:
                    data = cut_utf8(data, quota - taken)
                    if not data:
                        break
                    taken += len(data)
                    report(len(data))
                    yield data
            sizes.append(taken)

    tokenizer = train(sample(), job["vocab_size"])
    tokenizer.save(Path(job["path"]))
    return {"bytes": sum(sizes), "vocab_size": tokenizer.vocab_size}


def tokenise(job: dict[str, Any], report: Report) -> dict[str, Any]:
    """Write the shards of a unit, one for each split it has documents of."""
    unit, folder, target = unit_from_json(job["unit"]), Path(job["folder"]), Path(job["target"])
    tokenizer = Tokenizer.load(Path(job["tokenizer"]))
    writers: dict[int, ShardWriter] = {}
    with ExitStack() as stack:
        for data, label in _labelled(unit, folder, job["text_column"]):
            report(len(data))
            if label == DROPPED:
                del data
                continue
            if label not in writers:
                split = SPLITS[label]
                path = target / f"{split}-{unit.index:05d}.arrow"
                writer = ShardWriter(path, split, tokenizer.vocab_size, tokenizer.dtype)
                writers[label] = stack.enter_context(writer)
            writers[label].add(tokenizer.encode_bytes(data), len(data))
            del data
        entries = [writers[label].close() for label in sorted(writers)]
        counts: dict[str, Any] = {SPLITS[label]: writer.counts for label, writer in writers.items()}
    write_file(folder / f"counts-{unit.index:05d}.npz", lambda file: np.savez(file, **counts))
    write_json(folder / f"unit-{unit.index:05d}.json", entries)
    return {"entries": entries}


def _labelled(unit: Unit, folder: Path, text_column: str) -> Iterator[tuple[bytes, int]]:
    """Read a unit again, with the label of each document, and see that it is the text that was scanned.

    Raises:
        AutoresearchError: it is not.
    """
    labels = np.load(folder / f"labels-{unit.index:05d}.npy")
    with np.load(folder / f"scan-{unit.index:05d}.npz") as scanned:
        texts = scanned["text"]
    reader = Reader(text_column, folder / BIG_LOCK)
    index = 0
    for part in unit.ranges:
        for data in reader.documents(part):
            if index == len(labels):
                return
            if _hash(data) != texts[index]:
                raise changed(part.path)
            yield data, int(labels[index])
            del data
            index += 1
    if index < len(labels):
        raise changed(unit.ranges[-1].path)


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _head_hash(part: Range) -> int:
    """Return a hash that all parts of a file share, and files that begin alike."""
    with Path(part.path).open("rb") as file:
        return _hash(file.read(HEAD_BYTES))


def load_results(folder: Path, kind: str, num_units: int) -> list[Any | None]:
    """Return what is already done of a kind of job, None for what is not."""
    found: list[Any | None] = []
    for index in range(num_units):
        try:
            text = (folder / f"{kind}-{index:05d}.json").read_text(encoding="utf-8")
            found.append(json.loads(text))
        except (OSError, ValueError):
            found.append(None)
    return found
