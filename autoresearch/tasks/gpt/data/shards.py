"""The documents of a split as token shards: Arrow IPC files with one `list<uint16>` row per document.

They are written with pyarrow and read by memory mapping with numpy alone.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from autoresearch.errors import AutoresearchError
from autoresearch.util.files import file_sha256

DataSplit = Literal["train", "validation", "test"]
SPLITS: tuple[DataSplit, ...] = ("train", "validation", "test")
BATCH_TOKENS = 4_000_000
COUNT_TOKENS = 1_000_000

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


class ShardWriter:
    """Writes one shard atomically: the file has its name only once it is whole and synced."""

    def __init__(self, path: Path, split: DataSplit, vocab_size: int, dtype: np.dtype[Any]) -> None:
        import pyarrow as pa

        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._split = split
        value = pa.uint16() if dtype == np.uint16 else pa.uint32()
        self._type = pa.list_(pa.field("item", value, nullable=False))
        self._schema = pa.schema([pa.field("tokens", self._type, nullable=False)])
        self._file = pa.OSFile(str(self._temporary), "wb")
        self._writer = pa.ipc.new_file(self._file, self._schema)
        self._documents: list[Tokens] = []
        self._pending = 0
        self.counts: npt.NDArray[np.int64] = np.zeros(vocab_size, dtype=np.int64)
        """(vocab_size,) how often each token came; the last, BOS, counts documents."""
        self.num_bytes = 0

    def add(self, tokens: Tokens, num_bytes: int) -> None:
        """Append a document of at least one token."""
        if len(tokens) >= BATCH_TOKENS:
            self._flush()  # A large document gets its own batch, so that it is not copied.
        self._documents.append(tokens)
        self._pending += len(tokens)
        self.num_bytes += num_bytes
        if self._pending >= BATCH_TOKENS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if not self._documents:
            return
        documents = self._documents
        values = documents[0] if len(documents) == 1 else np.concatenate(documents)
        offsets = np.zeros(len(self._documents) + 1, dtype=np.int32)
        np.cumsum([len(d) for d in documents], out=offsets[1:])
        column = pa.ListArray.from_arrays(pa.array(offsets), pa.array(values), type=self._type)
        self._writer.write_batch(pa.record_batch([column], schema=self._schema))
        # In slices, because counting makes 8 bytes of each token.
        for start in range(0, len(values), COUNT_TOKENS):
            self.counts += np.bincount(
                values[start : start + COUNT_TOKENS], minlength=len(self.counts)
            )
        self.counts[-1] += len(documents)
        self._documents, self._pending = [], 0

    def close(self) -> dict[str, Any]:
        """Finish the file and return its entry for the manifest."""
        self._flush()
        self._writer.close()
        self._file.close()
        descriptor = os.open(self._temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        entry = {
            "file": self._path.name,
            "split": self._split,
            "documents": int(self.counts[-1]),
            "tokens": int(self.counts[:-1].sum()),
            "bytes": self.num_bytes,
            "size": self._temporary.stat().st_size,
            "sha256": file_sha256(self._temporary),
            "batches": batch_positions(self._temporary),
        }
        self._temporary.replace(self._path)
        return entry

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._file.closed:
            self._file.close()
        self._temporary.unlink(missing_ok=True)


def batch_positions(path: Path) -> list[dict[str, int]]:
    """Return where the offsets and the tokens of each record batch are in the file, in bytes."""
    import pyarrow as pa

    found = []
    with pa.memory_map(str(path)) as mapped:
        start = mapped.read_buffer().address
        mapped.seek(0)
        reader = pa.ipc.open_file(mapped)
        for number in range(reader.num_record_batches):
            column = reader.get_batch(number).column(0)
            offsets, tokens = column.buffers()[1], column.values.buffers()[1]
            found.append(
                {
                    "documents": len(column),
                    "tokens": len(column.values),
                    "offsets_at": offsets.address - start,
                    "tokens_at": tokens.address - start,
                }
            )
    return found
