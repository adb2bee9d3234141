"""The documents of a split, memory-mapped from its shards without an Arrow library; needs numpy only."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from autoresearch.errors import AutoresearchError

DataSplit = Literal["train", "validation", "test"]
SPLITS: tuple[DataSplit, ...] = ("train", "validation", "test")

Tokens = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True)
class Chunk:
    """One record batch of a shard: flat tokens and where each document starts.

    Attributes:
        tokens: (num_tokens,) uint16 or uint32, memory-mapped.
        offsets: (num_documents + 1,) int32; document i is `tokens[offsets[i]:offsets[i + 1]]`.
    """

    tokens: Tokens
    offsets: npt.NDArray[np.int32]


@dataclass(frozen=True)
class DocumentStore:
    """All documents of one split, in order, memory-mapped."""

    split: DataSplit
    chunks: tuple[Chunk, ...]
    bos_id: int
    num_bytes: int
    """UTF-8 bytes of the text."""

    @property
    def num_documents(self) -> int:
        """Documents in the split."""
        return sum(len(c.offsets) - 1 for c in self.chunks)

    @property
    def num_tokens(self) -> int:
        """Tokens in the split, BOS not counted."""
        return sum(len(c.tokens) for c in self.chunks)


def map_shard(path: Path, entry: Mapping[str, Any], dtype: np.dtype[Any]) -> list[Chunk]:
    """Map a shard where its entry in the manifest says that its tokens are.

    Raises:
        AutoresearchError: it is missing or has another size.
    """
    try:
        if path.stat().st_size != entry["size"]:
            raise ValueError("size")
        raw = np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as exc:
        raise AutoresearchError(
            f"shard `{path}` is missing or damaged",
            hint="run `autoresearch prepare --check`, which says what to do",
            kind="data_invalid",
        ) from exc
    chunks = []
    for batch in entry["batches"]:
        start, stop = batch["offsets_at"], batch["offsets_at"] + 4 * (batch["documents"] + 1)
        offsets = raw[start:stop].view(np.int32)
        start, stop = batch["tokens_at"], batch["tokens_at"] + dtype.itemsize * batch["tokens"]
        chunks.append(Chunk(np.asarray(raw[start:stop]).view(dtype), np.asarray(offsets)))
    return chunks
