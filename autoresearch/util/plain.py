r"""Plain data between processes that do not trust each other: JSON values, bytes and numpy arrays, never pickle.

A frame is `head length, body length: uint32 little-endian`, a head (a small JSON object) and a body. A body is one
value: `tree length: uint32`, JSON, then the raw bytes of arrays, to which the tree points as
`{"\u0000": [dtype, shape, offset]}` (`["bytes", length, offset]` for bytes). Only what it needs of numpy is imported,
where there is an array. What comes out of `decode` is made of exactly these types, whatever the other end sent.
"""

import json
import math
import struct
import sys
from collections.abc import Callable
from typing import Any

MAX_HEAD, MAX_BODY = 16_384, 64 << 20
"""Bytes of a frame."""
MAX_DEPTH = 32
_LENGTHS, _TREE = struct.Struct("<II"), struct.Struct("<I")
_MARK = "\0"
_KINDS = "biuf"
"""Of numpy's dtypes: bool, integers, floats."""
_LARGEST_INT = 2**63


class PlainError(ValueError):
    """A value is not plain data, or a frame is none."""


def encode(value: Any) -> bytes:
    """Return a value as a body.

    Raises:
        PlainError: it is or holds something else than None, bool, int of 64 bits, float, str, bytes, list, tuple,
            dict with str keys, or a numpy array or scalar of bools, integers or floats; or it is too large.
    """
    parts: list[bytes] = []
    tree = json.dumps(_plain(value, parts, 0), separators=(",", ":")).encode()
    size = _TREE.size + len(tree) + sum(map(len, parts))
    if size > MAX_BODY:
        raise PlainError(f"{size:,} bytes are more than {MAX_BODY:,}")
    return b"".join((_TREE.pack(len(tree)), tree, *parts))


def _plain(value: Any, parts: list[bytes], depth: int) -> Any:
    kind = type(value)
    if value is None or kind in (bool, str, float):
        return value
    if kind is int:
        if not -_LARGEST_INT <= value < _LARGEST_INT:
            raise PlainError("a whole number does not fit into 64 bits")
        return value
    if depth > MAX_DEPTH:
        raise PlainError(f"it is nested deeper than {MAX_DEPTH} levels")
    if kind in (list, tuple):
        return [_plain(item, parts, depth + 1) for item in value]
    if kind is dict:
        if not all(type(key) is str and key != _MARK for key in value):
            raise PlainError("a key of a dict is no text")
        return {key: _plain(item, parts, depth + 1) for key, item in value.items()}
    if kind is bytes:
        return _point(["bytes", len(value)], value, parts)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic) and value.dtype.kind in _KINDS:
        return _plain(value.item(), parts, depth)
    if numpy is not None and kind is numpy.ndarray and value.dtype.kind in _KINDS:
        array = numpy.ascontiguousarray(value, value.dtype.newbyteorder("<"))
        return _point([array.dtype.str, list(value.shape)], array.tobytes(), parts)
    raise PlainError(f"a value of type `{kind.__name__[:40]}` is no plain data")


def _point(what: list[Any], data: bytes, parts: list[bytes]) -> dict[str, Any]:
    offset = sum(map(len, parts))
    parts.append(data)
    return {_MARK: [*what, offset]}


def decode(body: bytes, *, is_finite: bool = False) -> Any:
    """Return the value of a body.

    Args:
        body: Bytes of another process.
        is_finite: Refuse NaN and infinities, in arrays too.

    Raises:
        PlainError: the body is none, or a number is not finite.
    """

    def number(text: str) -> float:
        found = float(text)
        if is_finite and not math.isfinite(found):
            raise PlainError("a number is not finite")
        return found

    try:
        (length,) = _TREE.unpack_from(body)
        data = memoryview(body)[_TREE.size + length :]
        tree = json.loads(
            body[_TREE.size : _TREE.size + length],
            parse_float=number,
            parse_constant=number,
            parse_int=_whole,
        )
        return _value(tree, data, is_finite=is_finite)
    except PlainError:
        raise
    except (ValueError, struct.error, RecursionError, TypeError, KeyError, MemoryError) as exc:
        raise PlainError("the frame holds no plain data") from exc


def _whole(text: str) -> int:
    if len(text) > 20:
        raise PlainError("a whole number does not fit into 64 bits")
    return int(text)


def _value(tree: Any, data: memoryview, *, is_finite: bool) -> Any:
    if isinstance(tree, list):
        return [_value(item, data, is_finite=is_finite) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if _MARK not in tree:
        return {key: _value(item, data, is_finite=is_finite) for key, item in tree.items()}
    kind, shape, offset = tree[_MARK]
    if kind == "bytes":
        if not 0 <= offset <= offset + shape <= len(data):
            raise PlainError("the frame holds no plain data")
        return bytes(data[offset : offset + shape])
    import numpy as np

    dtype = np.dtype(str(kind))
    count = math.prod(shape) if all(type(n) is int and n >= 0 for n in shape) else -1
    if dtype.kind not in _KINDS or not 0 <= offset <= offset + count * dtype.itemsize <= len(data):
        raise PlainError("the frame holds no plain data")
    array = np.frombuffer(data, dtype, count, offset).reshape(shape).copy()
    if is_finite and dtype.kind == "f" and not np.isfinite(array).all():
        raise PlainError("a number is not finite")
    return array


def pack(head: dict[str, Any], body: bytes = b"") -> bytes:
    """Return a whole frame."""
    text = json.dumps(head, separators=(",", ":")).encode()
    return b"".join((_LENGTHS.pack(len(text), len(body)), text, body))


def read_frame(read: Callable[[int], bytes]) -> tuple[dict[str, Any], bytes]:
    """Return head and body of the next frame.

    Args:
        read: Returns exactly so many bytes; raises where they do not come.

    Raises:
        PlainError: it is too large, or its head is no JSON object.
    """
    head_size, body_size = _LENGTHS.unpack(read(_LENGTHS.size))
    if head_size > MAX_HEAD or body_size > MAX_BODY:
        raise PlainError("a frame is too large")
    try:
        head = json.loads(read(head_size))
    except (ValueError, RecursionError) as exc:
        raise PlainError("the head of a frame is no JSON") from exc
    if not isinstance(head, dict):
        raise PlainError("the head of a frame is no JSON object")
    return head, read(body_size) if body_size else b""
