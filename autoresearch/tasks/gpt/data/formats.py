"""Files to documents: .txt .md .py, .jsonl (plain, .gz, .zst) and .parquet, in ranges and bounded memory.

A document is a UTF-8 byte string. A range is a part of a file that a process reads alone: bytes of a text
or JSON-lines file, row groups of a parquet file. The ranges of a file give each of its documents once, in
order, however the file is cut. A new format is a subclass of `Format` and a row in `FORMATS`.
"""

import gzip
import io
import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar

from autoresearch.tasks.gpt.data.faults import (
    READ_BYTES,
    DamagedError,
    changed,
    check_utf8,
    decoding,
    is_utf8,
    missing_column,
    odd_file,
)
from autoresearch.util.locks import locked

MAX_DOCUMENT_BYTES = 256 << 20
BIG_BYTES = 16 << 20
"""Documents longer than this are handled by one process at a time, which bounds the memory of all."""
HEAD_BYTES = 65_536
SEPARATOR = b"<|endoftext|>"
BOM = b"\xef\xbb\xbf"
PARQUET_BATCH_BYTES = 256 << 10
_POINTERS = {
    b"version https://git-lfs.github.com/spec/": ("Git LFS", "git lfs pull"),
    b"/annex/objects/": ("git-annex", "git annex get ."),
}
"""How a file begins that only says where the real one is -> whose it is, and what fetches the real one."""
_PACKED = re.compile(
    rb"(?P<gzip>\x1f\x8b)|(?P<zstd>\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18)|(?P<parquet>PAR[1E])"
    rb"|(?P<zip>PK\x03\x04)|(?P<xz>\xfd7zXZ\0)"
)
"""How files begin that are no plain text."""
Cut = tuple[int, int, int]
"""First byte or row group, the one after the last, and about how many bytes of text are between."""


@dataclass(frozen=True)
class Range:
    """A part of a file.

    Attributes:
        path: The file.
        kind: Its format, a key of `FORMATS`.
        start: First byte, or first row group.
        stop: Byte or row group after the last.
        size: Size of the whole file in bytes, as listed.
        modified_ns: Its time of change, as listed.
        part_bytes: Text files longer than this are cut into parts of about this many bytes, each a
            document.
        is_one_of_many: Whether a damaged file is read up to its fault and counted, not refused.
    """

    path: str
    kind: str
    start: int
    stop: int
    size: int
    modified_ns: int
    part_bytes: int = 0
    is_one_of_many: bool = False

    def check_unchanged(self) -> None:
        """Raise if the file is not the one that was listed.

        Raises:
            AutoresearchError: it changed or is gone.
        """
        try:
            stat = Path(self.path).stat()
            same = (stat.st_size, stat.st_mtime_ns) == (self.size, self.modified_ns)
        except OSError:
            same = False
        if not same:
            raise changed(self.path)


@dataclass
class Reader:
    """Reads documents and counts what it had to leave out.

    Attributes:
        text_column: Column or key that holds the text.
        skipped: Reason -> number of documents (or files of text) left out.
        examples: Reason -> the first place where it happened.
    """

    text_column: str
    lock: Path | None = None
    """File whose lock says who may hold a big document."""
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def documents(self, part: Range) -> Iterator[bytes]:
        """Yield the text of each good document of a range.

        Raises:
            AutoresearchError: the file is damaged, changed, or lacks the column.
        """
        part.check_unchanged()
        try:
            with decoding(part.path):
                for data in FORMATS[part.kind].documents(part, self):
                    if self._is_good(data, part):
                        yield data
                    del data
        except DamagedError:
            if not part.is_one_of_many:
                raise
            self.skip("the rest of a damaged file", part.path)
        part.check_unchanged()

    def alone(self) -> AbstractContextManager[None]:
        """Wait until no other process holds a big document."""
        return nullcontext() if self.lock is None else locked(self.lock)

    def skip(self, reason: str, place: str) -> None:
        """Count a document that is left out."""
        self.skipped[reason] += 1
        self.examples.setdefault(reason, place)

    def _is_good(self, data: bytes, part: Range) -> bool:
        if not data or data.isspace():
            self.skip("empty", part.path)
        elif len(data) > MAX_DOCUMENT_BYTES:
            self.skip("too long", part.path)
        elif b"\0" in data[:8192]:
            self.skip("not text", part.path)
        elif not is_utf8(data):
            self.skip("not UTF-8", part.path)
        else:
            return True
        return False

    def text_of(self, line: bytes, place: str) -> bytes | None:
        """Return the text of a JSON line; None, and counted, where it has none."""
        try:
            record = json.loads(line)
            value = record.get(self.text_column) if isinstance(record, dict) else None
            if isinstance(value, str):
                return value.encode()
            reason = "without text"
        except UnicodeEncodeError:
            reason = "not UTF-8"
        except (ValueError, RecursionError):
            reason = "not JSON"
        self.skip(reason, place)
        return None


