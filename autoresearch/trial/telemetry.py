"""What a child printed or said of its failure: captured with a bound, and made harmless. Nobody trusts it."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

# Escape sequences: CSI, OSC and other strings, two-character ones.
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])|\x9b[0-?]*[ -/]*[@-~]"
)
_TAIL_CHARACTERS = 16_000
_MAX_LINE = 2_000


class Output:
    """The first and the last half of a stream, within a bound.

    Args:
        max_bytes: How much is kept in all.
    """

    def __init__(self, max_bytes: int) -> None:
        self._half = max(1, max_bytes // 2)
        self._head = bytearray()
        self._tail = bytearray()
        self.num_bytes = 0

    def add(self, data: bytes) -> None:
        """Take what came."""
        self.num_bytes += len(data)
        room = self._half - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail += data
            if len(self._tail) > 2 * self._half:
                del self._tail[: -self._half]

    @property
    def text(self) -> str:
        """What was kept, cleaned, with a line where something was dropped."""
        tail = self._tail[-self._half :]
        dropped = self.num_bytes - len(self._head) - len(tail)
        text = clean(self._head.decode("utf-8", "replace"))
        if dropped:
            text += f"\n[{dropped} bytes dropped]\n"
        return text + clean(tail.decode("utf-8", "replace"))

    @property
    def tail(self) -> str:
        """The last lines, cleaned."""
        return self.text[-_TAIL_CHARACTERS:]


def clean(text: str) -> str:
    """Return `text` without escape sequences and control characters.

    A carriage return overwrites its line, as on a terminal; invisible and direction-changing characters go too.
    """
    lines = []
    for line in _ESCAPES.sub("", text.replace("\r\n", "\n")).split("\n"):
        shown = line.rstrip("\r").rpartition("\r")[2]
        if not shown.isascii() or not shown.isprintable():
            shown = "".join(c for c in shown if c == "\t" or unicodedata.category(c)[0] != "C")
        if len(shown) > _MAX_LINE:
            shown = f"{shown[: _MAX_LINE // 2]} ... {shown[-_MAX_LINE // 2 :]}"
        lines.append(shown)
    return "\n".join(lines)


def one_line(text: str, max_length: int = 300) -> str:
    """Return `text` cleaned, on one line, cut to a length."""
    line = " ".join(clean(text).split())
    return line if len(line) <= max_length else line[: max_length - 3] + "..."


def explain_error(message: Mapping[str, Any], where: str = "") -> tuple[str, str]:
    """Return (reason, detail) of an `error` message of a child, cleaned; its words are data."""
    name = one_line(str(message.get("exception", "")), 80) or "an exception"
    text = one_line(str(message.get("message", "")), 300)
    line = message.get("line")
    place = f" (train.py line {line})" if type(line) is int and 0 < line < 10**6 else ""
    detail = f"{name}: {text}" if text else name
    reason = "oom" if message.get("kind") == "oom" else "exception"
    return reason, f"{where + ': ' if where else ''}{detail}{place}"
