"""Packing serves every token once an epoch, starts rows with BOS and pads nothing."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from autoresearch.tasks.gpt.data.packing import Packer, shuffled
from autoresearch.tasks.gpt.data.shards import Chunk, DocumentStore

BOS = 60_000


def make_store(*chunks):
    made = []
    token = 0
    for lengths in chunks:
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        made.append(Chunk((token + np.arange(offsets[-1])).astype(np.uint16), offsets))
        token += int(offsets[-1])
    return DocumentStore("train", tuple(made), BOS, token)


lengths = st.lists(st.integers(1, 90), min_size=1, max_size=60)


@given(st.lists(lengths, min_size=1, max_size=3), st.integers(1, 40), st.integers(0, 9))
@settings(max_examples=80, deadline=None)
def test_an_epoch_serves_each_token_once(chunks, width, seed):
    store = make_store(*chunks)
    out = np.full((5000, width + 1), -1)
    rows = Packer(store, seed=seed, num_epochs=1).fill(out)
    out = out[:rows]
    assert (out[:, 0] == BOS).all()
    served = out[out != BOS]
    assert len(np.unique(served)) == len(served)
    # Only what does not fill a last row may be missing.
    assert store.num_tokens - len(served) <= width
    # Text goes on in order up to the next BOS.
    follows = (out[:, :-1] != BOS) & (out[:, 1:] != BOS)
    assert (np.diff(out, axis=1)[follows] == 1).all()


@given(lengths, st.lists(st.tuples(st.integers(1, 7), st.integers(1, 50)), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_changing_the_shape_neither_loses_nor_repeats(chunk, shapes):
    store = make_store(chunk, chunk)
    packer = Packer(store, seed=3, num_epochs=1)
    served: list[int] = []
    for batch, width in [*shapes, (5000, 2)]:
        out = np.full((batch, width + 1), -1)
        rows = packer.fill(out)
        served += out[:rows][out[:rows] != BOS].tolist()
    assert len(set(served)) == len(served)
    assert store.num_tokens - len(served) <= max(w for _, w in [*shapes, (1, 2)])


def test_rows_do_not_depend_on_the_batch_size():
    store = make_store([3, 50, 7, 20, 9], [31, 2, 2, 80])
    one, two = np.empty((12, 17), np.int64), np.empty((4, 17), np.int32)
    Packer(store, seed=5).fill(one)
    packer = Packer(store, seed=5)
    for i in range(3):
        packer.fill(two)
        assert (two == one[4 * i : 4 * i + 4]).all()
    assert packer.num_tokens == 12 * 16
    other = np.empty((12, 17), np.int64)
    Packer(store, seed=6).fill(other)
    assert (other != one).any()


def test_epochs_are_reshuffled_and_counted():
    store = make_store([10] * 100)
    packer = Packer(store, seed=0)
    out = np.empty((50, 11), np.int64)
    orders = []
    for _ in range(200):
        packer.fill(out)
        orders.append(tuple(out[:, 1].tolist()))
    assert packer.epoch > 50
    assert len(set(orders)) == len(orders)
    counts = np.bincount(np.array(orders).ravel() // 10, minlength=100)
    assert counts.max() - counts.min() <= 40


def test_best_fit_takes_the_longest_that_fits():
    store = make_store([9, 5, 3, 9, 5, 3])
    out = np.empty((2, 20), np.int64)
    Packer(store, seed=0, num_epochs=1).fill(out)
    starts = [np.diff([*np.flatnonzero(row == BOS), 20]).tolist() for row in out]
    assert starts[0] == [10, 10]
    assert starts[1] == [6, 6, 4, 4]


@given(
    lengths,
    st.lists(
        st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(0, 2)), min_size=1, max_size=8
    ),
)
@example([2], [(1, 2, 0), (1, 1, 2), (1, 1, 0)])
@settings(max_examples=60, deadline=None)
def test_what_is_taken_back_is_served_again(chunk, steps):
    store = make_store(chunk, chunk)
    packer = Packer(store, seed=3, num_epochs=1)
    batches: list[np.ndarray] = []
    waiting = 0  # What was filled since the last time, two at most, can be taken back.
    for batch, width, num_back in [*steps, (5000, 2, 0)]:
        out = np.full((batch, width + 1), -1)
        batches.append(out[: packer.fill(out)])
        waiting = min(waiting + 1, 2)
        num_back = min(num_back, waiting)
        if num_back:
            waiting = 0
            unseen = batches[-num_back:]
            del batches[-num_back:]
            packer.take_back(num_back, sum(b.shape[0] * (b.shape[1] - 1) for b in unseen))
    served = np.concatenate([b[b != BOS] for b in batches])
    assert len(np.unique(served)) == len(served)
    assert packer.num_tokens == sum(b.shape[0] * (b.shape[1] - 1) for b in batches)
    # What did not fill a last row is lost, once for each time the stream ran dry.
    assert store.num_tokens - len(served) <= sum(w for _, w, _ in [*steps, (1, 2, 0)])


def slow_rows(store, width, seed):
    """Pack one epoch by scanning a list, as the definition says it."""
    packer = Packer(store, seed=seed, num_epochs=1)
    packer._cut_again(width)
    stream = [p for w in packer._windows for p in zip(*(a.tolist() for a in w), strict=True)]
    size = packer._buffer_pieces
    buffer: list[tuple[int, int, int]] = []

    def refill():
        while stream and len(buffer) < 2 * size:
            buffer.append(stream.pop(0))

    rows = []
    while True:
        if len(buffer) < size:
            refill()
        row: list[int] = []
        while len(row) <= width:
            row.append(BOS)
            gap = width + 1 - len(row)
            if gap == 0:
                break
            if not buffer:
                refill()
            if not buffer:
                return rows
            longest = max((p[2] for p in buffer if p[2] <= gap), default=0)
            wanted = longest or max(p[2] for p in buffer)
            chunk, start, length = buffer.pop([p[2] for p in buffer].index(wanted))
            if not longest:
                buffer.append((chunk, start + gap, length - gap))
                length = gap
            row += store.chunks[chunk].tokens[start : start + length].tolist()
        rows.append(row)


@given(st.lists(lengths, min_size=1, max_size=3), st.integers(1, 40), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_rows_are_those_of_the_slow_definition(chunks, width, seed):
    store = make_store(*chunks)
    out = np.empty((5000, width + 1), np.int64)
    rows = Packer(store, seed=seed, num_epochs=1).fill(out)
    assert out[:rows].tolist() == slow_rows(store, width, seed)


def test_a_store_without_tokens_is_refused():
    with pytest.raises(ValueError, match="no tokens"):
        Packer(make_store([]), seed=0)


def test_shuffled_is_a_permutation_that_never_changes():
    assert shuffled(10, 1, 2, 3).tolist() == shuffled(10, 1, 2, 3).tolist()
    assert sorted(shuffled(1000, 7).tolist()) == list(range(1000))
    assert shuffled(1000, 7).tolist() != shuffled(1000, 8).tolist()
