"""What can be wrong with a file of text: its encoding, and an error with what to do for each fault."""

import codecs
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from autoresearch.errors import AutoresearchError

READ_BYTES = 1 << 20
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def check_utf8(path: str, head: bytes) -> None:
    """Raise unless a text begins as UTF-8, which may be cut inside a character."""
    halves = {"UTF-16LE": (head[::2], head[1::2]), "UTF-16BE": (head[1::2], head[::2])}
    encodings = [name for mark, name in _MARKS.items() if head.startswith(mark)]
    encodings += [
        name  # Without a mark; plain text has a zero in every other byte.
        for name, (text, zeros) in halves.items()
        if b"\0" not in text and 2 * zeros.count(0) > len(zeros)
    ]
    if b"\0" in head and not encodings:
        raise odd_file(f"`{path}` is not text", "take it out of the source")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
        if not encodings:
            return
    except UnicodeDecodeError:
        pass
    encoding = encodings[0] if encodings else ""
    raise odd_file(
        f"`{path}` is {encoding or 'text in another encoding'}, not UTF-8",
        f"convert it: `iconv -f {encoding or 'ENCODING'} -t UTF-8 OLD > NEW`",
    )


def is_utf8(data: bytes) -> bool:
    """Tell whether `data` is UTF-8, in pieces, so that a long text is not copied whole."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), READ_BYTES):
            decoder.decode(data[start : start + READ_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def cut_utf8(data: bytes, length: int) -> bytes:
    """Return at most `length` bytes from the start of a UTF-8 text, ending between two characters."""
    if len(data) <= length:
        return data
    while length and data[length] & 0xC0 == 0x80:
        length -= 1
    return data[:length]


class DamagedError(AutoresearchError):
    """What is in a file cannot be decoded, however often it is read."""

    default_kind = "data_invalid"


@contextmanager
def decoding(path: str) -> Iterator[None]:
    """Turn whatever a decoder raises into the error for a file that cannot be read.

    Raises:
        DamagedError: the content is at fault, not the disk or the rights.
    """
    try:
        yield
    except (AutoresearchError, MemoryError):
        raise
    except Exception as exc:
        reason = str(exc).splitlines()[0][:200] if str(exc) else type(exc).__name__
        hint = "it may be cut short; fetch or write it again, or take it out of the source"
        if "too much memory" in reason:  # the words of zstd
            hint = "it was packed with a long window: pack it again without `--long` or `--ultra`"
        elif isinstance(exc, PermissionError):
            hint = "make it readable"
        message = f"cannot read `{path}`: {reason}"
        if getattr(exc, "errno", None) is None:
            raise DamagedError(message, hint=hint) from exc
        raise odd_file(message, hint) from exc


def missing_column(path: str, name: str, kinds: Mapping[str, str]) -> AutoresearchError:
    """Return the error for a file without text in its column; `kinds` says what is in each column."""
    texts = [column for column, kind in kinds.items() if kind == "text"][:8]
    is_what = f", which is {kinds[name]}" if name in kinds else ""
    others = ", ".join(f"`{o}`" for o in texts)
    if not texts and not is_what:
        others = ", ".join(f"`{o}` ({kind})" for o, kind in list(kinds.items())[:8])
    hint = "write the text to a column or key at the top level: nested text is not read"
    return odd_file(
        f"`{path}` has no text in `{name}`{is_what}" + (f"; it has {others}" if others else ""),
        f"name it with `--text-column {texts[0]}`" if texts else hint,
    )


def changed(path: str) -> AutoresearchError:
    """Return the error for a file that is not what it was when it was listed or scanned."""
    return AutoresearchError(
        f"`{path}` changed while it was read",
        hint="when nothing writes to it any more, run `autoresearch prepare` again",
        kind="data_invalid",
    )


def odd_file(message: str, hint: str = "take it out of the source") -> AutoresearchError:
    """Return the error for a file that cannot be used."""
    return AutoresearchError(message, hint=hint, kind="data_invalid")
