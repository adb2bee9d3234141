"""Makes free text safe to store and to show: agents, children and files write whatever they like.

To store (`clean_text`, `clean_line`, `clean_json`) nothing is dropped without a trace, to show (`clean`, `one_line`)
escape codes and what cannot be seen go. What is stored is made so:

Control characters become their visible pictures (NUL is U+2400), lone surrogates and characters that turn the
direction of writing become U+FFFD, CR LF and CR become newlines, and a text over its limit ends with a note of how
much is missing. Numbers that are not finite become missing. What comes out is stable under a second pass, encodes
as UTF-8 and fits in one line of JSON.
"""

import json
import math
import os
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

LINE_LIMIT = 300
"""Characters of a description or any other single line."""
TEXT_LIMIT = 20_000
"""Characters of a hypothesis, a note or any other string of an event."""

_BAD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC, DCS, SOS, PM, APC up to their end
    r"|\x1b[ -/]*[0-~]"
)
_LEAST_SECRET = 6
_PLAIN = re.compile(r"[a-z_]{,15}|[/~]\S*|[\d.]+")
"""A word, a path, a number: no secret, and in too many places to be replaced."""
_LOGIN = re.compile(r"(https?://)[^/\s@\"]+@")
_hidden: dict[str, str] = {}
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS)$")


def hide(value: str, name: str) -> None:
    """Have `redact` replace a value by `<name>`, unless it is too short or too plain to be a secret."""
    if _is_secret(value):
        _hidden[value] = name


def _is_secret(value: str) -> bool:
    return len(value) >= _LEAST_SECRET and not _PLAIN.fullmatch(value)


def redact(text: str) -> str:
    """Return a text, JSON too, without secrets: what `hide` was given, variables like `X_KEY`, logins in addresses."""
    named = {v.strip(): k for k, v in os.environ.items() if _SECRET_NAME.search(k)}
    named = {v: k for v, k in named.items() if _is_secret(v)}
    found = _hidden | named
    for value in sorted(found, key=len, reverse=True):
        for written in (value, json.dumps(value)[1:-1]):
            text = text.replace(written, f"<{found[value]}>")
    return _LOGIN.sub(r"\1<login>@", text)


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if code in (0x2028, 0x2029):
        return "\n"
    return "\ufffd"


def clean_text(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return `text` without characters that could harm a terminal, a file or git, at most `limit` long."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if len(text) > limit:
        ending = f" ... [{len(text) - limit} more characters]"
        text = text[: limit - len(ending)] + ending
    return _BAD.sub(_visible, text)


def clean_line(text: str, limit: int = LINE_LIMIT) -> str:
    """Return `text` as one line: every run of white space is one space."""
    return clean_text(" ".join(clean_text(text, max(limit * 4, limit)).split()), limit)


def clean(text: str, *, lines: bool = False) -> str:
    """Return untrusted text without escape codes, control and direction-changing characters.

    Args:
        text: Anything: a description by a model, a log.
        lines: Keep line breaks (tabs become four spaces); else everything is one line.
    """
    text = clean_escapes(text)
    if lines:
        text = text.replace("\r\n", "\n").replace("\r", "\n").expandtabs(4)
        return "\n".join(map(printable, text.split("\n")))
    return " ".join(printable(re.sub(r"\s", " ", text)).split())


def one_line(text: str, limit: int = LINE_LIMIT) -> str:
    """Return untrusted text as `clean` does, cut at `limit` characters."""
    line = clean(text)
    return line if len(line) <= limit else line[: limit - 3].rstrip() + "..."


def clean_escapes(text: str) -> str:
    """Return text without the escape codes of terminals."""
    return _ESCAPES.sub("", text)


def printable(line: str) -> str:
    """Return a line without what cannot be seen: control, format, surrogate, private and unassigned characters."""
    if line.isascii() and line.isprintable():
        return line
    return "".join(
        c for c in line if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    )


def clean_json(value: Any) -> Any:
    """Return a JSON value with every string cleaned and numbers that are not finite left out.

    Args:
        value: Mappings, sequences, strings, numbers, booleans, None; a tuple becomes a list and
            anything else its text.
    """
    if isinstance(value, str):
        return clean_text(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {clean_line(str(key)): clean_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean_json(item) for item in value]
    item = getattr(value, "item", None)  # a numpy scalar
    if callable(item):
        return clean_json(item())
    return clean_text(str(value))
