"""Writing token shards: Arrow IPC files with one `list<uint16>` row per document."""

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from autoresearch.data.documents import DataSplit, Tokens
from autoresearch.util.files import file_sha256

BATCH_TOKENS = 4_000_000
COUNT_TOKENS = 1_000_000


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
