"""A prepared dataset: a folder of token shards, opened by memory mapping.

Needs numpy only, so that the feeder and the judge start at once: the manifest says at which byte of
each Arrow file the token ids are, so no Arrow library is loaded to read them.

The folder holds `manifest.json`, `tokenizer.tiktoken`, `<split>-NNNNN.arrow` (one `list<uint16>` row per
document, without BOS) and `eval/` (the rows the judge reads). A folder with a manifest is whole: the
manifest is written last, then the folder is renamed into place.
"""

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autoresearch.errors import PrerequisiteError, UsageError
from autoresearch.tasks.gpt.data.packing import Packer
from autoresearch.tasks.gpt.data.shards import Chunk, DataSplit, DocumentStore, Tokens, map_shard
from autoresearch.tasks.gpt.data.tokenizer import Tokenizer
from autoresearch.util.files import file_sha256, write_file, write_json

MANIFEST_NAME = "manifest.json"
DAMAGED_NAME = "damaged.json"
"""Written by `prepare --check`; a dataset that has it is not opened."""
TOKENIZER_NAME = "tokenizer.tiktoken"
SPARE = 16
"""Rows made of a held-out split, in times those of one judging: the others are text that no claim saw yet."""
FORMAT = 1
"""Version of the layout and of the manifest; part of every key. Another set of `FIELDS` is another version."""
FIELDS = (
    "created_at",
    "dtype",
    "duplicates",
    "examples",
    "format",
    "key",
    "notes",
    "pattern",
    "revision",
    "settings",
    "shards",
    "skipped",
    "source",
    "splits",
    "tokenizer_sha256",
    "unigram_bpb",
    "vocab_size",
)
"""What a manifest says."""


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset. Cheap to open; everything heavy is read when asked for."""

    path: Path
    key: str
    """Hash of the text, its splits and the settings: equal keys mean equal tokens."""
    manifest: Mapping[str, Any] = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> "Dataset":
        """Open the dataset in folder `path`.

        Raises:
            PrerequisiteError: there is no whole dataset of this version.
        """
        try:
            manifest = json.loads((path / MANIFEST_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise PrerequisiteError(
                f"no prepared data in `{path}`", hint="run `autoresearch prepare`"
            ) from exc
        missing = [name for name in FIELDS if name not in manifest]
        if manifest.get("format") != FORMAT or missing:
            raise PrerequisiteError(
                f"`{path}` was prepared by another version of autoresearch",
                hint="run `autoresearch prepare` again",
            )
        if (path / DAMAGED_NAME).exists():
            raise PrerequisiteError(
                f"the prepared data in `{path}` is damaged",
                hint="run `autoresearch prepare`, which makes it again",
            )
        return cls(path, manifest["key"], manifest)

    @property
    def vocab_size(self) -> int:
        """Token ids run from 0 to `vocab_size - 1`, BOS included."""
        return int(self.manifest["vocab_size"])

    @property
    def bos_id(self) -> int:
        """The one special token, `vocab_size - 1`."""
        return self.vocab_size - 1

    @property
    def unigram_bpb(self) -> float:
        """Bits per byte of validation when each token is predicted by its training frequency."""
        return float(self.manifest["unigram_bpb"])

    @property
    def is_visible(self) -> bool:
        """Whether code in a sandbox can read the source's text."""
        return str(self.manifest["source"]).startswith("builtin:")

    @cached_property
    def token_bytes(self) -> npt.NDArray[np.int32]:
        """(vocab_size,) bytes of each token, 0 for BOS."""
        lengths = np.zeros(self.vocab_size, dtype=np.int32)
        for line in (self.path / TOKENIZER_NAME).read_bytes().splitlines():
            token, rank = line.split()
            lengths[int(rank)] = len(base64.b64decode(token))
        return lengths

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, loaded at the first use."""
        return Tokenizer.load(self.path / TOKENIZER_NAME)

    def store(self, split: DataSplit) -> DocumentStore:
        """Map the shards of `split`.

        Raises:
            AutoresearchError: a shard is missing or has another size than the manifest says.
        """
        chunks: list[Chunk] = []
        dtype = np.dtype(self.manifest["dtype"])
        for entry in self.manifest["shards"]:
            if entry["split"] == split:
                chunks += map_shard(self.path / entry["file"], entry, dtype)
        num_bytes = int(self.manifest["splits"][split]["bytes"])
        return DocumentStore(split, tuple(chunks), self.bos_id, num_bytes)

    def eval_rows(self, split: DataSplit, context: int, num_tokens: int) -> Tokens:
        """Return the fixed rows on which `split` is judged; made once, then read from a file.

        The rows pack the split as training rows are packed, in one pass with a fixed order; what
        does not fill a last row is left out. They depend on nothing but the dataset and the arguments.

        Args:
            split: usually `validation` or `test`.
            context: Tokens a row predicts.
            num_tokens: Tokens to judge; clipped to the split.

        Returns:
            (N, context + 1) token ids, memory-mapped; each row starts with BOS. `N * context` is the
            real number of judged tokens.

        Raises:
            UsageError: the split does not fill a single row.
        """
        path = self.eval_path(split, context, num_tokens)
        if not _is_intact(path):
            rows = self._make_rows(split, context, num_tokens)
            write_file(path, lambda file: np.save(file, rows))
            write_json(path.with_suffix(".json"), {"sha256": file_sha256(path), "rows": len(rows)})
        loaded: Tokens = np.load(path, mmap_mode="r")
        return loaded

    def eval_path(self, split: DataSplit, context: int, num_tokens: int) -> Path:
        """Return the file of `eval_rows`; its `.json` neighbour holds its SHA-256."""
        return self.path / "eval" / f"{split}-{context}-{num_tokens}.npy"

    def _make_rows(self, split: DataSplit, context: int, num_tokens: int) -> Tokens:
        store = self.store(split)
        wanted = max(1, num_tokens // context)
        possible = (store.num_tokens + store.num_documents) // context + 1
        rows = np.empty((min(wanted, possible), context + 1), dtype=self.manifest["dtype"])
        made = Packer(store, seed=0, num_epochs=1).fill(rows)
        if made == 0:
            raise UsageError(
                f"the {split} split holds {store.num_tokens:,} tokens, less than one row of"
                f" `judge.context` = {context}",
                hint="raise `data.holdout_share`, give more text, or lower `judge.context`",
                kind="data_invalid",
            )
        return rows[:made]


def _is_intact(path: Path) -> bool:
    """Tell whether a file of rows is there and matches the checksum in its `.json`."""
    try:
        expected = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["sha256"]
        return file_sha256(path) == str(expected)
    except (OSError, ValueError, KeyError):
        return False


def unigram_bits_per_byte(
    train: npt.NDArray[np.int64], held_out: npt.NDArray[np.int64], num_bytes: int
) -> float:
    """Return the cross-entropy of held-out tokens under smoothed training frequencies.

    Args:
        train: (vocab_size,) counts, BOS included.
        held_out: (vocab_size,) counts; BOS is not a target, its count is ignored.
        num_bytes: UTF-8 bytes of the held-out text.
    """
    bits = np.log2(train.sum() + len(train)) - np.log2(train + 1.0)
    return float(bits[:-1] @ held_out[:-1]) / num_bytes if num_bytes else math.nan
