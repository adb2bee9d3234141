"""Tells whether submitted bytes are the safetensors file they say they are; runs nothing in them."""

import json
import math
from typing import Any

MAX_HEADER_BYTES = 100_000_000
"""As the format states it."""
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8}
_BITS |= {"I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}


def problem_of(data: memoryview) -> str:
    """Return what is wrong with a safetensors file, empty if nothing is.

    The header must describe each byte of the rest once, as https://huggingface.co/docs/safetensors demands, so that
    nothing else can travel in it.
    """
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(MAX_HEADER_BYTES, len(data) - 8):
        return "its header is longer than the file"
    try:
        header = json.loads(bytes(data[8 : 8 + size]))
        end = _end_of(header)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return "its header is none"
    return "" if end == len(data) - 8 - size else "its tensors do not fill it"


def _end_of(header: dict[str, Any]) -> int:
    """Return where the tensors of a header end, which must follow one another.

    Raises:
        ValueError: they do not, or one is odd; other errors of what is of another type.
    """
    tensors = [(*e["data_offsets"], e) for name, e in header.items() if name != "__metadata__"]
    at = 0
    for start, end, entry in sorted(tensors, key=lambda t: (t[0], t[1])):
        counts = entry["shape"]
        if any(type(n) is not int or n < 0 for n in (start, end, *counts)):
            raise ValueError("no number")
        if start != at or 8 * (end - start) != math.prod(counts) * _BITS[entry["dtype"]]:
            raise ValueError("a gap, or another size than its shape")
        at = end
    return at
