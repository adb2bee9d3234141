"""Plain data between processes that do not trust each other."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.util import plain
from autoresearch.util.plain import PlainError, decode, encode

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5).filter(lambda k: k != "\0"), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_what_goes_in_comes_out(value: object) -> None:
    assert decode(encode(value)) == value


@given(st.binary(max_size=200))
def test_bytes_of_a_stranger_are_plain_data_or_refused(body: bytes) -> None:
    try:
        decode(body, is_finite=True)
    except PlainError:
        return


def body(tree: object, data: bytes = b"") -> bytes:
    text = tree.encode() if isinstance(tree, str) else json.dumps(tree).encode()
    return struct.pack("<I", len(text)) + text + data


@pytest.mark.parametrize(
    "tree",
    [
        "[" * 100_000,
        "1" * 5000,
        "NaN",
        "[1e999]",
        "-Infinity",
        {"\0": ["|O", [1], 0]},
        {"\0": ["<f8", [10**9], 0]},
        {"\0": ["<f8", [-1], 0]},
        {"\0": ["<f8", [2], 1]},
        {"\0": ["<f8", [True], 0]},
        {"\0": ["bytes", 99, 0]},
        {"\0": ["bytes", -1, 5]},
        {"\0": ["<U9", [0], 0]},
        {"\0": "x"},
        {"\0": ["nonsense", [1], 0]},
        "{",
    ],
    ids=lambda tree: str(tree)[:30],
)
def test_frames_that_lie_are_refused(tree: object) -> None:
    with pytest.raises(PlainError):
        decode(body(tree, b"\0" * 16), is_finite=True)


def test_numbers_of_an_answer_are_finite() -> None:
    for value in (np.array([1.0, np.nan]), float("inf"), [float("nan")]):
        sent = encode(value)
        decode(sent)
        with pytest.raises(PlainError):
            decode(sent, is_finite=True)


@pytest.mark.parametrize(
    "value",
    [
        2**63,
        object(),
        {1: 2},
        {"\0": 1},
        np.array(["x"]),
        np.array([object()]),
        1j,
        {1, 2},
        type("Text", (str,), {})("x"),
        type("Numbers", (list,), {})([1]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_plain_data_is_not_sent(value: object) -> None:
    with pytest.raises(PlainError):
        encode(value)


def test_arrays_keep_their_type_and_can_be_changed() -> None:
    for array in (np.arange(6, dtype=np.int16).reshape(2, 3), np.zeros((0, 4)), np.eye(3)[::2]):
        found = decode(encode({"a": array}))["a"]
        assert found.dtype == array.dtype
        assert (found == array).all()
        assert found.flags.writeable
    assert decode(encode(np.float32(0.5))) == 0.5


def test_a_frame_has_a_limit() -> None:
    with pytest.raises(PlainError, match="too large"):
        plain.read_frame(lambda _: struct.pack("<II", 2, plain.MAX_BODY + 1))
    data = plain.pack({"op": "x"}, b"abc")
    place = 0

    def read(size: int) -> bytes:
        nonlocal place
        place += size
        return data[place - size : place]

    assert plain.read_frame(read) == ({"op": "x"}, b"abc")
