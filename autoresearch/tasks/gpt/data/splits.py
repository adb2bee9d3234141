"""Which document goes to which split, and which texts are left out because a held-out split has them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from autoresearch.errors import UsageError
from autoresearch.tasks.gpt.data.shards import SPLITS, DataSplit

DROPPED = 255
"""Label of a document that is in no split; the others are indices of `SPLITS`."""


@dataclass(frozen=True)
class Scan:
    """What the scan of a unit found; (documents,) arrays."""

    text: npt.NDArray[np.uint64]
    group: npt.NDArray[np.uint64]
    num_bytes: npt.NDArray[np.uint32]
    split: DataSplit | None = None


@dataclass
class Assignment:
    """Labels of all documents, and the counts for the summary."""

    labels: list[npt.NDArray[np.uint8]]
    """One array per unit; shorter than the unit where the rest is beyond `max_bytes`."""
    duplicates: dict[str, int] = field(default_factory=dict)
    """Split -> documents taken out because their text is in a held-out split (or there twice)."""


def assign(
    scans: Sequence[Scan],
    *,
    source: str,
    holdout_share: float,
    max_bytes: int,
    remarks: Sequence[str] = (),
) -> Assignment:
    """Assign every document to a split.

    Pinned units keep their split. Otherwise groups are ordered by their hash, and the first ones, up to
    `holdout_share` of the bytes, are validation, the next ones as many test: no choice of ours, no order
    of the files, and the same text always on the same side. A group larger than that share is training.

    Args:
        scans: Of each unit.
        source: What the text is from, for the error.
        holdout_share: Part of the bytes for validation, and as much for test.
        max_bytes: Documents after so many bytes are left out; 0: none.
        remarks: What the scan left out, for the error.

    Raises:
        UsageError: there is too little text for three splits.
    """
    lengths = _limit(scans, max_bytes)
    if not any(lengths):
        raise UsageError(
            "; ".join((f"`{source}` has no text", *remarks)),
            hint="name a file, folder or dataset that has some",
            kind="data_invalid",
        )
    labels = [np.zeros(n, dtype=np.uint8) for n in lengths]
    if any(s.split for s in scans):
        for array, scan in zip(labels, scans, strict=True):
            array[:] = SPLITS.index(scan.split or "train")
    else:
        _by_hash(scans, labels, holdout_share)
    duplicates = _drop_duplicates(scans, labels)
    present = {int(v) for array in labels for v in np.unique(array)}
    for index, split in enumerate(SPLITS):
        if index not in present:
            texts = [scan.text[:n] for scan, n in zip(scans, lengths, strict=True)]
            total = len(np.unique(np.concatenate(texts)))
            message = f"`{source}` has {total} different documents, too few for a {split} split"
            raise UsageError(
                "; ".join((message, *remarks)),
                hint="give more text, or `.jsonl` with one document per line",
                kind="data_invalid",
            )
    return Assignment(labels, duplicates)


def _limit(scans: Sequence[Scan], max_bytes: int) -> list[int]:
    """Return how many documents of each unit count; the limit holds for each pinned split."""
    if not max_bytes:
        return [len(s.text) for s in scans]
    used: dict[Any, int] = {}
    lengths = []
    for scan in scans:
        left = max_bytes - used.get(scan.split, 0)
        sums = np.cumsum(scan.num_bytes, dtype=np.int64)
        count = int(np.searchsorted(sums, left)) + 1 if left > 0 else 0
        count = min(count, len(sums))
        used[scan.split] = used.get(scan.split, 0) + (int(sums[count - 1]) if count else 0)
        lengths.append(count)
    return lengths


def _by_hash(scans: Sequence[Scan], labels: Sequence[npt.NDArray[np.uint8]], share: float) -> None:
    groups = np.concatenate([s.group[: len(a)] for s, a in zip(scans, labels, strict=True)])
    sizes = np.concatenate([s.num_bytes[: len(a)] for s, a in zip(scans, labels, strict=True)])
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    firsts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    totals = np.add.reduceat(sizes[order].astype(np.int64), firsts)
    wanted = share * float(totals.sum())
    # One document larger than a whole split would be all there is in it: it goes to training.
    able = np.flatnonzero(totals <= wanted)
    if len(able) < 2:
        able = np.arange(len(totals))
    sums = np.cumsum(totals[able])
    middle = int(np.searchsorted(sums, wanted)) + 1
    taken = int(sums[min(middle, len(sums)) - 1])
    end = int(np.searchsorted(sums, taken + wanted)) + 1
    of_group = np.full(len(totals), SPLITS.index("train"), dtype=np.uint8)
    of_group[able[:middle]] = SPLITS.index("validation")
    of_group[able[middle:end]] = SPLITS.index("test")
    flat = np.empty(len(ordered), dtype=np.uint8)
    flat[order] = np.repeat(of_group, np.diff(np.r_[firsts, len(ordered)]))
    start = 0
    for array in labels:
        array[:] = flat[start : start + len(array)]
        start += len(array)


def _drop_duplicates(
    scans: Sequence[Scan], labels: Sequence[npt.NDArray[np.uint8]]
) -> dict[str, int]:
    """Leave one copy of a text in the held-out splits together, and none of it in training."""
    held_out = np.empty(0, dtype=np.uint64)  # Sorted.
    counts: dict[str, int] = {}
    for split in ("validation", "test"):
        index = SPLITS.index(split)
        mine = [np.flatnonzero(array == index) for array in labels]
        parts = [scan.text[at] for scan, at in zip(scans, mine, strict=True)]
        texts = np.concatenate([held_out[:0], *parts])
        new, first = np.unique(texts, return_index=True)
        keep = np.zeros(len(texts), dtype=bool)
        keep[first[~_contains(held_out, new)]] = True
        counts[split] = int(len(texts) - keep.sum())
        start = 0
        for array, at in zip(labels, mine, strict=True):
            array[at[~keep[start : start + len(at)]]] = DROPPED
            start += len(at)
        held_out = np.union1d(held_out, new)
    counts["train"] = 0
    for scan, array in zip(scans, labels, strict=True):
        known = (array == 0) & _contains(held_out, scan.text[: len(array)])
        array[known] = DROPPED
        counts["train"] += int(known.sum())
    return counts


def _contains(
    ordered: npt.NDArray[np.uint64], values: npt.NDArray[np.uint64]
) -> npt.NDArray[np.bool_]:
    """Tell which values are in a sorted array."""
    if not len(ordered):
        return np.zeros(len(values), dtype=bool)
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    found: npt.NDArray[np.bool_] = ordered[at] == values
    return found
