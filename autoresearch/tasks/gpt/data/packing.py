"""Documents to rows: best-fit packing in which every row starts with BOS and nothing is padded.

A row of T + 1 tokens is filled with documents, BOS before each. The longest one of a buffer that still
fits is taken; only when none fits is one cut, and what is left of it goes back into the buffer.
Documents longer than a row are cut into pieces of T tokens first, so that the shuffle also parts the
pieces of one document.

Source: Ding et al. 2024, "Fewer Truncations Improve Language Modeling". Differs from the source, and from
the loaders that scan a list of documents: one queue per length and an integer whose bit n says that
queue n is not empty, so that "the longest that fits" is one mask and one `bit_length`; and the rest of a
cut document is served later instead of being dropped, so that an epoch serves every token once.

Trade-offs: the shuffle works in windows of about 64 M tokens made of randomly chosen record batches, which
bounds memory and start-up at any size of dataset; with less text than that it is a full shuffle. The rest
of a cut document begins with a BOS although its text began earlier.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from autoresearch.tasks.gpt.data.shards import DocumentStore

WINDOW_TOKENS = 64_000_000
MIN_BUFFER_PIECES, MAX_BUFFER_PIECES = 16, 1024
"""At most a quarter of an epoch is in the buffer, so that few texts do not come many times in a row."""

MAX_TAKEN_BACK = 2
"""As many batches wait for a reader."""

_Pieces = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Chunk index, first token in the chunk, number of tokens; one entry per piece."""