class Format(ABC):
    """A format of files: how its documents are read and where its files may be cut."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    text_per_byte: ClassVar[int] = 1
    """Bytes of text per byte of the file; a guess, for progress and disk, where it is packed."""
    packing: ClassVar[str | None] = None
    """Group of `_PACKED` that its files begin with; None where they are plain."""

    @abstractmethod
    def documents(self, part: Range, reader: Reader) -> Iterator[bytes]:
        """Yield the texts of a range, good or not."""

    @abstractmethod
    def check(self, path: str, head: bytes, column: str) -> None:
        """See that a file, which begins with `head`, is of this format and has text in `column`.

        Raises:
            AutoresearchError: it is not; a decoder may raise anything else.
        """

    def cuts(self, whole: Range, target: int, column: str) -> Iterator[Cut]:  # noqa: ARG002
        """Yield the cuts of a file into ranges of about `target` bytes of text, at multiples of a part."""
        size, part = whole.size, whole.part_bytes
        step = max(1, target // part) * part if size > target else size
        for start in range(0, size, step):
            stop = min(size, start + step)
            yield start, stop, stop - start


class Text(Format):
    """A document per file, or per part of a long one."""

    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".md")

    def check(self, path: str, head: bytes, column: str) -> None:  # noqa: ARG002
        """See that it is UTF-8."""
        check_utf8(path, head)

    def documents(self, part: Range, reader: Reader) -> Iterator[bytes]:  # noqa: ARG002
        """Yield the file, or its parts that begin in the range."""
        with Path(part.path).open("rb") as file:
            if part.size <= part.part_bytes:
                yield file.read().removeprefix(BOM)
                return
            size = part.part_bytes
            first, last = -(-part.start // size), -(-part.stop // size)
            start = _part_start(file, first, size, part.size)
            for number in range(first, last):
                stop = _part_start(file, number + 1, size, part.size)
                file.seek(start)
                data = file.read(stop - start)
                yield data.removeprefix(BOM) if number == 0 else data
                start = stop


class Separated(Text):
    """A text file in which `SEPARATOR` ends the documents; found by its content."""

    suffixes = ()

    def documents(self, part: Range, reader: Reader) -> Iterator[bytes]:  # noqa: ARG002
        """Yield the documents that begin in the range: at 0, or right after a separator."""
        width = len(SEPARATOR)
        with Path(part.path).open("rb") as file:
            # The start of the file counts as the end of a separator.
            held = bytearray(b"" if part.start else SEPARATOR)
            position = part.start - width  # Of `held` in the file.
            file.seek(max(0, position))
            is_inside, searched = False, 0
            while True:
                at = held.find(SEPARATOR, searched)
                more = b"" if at >= 0 else file.read(READ_BYTES)
                if more and len(held) <= MAX_DOCUMENT_BYTES:
                    searched = max(0, len(held) - width + 1)
                    held += more
                    continue
                end = at if at >= 0 else len(held)
                if is_inside:
                    text = bytes(held[:end]).strip(b"\r\n")
                    yield text.removeprefix(BOM) if position == 0 else text
                    del text
                if at < 0 and not more:
                    return
                is_inside = at >= 0  # The rest of a document that was too long is passed over.
                skipped = end + width if is_inside else end
                del held[:skipped]
                position += skipped
                held += more
                searched = 0
                if position >= part.stop:
                    return


class JsonLines(Format):
    """A JSON object per line."""

    suffixes = (".jsonl",)
    is_packed: ClassVar[bool] = False

    def open(self, path: str) -> Any:
        """Open the file, unpacked."""
        return Path(path).open("rb")

    def check(self, path: str, head: bytes, column: str) -> None:  # noqa: ARG002
        """See that its first line is a JSON object with text, or null, under the key."""
        with self.open(path) as file:
            line = _first_line(file)
        if len(line) >= BIG_BYTES:
            return
        if not line:
            raise odd_file(f"`{path}` is empty")
        check_utf8(path, line)
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as exc:
            hint = "each line of a .jsonl file must be one JSON object"
            raise odd_file(f"`{path}`: not a line of JSON ({exc})", hint) from exc
        names = {str: "text", list: "a list", dict: "an object", bool: "a boolean"}
        if not isinstance(record, dict):
            message = (
                f"`{path}`: its first line is {names.get(type(record), 'a number')}, no JSON object"
            )
            raise odd_file(message, "each line of a .jsonl file must be one JSON object")
        if column not in record or not isinstance(record[column], str | None):
            kinds = {key: names.get(type(value), "no text") for key, value in record.items()}
            raise missing_column(path, column, kinds)

    def documents(self, part: Range, reader: Reader) -> Iterator[bytes]:
        """Yield the texts of the lines that begin in the range."""
        with self.open(part.path) as file:
            position = part.start
            if part.start:
                file.seek(part.start - 1)
                position += _skip_line(file) - 1
            while self.is_packed or position < part.stop:
                line = file.readline(BIG_BYTES)
                if not line:
                    return
                if line.isspace():
                    position += len(line)
                    continue
                place = f"{part.path} near byte {position}"
                position += len(line)
                if len(line) == BIG_BYTES and not line.endswith(b"\n"):
                    with reader.alone():
                        line += file.readline(2 * MAX_DOCUMENT_BYTES)
                        position += len(line) - BIG_BYTES
                        text = reader.text_of(line, place)
                        del line
                        if text is not None:
                            yield text
                        del text
                else:
                    text = reader.text_of(line, place)
                    if text is not None:
                        yield text


class GzipLines(JsonLines):
    """JSON lines packed by gzip; read from the start, so never cut."""

    suffixes = (".jsonl.gz",)
    text_per_byte = 3
    packing = "gzip"
    is_packed = True

    def open(self, path: str) -> Any:
        """Open the file, unpacked."""
        return gzip.open(path, "rb")

    def cuts(self, whole: Range, target: int, column: str) -> Iterator[Cut]:  # noqa: ARG002
        """Yield the whole file."""
        yield 0, whole.size, whole.size * self.text_per_byte


class ZstdLines(GzipLines):
    """JSON lines packed by zstd."""

    suffixes = (".jsonl.zst",)
    packing = "zstd"

    def open(self, path: str) -> Any:
        """Open the file, unpacked."""
        import pyarrow as pa

        return io.BufferedReader(pa.CompressedInputStream(path, "zstd"), READ_BYTES)


class Parquet(Format):
    """A document per row; a range is a range of row groups."""

    suffixes = (".parquet",)
    text_per_byte = 3
    packing = "parquet"

    def documents(self, part: Range, reader: Reader) -> Iterator[bytes]:
        """Yield the texts of the rows of some row groups."""
        import pyarrow as pa

        with _open_parquet(part.path, reader.text_column) as file:
            for group in range(part.start, part.stop):
                metadata = file.metadata.row_group(group)
                mean = max(1, metadata.total_byte_size // max(1, metadata.num_rows))
                batches = file.iter_batches(
                    batch_size=max(1, min(1024, PARQUET_BATCH_BYTES // mean)),
                    row_groups=[group],
                    columns=[reader.text_column],
                    use_threads=False,
                )
                for batch in batches:
                    column = batch.column(0)
                    del batch
                    if not pa.types.is_string(column.type):
                        column = column.cast(pa.large_string())
                    kind = pa.large_binary() if pa.types.is_large_string(column.type) else None
                    texts = column.cast(kind or pa.binary())
                    del column
                    with reader.alone() if texts.nbytes > BIG_BYTES else nullcontext():
                        rows = texts.to_pylist()
                        del texts
                        while rows:  # What was read is not held while it is worked on.
                            if rows[0] is None:
                                reader.skip("without text", part.path)
                                del rows[0]
                            else:
                                yield rows.pop(0)

    def check(self, path: str, head: bytes, column: str) -> None:  # noqa: ARG002
        """See that it can be opened and has the column."""
        _open_parquet(path, column).close()

    def cuts(self, whole: Range, target: int, column: str) -> Iterator[Cut]:
        """Yield ranges of row groups."""
        with _open_parquet(whole.path, column) as table:
            metadata = table.metadata
            index = table.schema_arrow.get_field_index(column)
            # Nested columns shift the numbering; the whole row group is then a fair guess.
            is_flat = metadata.num_columns == len(table.schema_arrow)
            start = held = 0
            for group in range(metadata.num_row_groups):
                row_group = metadata.row_group(group)
                held += (
                    row_group.column(index).total_uncompressed_size
                    if is_flat
                    else row_group.total_byte_size
                )
                if held >= target:
                    yield start, group + 1, held
                    start, held = group + 1, 0
            if start < metadata.num_row_groups:
                yield start, metadata.num_row_groups, held


FORMATS: dict[str, Format] = {
    "text": Text(),
    "separated": Separated(),
    "jsonl": JsonLines(),
    "jsonl.gz": GzipLines(),
    "jsonl.zst": ZstdLines(),
    "parquet": Parquet(),
}
SUFFIXES = " ".join(suffix for kind in FORMATS.values() for suffix in kind.suffixes)


def kind_of(path: Path) -> str:
    """Return the format of a file by its name, empty if it is none of `FORMATS`."""
    name = path.name.lower()
    return next((kind for kind, f in FORMATS.items() if name.endswith(f.suffixes)), "")


def is_separated(path: Path) -> bool:
    """Tell whether a text file marks the ends of its documents, by its first MiB."""
    try:
        with path.open("rb") as file:
            return SEPARATOR in file.read(1 << 20)
    except OSError:
        return False


def _first_line(file: Any) -> bytes:
    """Return the first line that is not blank, without the blanks before it, or `BIG_BYTES` of it or more."""
    while piece := file.read1(READ_BYTES):  # no more than is there before a fault
        if rest := bytes(piece).lstrip():
            line, mark, _ = rest.partition(b"\n")
            return line if mark else rest + bytes(file.readline(BIG_BYTES))
    return b""


def _skip_line(file: Any) -> int:
    """Read to the end of the line in bounded pieces; returns the bytes read."""
    skipped = 0
    while piece := file.readline(READ_BYTES):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped


def _part_start(file: IO[bytes], number: int, size: int, end: int) -> int:
    """Return where part `number` of a text file begins: a pure function of the file near `number * size`.

    After a blank line if there is one in the following quarter of a part, else after a line, else at a
    character.
    """
    nominal = number * size
    if number == 0 or nominal >= end:
        return min(nominal, end)
    file.seek(nominal)
    text = file.read(max(4, size // 4))
    for mark in (b"\n\n", b"\n"):
        at = text.find(mark)
        if at >= 0:
            return nominal + at + len(mark)
    skip = 0
    while skip < min(4, len(text)) and text[skip] & 0xC0 == 0x80:
        skip += 1
    return nominal + skip


def check(path: str, kind: str, column: str) -> None:
    """See from its beginning that a file is what its name says and has text in `column`.

    Raises:
        AutoresearchError: it is not.
    """
    with decoding(path):
        with Path(path).open("rb") as file:
            head = file.read(HEAD_BYTES)
        for mark, (whose, command) in _POINTERS.items():
            if head.startswith(mark):
                message = f"`{path}` is a pointer of {whose}, not the file itself"
                raise odd_file(message, f"fetch the file: `{command}` in its folder")
        begins = _PACKED.match(head)
        found, wanted = begins and begins.lastgroup, FORMATS[kind].packing
        if found != wanted:
            is_what = found or f"no {wanted} file"
            message = f"`{path}` is {is_what}, which is not what its name says"
            raise odd_file(
                message, f"unpack it, fetch it again, or name it {SUFFIXES} by what it is"
            )
        FORMATS[kind].check(path, head, column)


def _open_parquet(path: str, text_column: str) -> Any:
    """Open a parquet file and see that it has one column of text with that name.

    Raises:
        AutoresearchError: it has not.
    """
    import pyarrow.parquet as pq

    # With a buffer a column is read as a stream, without it a row group at a time.
    file = pq.ParquetFile(path, buffer_size=READ_BYTES, page_checksum_verification=True)
    fields = list(file.schema_arrow)
    kinds = {f.name: "text" if _is_text(f.type) else str(f.type) for f in fields}
    count = sum(f.name == text_column for f in fields)
    if kinds.get(text_column) == "text" and count == 1:
        return file
    file.close()
    if count > 1:
        message = f"`{path}` has {count} columns `{text_column}`"
        raise odd_file(
            message, "write it again with one of them, or name another by `--text-column`"
        )
    raise missing_column(path, text_column, kinds)


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
