"""Splits share no text, keep groups whole, and have the sizes they should."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.errors import UsageError
from autoresearch.tasks.gpt.data.splits import DROPPED, Scan, assign


def make_scan(texts, groups=None, sizes=None, split=None):
    text = np.array(texts, dtype=np.uint64)
    group = text if groups is None else np.array(groups, dtype=np.uint64)
    size = np.full(len(text), 100) if sizes is None else np.array(sizes)
    return Scan(text, group, size.astype(np.uint32), split)


documents = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 25), st.integers(1, 5000)), min_size=1, max_size=80
)


@given(units=st.lists(documents, min_size=1, max_size=4), share=st.floats(0.01, 0.4))
@settings(max_examples=200, deadline=None)
def test_no_text_is_on_two_sides(units, share):
    scans = [make_scan(*zip(*unit, strict=True)) for unit in units]
    try:
        found = assign(scans, source="x", holdout_share=share, max_bytes=0)
    except UsageError:
        return
    labels = np.concatenate(found.labels)
    texts = np.concatenate([s.text for s in scans])
    groups = np.concatenate([s.group for s in scans])
    sides = [set(texts[labels == side].tolist()) for side in (0, 1, 2)]
    assert all(sides)
    assert not sides[0] & (sides[1] | sides[2])
    assert not sides[1] & sides[2]
    assert set().union(*sides) == set(texts.tolist())
    for side in (1, 2):
        assert len(sides[side]) == (labels == side).sum()
    for group in set(groups.tolist()):
        assert len({int(v) for v in labels[groups == group]} - {DROPPED}) <= 1
    assert sum(found.duplicates.values()) == (labels == DROPPED).sum()


@given(
    train=st.lists(st.integers(0, 40), min_size=1),
    validation=st.lists(st.integers(0, 40), min_size=1),
    test=st.lists(st.integers(0, 40), min_size=1),
)
@settings(max_examples=100, deadline=None)
def test_pinned_units_lose_only_copies(train, validation, test):
    scans = [
        make_scan(train, split="train"),
        make_scan(test, split="test"),
        make_scan(validation, split="validation"),
    ]
    kept = [
        {*train} - {*validation} - {*test},
        {*test} - {*validation},
        {*validation},
    ]
    if not all(kept):
        with pytest.raises(UsageError, match="too few"):
            assign(scans, source="x", holdout_share=0.1, max_bytes=0)
        return
    found = assign(scans, source="x", holdout_share=0.1, max_bytes=0)
    for scan, labels, expected in zip(scans, found.labels, kept, strict=True):
        assert set(scan.text[labels != DROPPED].tolist()) == expected


def test_shares_are_of_the_bytes():
    rng = np.random.default_rng(0)
    texts = rng.integers(0, 2**63, 20_000)
    scan = make_scan(texts, sizes=rng.integers(10, 5000, 20_000))
    found = assign([scan], source="x", holdout_share=0.05, max_bytes=0)
    total = scan.num_bytes.sum(dtype=np.int64)
    for side in (1, 2):
        share = scan.num_bytes[found.labels[0] == side].sum(dtype=np.int64) / total
        assert 0.05 <= share < 0.051


def test_max_bytes_holds_for_each_pinned_split():
    scans = [
        make_scan(range(100), split="train"),
        make_scan(range(100, 200), split="train"),
        make_scan(range(200, 300), split="test"),
        make_scan(range(300, 400), split="validation"),
    ]
    found = assign(scans, source="x", holdout_share=0.1, max_bytes=12_000)
    assert [len(labels) for labels in found.labels] == [100, 20, 100, 100]
    found = assign(scans, source="x", holdout_share=0.1, max_bytes=5_050)
    assert [len(labels) for labels in found.labels] == [51, 0, 51, 51]