class Packer:
    """Fills batches from a split for ever, or for `num_epochs`.

    The stream of rows depends on the store, the seed and T alone; B only says how many are taken. T may
    change between calls: what was not served yet is cut again, nothing is lost or repeated.

    Args:
        store: The documents.
        seed: Where the order of each epoch starts.
        num_epochs: None repeats for ever.

    Raises:
        ValueError: the store has no documents.
    """

    def __init__(self, store: DocumentStore, *, seed: int, num_epochs: int | None = None) -> None:
        if store.num_tokens == 0:
            raise ValueError(f"the {store.split} split has no tokens")
        self.num_tokens = 0
        """Tokens served as inputs so far: B * T for each batch."""
        self.epoch = 0
        """Index of the pass from which documents are now drawn."""
        self._bos = store.bos_id
        self._tokens = [c.tokens for c in store.chunks]
        self._offsets = [c.offsets for c in store.chunks]
        self._num_epochs = num_epochs
        self._windows = self._epochs(seed)
        self._limit = 0  # Tokens of the longest piece: T.
        self._pending: _Pieces = _no_pieces()
        self._position = 0
        self._buffer_pieces = 0
        self._queues: list[deque[tuple[int, int]]] = []
        self._served: deque[list[tuple[int, int, int]]] = deque(maxlen=MAX_TAKEN_BACK)
        self._mask = 0
        self._count = 0

    def fill(self, out: npt.NDArray[Any]) -> int:
        """Write the next B rows into `out`.

        Args:
            out: (B, T + 1) of any integer type that holds the vocabulary; inputs are `out[:, :-1]`, targets
                `out[:, 1:]`.

        Returns:
            Rows written: B, or fewer when `num_epochs` are over (the rest of `out` is undefined).
        """
        batch, width = out.shape
        if width - 1 != self._limit:
            self._cut_again(width - 1)
        rows = 0
        served: list[tuple[int, int, int]] = []
        self._served.append(served)
        while rows < batch and self._fill_row(out[rows], served):
            rows += 1
        self.num_tokens += rows * (width - 1)
        return rows

    def take_back(self, num_fills: int, num_tokens: int) -> None:
        """Serve again, first, what the last fills served, because no reader saw it.

        For a reader that changes to another shape while batches wait for it.

        Args:
            num_fills: At most `MAX_TAKEN_BACK`, and as many as were made since the last call.
            num_tokens: Of those fills, as counted: B * T each.
        """
        taken = [self._served.pop() for _ in range(min(num_fills, len(self._served)))]
        pieces = np.array([p for fill in reversed(taken) for p in fill], dtype=np.int64)
        rest = _join(pieces.reshape(-1, 3), self._pending, self._position)
        self._pending = _cut(rest, self._limit)  # They may have been served in longer rows.
        self._position = 0
        self.num_tokens -= num_tokens

    def _fill_row(self, row: npt.NDArray[Any], served: list[tuple[int, int, int]]) -> bool:
        if self._count < self._buffer_pieces:
            self._refill()
        queues, tokens, bos = self._queues, self._tokens, self._bos
        mask = self._mask
        position, width = 0, len(row)
        while position < width:
            row[position] = bos
            position += 1
            gap = width - position
            if gap == 0:
                break
            fitting = mask & ((2 << gap) - 1)
            length = (fitting or mask).bit_length() - 1
            if length <= 0:
                self._mask = mask
                self._refill()
                mask = self._mask
                if not mask:
                    return False
                position -= 1
                continue
            queue = queues[length]
            chunk, start = queue.popleft()
            if not queue:
                mask ^= 1 << length
            if fitting:
                self._count -= 1
            else:
                rest = length - gap
                queues[rest].append((chunk, start + gap))
                mask |= 1 << rest
                length = gap
            served.append((chunk, start, length))
            stop = position + length
            row[position:stop] = tokens[chunk][start : start + length]
            position = stop
        self._mask = mask
        return True

    def _refill(self) -> None:
        """Draw pieces until the buffer holds twice what it needs, or none are left."""
        queues = self._queues
        wanted = 2 * self._buffer_pieces
        while self._count < wanted:
            chunks, starts, lengths = self._pending
            if self._position == len(lengths):
                window = next(self._windows, None)
                if window is None:
                    return
                self._pending = window
                self._position = 0
                continue
            stop = min(len(lengths), self._position + wanted - self._count)
            part = slice(self._position, stop)
            for chunk, start, length in zip(
                chunks[part].tolist(), starts[part].tolist(), lengths[part].tolist(), strict=True
            ):
                queues[length].append((chunk, start))
                self._mask |= 1 << length
            self._count += stop - self._position
            self._position = stop

    def _cut_again(self, limit: int) -> None:
        """Recut what was not served yet for rows of another length."""
        if limit < 1:
            raise ValueError("a row needs at least two tokens")
        buffered = [
            (chunk, start, length)
            for length, queue in enumerate(self._queues)
            for chunk, start in queue
        ]
        array = np.array(buffered, dtype=np.int64).reshape(-1, 3)
        rest = _join(array, self._pending, self._position)
        self._limit = limit
        epoch = sum(
            len(o) - 1 + len(t) // limit for o, t in zip(self._offsets, self._tokens, strict=True)
        )
        self._buffer_pieces = min(MAX_BUFFER_PIECES, max(MIN_BUFFER_PIECES, epoch // 8))
        self._queues = [deque() for _ in range(limit + 1)]
        self._mask = self._count = self._position = 0
        self._pending = _cut(rest, limit)

    def _epochs(self, seed: int) -> Iterator[_Pieces]:
        """Yield windows of whole documents, shuffled, one epoch after another."""
        while self._num_epochs is None or self.epoch < self._num_epochs:
            order = shuffled(len(self._offsets), seed, self.epoch, 0)
            window: list[int] = []
            size = 0
            for index in order.tolist():
                window.append(index)
                size += len(self._tokens[index])
                if size >= WINDOW_TOKENS:
                    yield self._window(window, seed)
                    window, size = [], 0
            if window:
                yield self._window(window, seed)
            self.epoch += 1

    def _window(self, indices: list[int], seed: int) -> _Pieces:
        parts = []
        for index in indices:
            offsets = self._offsets[index].astype(np.int64)
            parts.append((np.full(len(offsets) - 1, index), offsets[:-1], np.diff(offsets)))
        chunks, starts, lengths = (np.concatenate([p[i] for p in parts]) for i in range(3))
        filled = lengths > 0
        pieces = _cut((chunks[filled], starts[filled], lengths[filled]), self._limit)
        order = shuffled(len(pieces[0]), seed, self.epoch, 1 + indices[0])
        return pieces[0][order], pieces[1][order], pieces[2][order]


def _no_pieces() -> _Pieces:
    empty = np.empty(0, dtype=np.int64)
    return empty, empty, empty


def _join(first: npt.NDArray[np.int64], then: _Pieces, position: int) -> _Pieces:
    """Return the rows of `first` (n, 3), then what follows `position`."""
    chunks, starts, lengths = (np.concatenate([first[:, i], then[i][position:]]) for i in range(3))
    return chunks, starts, lengths


def _cut(pieces: _Pieces, limit: int) -> _Pieces:
    """Cut pieces longer than `limit` tokens, keeping the order."""
    chunks, starts, lengths = pieces
    if not len(lengths) or int(lengths.max()) <= limit:
        return pieces
    counts = -(-lengths // limit)
    source = np.repeat(np.arange(len(lengths)), counts)
    nth = np.arange(len(source)) - np.repeat(np.cumsum(counts) - counts, counts)
    skipped = nth * limit
    return (
        chunks[source],
        starts[source] + skipped,
        np.minimum(limit, lengths[source] - skipped),
    )


def shuffled(count: int, *seeds: int) -> npt.NDArray[np.int64]:
    """Return a permutation of `range(count)` that is the same with every version of numpy.

    Sorts by SplitMix64 of the position. Source: Steele et al. 2014, "Fast splittable pseudorandom
    number generators".
    """
    state = 0
    for seed in seeds:
        state = _mix(np.array([(state * 0x9E3779B97F4A7C15 + seed + 1) % 2**64], dtype=np.uint64))[
            0
        ]
        state = int(state)
    with np.errstate(over="ignore"):
        keys = np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(state)
    return np.argsort(_mix(keys), kind="stable")


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
