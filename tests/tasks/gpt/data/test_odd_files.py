"""Files that are not what their name says: one sentence each; among good files they are left out and counted."""

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autoresearch.errors import AutoresearchError, UsageError
from autoresearch.tasks.gpt.data import sources
from autoresearch.tasks.gpt.data.formats import Reader, check
from autoresearch.tasks.gpt.data.hub import parse
from autoresearch.tasks.gpt.data.prepare import prepare

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
ANNEX = b"/annex/objects/SHA256E-s12345--4d7a.parquet\n"
# A frame of zstd whose header asks for a window of 2 GB, with one raw block "{}".
LONG_WINDOW = b"\x28\xb5\x2f\xfd\x00" + bytes([(31 - 10) << 3]) + b"\x11\x00\x00{}"


def parquet(**columns: pa.Array) -> bytes:
    names, arrays = list(columns), list(columns.values())
    return table_bytes(pa.Table.from_arrays(arrays, names))


def table_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


TWICE = table_bytes(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"]))
NESTED = parquet(text=pa.array([["a", "b"]]), id=pa.array([1]))
BINARY = parquet(text=pa.array([b"a"]), title=pa.array(["x"]))
LINE = json.dumps({"text": "good"}) + "\n"

ODD = {
    "lfs.parquet": (LFS, "pointer of Git LFS", "git lfs pull"),
    "lfs.jsonl": (LFS, "pointer of Git LFS", "git lfs pull"),
    "lfs.txt": (LFS, "pointer of Git LFS", "git lfs pull"),
    "lfs.jsonl.zst": (LFS, "pointer of Git LFS", "git lfs pull"),
    "annex.parquet": (ANNEX, "pointer of git-annex", "git annex get"),
    "twice.parquet": (TWICE, "has 2 columns `text`", "--text-column"),
    "thrice.parquet": (
        table_bytes(
            pa.Table.from_arrays([pa.array(["a"]), pa.array([1]), pa.array([["b"]])], ["text"] * 3)
        ),
        "has 3 columns `text`",
        "--text-column",
    ),
    "nested.parquet": (NESTED, "`text`, which is list<", "top level"),
    "binary.parquet": (BINARY, "`text`, which is binary; it has `title`", "--text-column title"),
    "number.parquet": (parquet(text=pa.array([1])), "`text`, which is int64", "top level"),
    "struct.parquet": (
        parquet(meta=pa.array([{"text": "a"}])),
        "no text in `text`; it has `meta` (struct<",
        "top level",
    ),
    "page.parquet": (b"<!DOCTYPE html>not found", "no parquet file, which", "fetch"),
    "cut.parquet": (BINARY[:99], "cannot read", "fetch"),
    "meta.jsonl": (b'{"meta": {"text": "x"}}\n', "it has `meta` (an object)", "top level"),
    "chat.jsonl": (b'{"text": [{"role": "user"}]}\n', "`text`, which is a list", "top level"),
    "array.jsonl": (b'[{"text": "a"}]\n', "first line is a list", "one JSON object"),
    "deep.jsonl": (b"[" * 200_000 + b"\n", "not a line of JSON", "JSON object"),
    "digits.jsonl": (b'{"text": ' + b"9" * 10_000 + b"}\n", "not a line of JSON", "JSON object"),
    "blank.jsonl": (b"\n \n\n", "is empty", "take it out"),
    "nothing.jsonl.gz": (gzip.compress(b""), "is empty", "take it out"),
    "plain.jsonl.gz": (LINE.encode(), "no gzip file, which is not what its name says", "name it"),
    "packed.jsonl": (gzip.compress(LINE.encode()), "is gzip, which", "unpack"),
    "other.jsonl.zst": (gzip.compress(LINE.encode()), "is gzip, which", "unpack"),
    "zip.txt": (b"PK\x03\x04\x14\0", "is zip, which", "unpack"),
    "utf16.txt": ("caf\u00e9 au lait".encode("utf-16"), "is UTF-16, not UTF-8", "iconv -f UTF-16"),
    "latin.txt": ("caf\u00e9 au lait".encode("latin-1"), "another encoding", "iconv"),
    "utf16le.txt": ("plain text".encode("utf-16-le"), "is UTF-16LE, not", "iconv -f UTF-16LE"),
    "utf16be.jsonl": (LINE.encode("utf-16-be"), "is UTF-16BE, not", "iconv"),
    "utf32.txt": ("plain text".encode("utf-32"), "is UTF-32, not", "iconv -f UTF-32"),
    "zeros.txt": (b"\0" * 99, "is not text", "take it out"),
    "utf16.jsonl": (LINE.encode("utf-16"), "is UTF-16", "iconv"),
    "latin.jsonl": (b'{"text": "caf\xe9"}\n', "another encoding", "iconv"),
    "picture.md": (b"\x89PNG\r\n\x1a\n\0\0\0", "is not text", "take it out"),
    "long.jsonl.zst": (LONG_WINDOW, "too much memory", "without `--long`"),
}


@pytest.mark.parametrize("name", ODD)
def test_one_odd_file_is_refused_with_what_to_do(make_config, tmp_path, name):
    data, words, hint = ODD[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(AutoresearchError) as raised:
        prepare(make_config(tmp_path / name))
    assert raised.value.kind == "data_invalid"
    assert name in raised.value.message
    assert words in raised.value.message
    assert hint in raised.value.hint
    assert "\n" not in raised.value.message


@pytest.mark.parametrize(
    "others", [["id", "id"], ["Text", "TEXT"], ["text.body", "text.body"], ["texts", "text "]]
)
def test_another_column_twice_is_no_matter(tmp_path, others):
    path = tmp_path / "a.parquet"
    arrays = [pa.array(["left"]), pa.array(["good"]), pa.array(["right"])]
    path.write_bytes(table_bytes(pa.Table.from_arrays(arrays, [others[0], "text", others[1]])))
    check(str(path), "parquet", "text")
    stat = path.stat()
    whole = sources.Range(str(path), "parquet", 0, 1, stat.st_size, stat.st_mtime_ns)
    assert list(Reader("text").documents(whole)) == [b"good"]


def test_odd_files_among_good_ones_are_left_out_and_counted(make_config, tmp_path, texts):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, (data, _, _) in ODD.items():
        (folder / name).write_bytes(data)
    for i in range(3):
        (folder / f"empty{i}.parquet").touch()
    lines = "".join(json.dumps({"text": t}) + "\n" for t in texts)
    (folder / "good.jsonl").write_text(lines, encoding="utf-8")
    summary = prepare(make_config(folder))
    assert sum(s["documents"] for s in summary.splits.values()) == len(texts)
    assert any("3 empty files were left out" in w for w in summary.warnings)
    counted = (
        f"{len(ODD)} of {len(ODD) + 1} files were left out, the first: `{folder}/annex.parquet`"
    )
    assert any(counted in w for w in summary.warnings)
    again = prepare(make_config(folder))
    assert not again.is_new


def test_a_folder_of_odd_files_alone_is_refused_with_the_first(make_config, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("lfs.parquet", "twice.parquet"):
        (folder / name).write_bytes(ODD[name][0])
    with pytest.raises(AutoresearchError, match="pointer of Git LFS"):
        prepare(make_config(folder))


def test_what_was_left_out_is_said_where_too_little_remains(make_config, tmp_path):
    (tmp_path / "a.jsonl").write_bytes((LINE * 3).encode() + b"not json\n" * 300)
    with pytest.raises(UsageError, match=r"has 1 different documents.*300 left out: not JSON"):
        prepare(make_config(tmp_path / "a.jsonl"))


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.txt", "a.jsonl.gz", "a.jsonl.zst"])
def test_an_empty_file_is_told(make_config, tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(UsageError, match=f"{name}` is empty"):
        prepare(make_config(tmp_path / name))
    with pytest.raises(UsageError, match="1 files, all of them empty"):
        prepare(make_config(tmp_path / "*.[pjt]*"))


@pytest.mark.parametrize(
    "line",
    [b"[" * 200_000, b"9" * 10_000, b'{"text": "\xff"}', b'{"text": "\\ud800"}', b"\0", b"nul"],
)
def test_hostile_lines_are_counted(tmp_path, line):
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE.encode() + line + b"\n" + LINE.encode())
    check(str(path), "jsonl", "text")
    stat = path.stat()
    reader = Reader("text")
    whole = sources.Range(str(path), "jsonl", 0, stat.st_size, stat.st_size, stat.st_mtime_ns)
    assert list(reader.documents(whole)) == [b"good", b"good"]
    assert sum(reader.skipped.values()) == 1


def test_blank_lines_without_end_take_no_memory_and_little_time(make_config, tmp_path, texts):
    blanks = b"\n" * 3_000_000
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(blanks))
    with pytest.raises(AutoresearchError, match="is empty"):
        prepare(make_config(tmp_path / "a.jsonl.gz"))
    lines = "\n \n".join(json.dumps({"text": t}) for t in texts).encode()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(blanks + lines))
    summary = prepare(make_config(tmp_path / "a.jsonl.gz"))
    assert sum(s["documents"] for s in summary.splits.values()) == len(texts)
    assert not any("left out" in w for w in summary.warnings)


def test_names_in_capitals_folders_of_spark_and_formats_side_by_side(make_config, tmp_path, texts):
    third = len(texts) // 3
    lines = "".join(json.dumps({"text": t}) + "\n" for t in texts[:third])
    (tmp_path / "A.JSONL").write_text(lines, encoding="utf-8")
    (tmp_path / "B.TXT").write_text(
        "<|endoftext|>".join(texts[third : 2 * third]), encoding="utf-8"
    )
    (tmp_path / "c.parquet").mkdir()
    (tmp_path / "c.parquet" / "_SUCCESS").touch()
    (tmp_path / "c.parquet" / "part-0.Parquet").write_bytes(
        table_bytes(pa.table({"text": texts[2 * third :]}))
    )
    for source in (tmp_path, tmp_path / "*", tmp_path / "**"):
        listing = sources.list_local(str(source))
        assert [f.kind for f in listing.files] == ["jsonl", "separated", "parquet"]
    summary = prepare(make_config(tmp_path / "*"))
    assert sum(s["documents"] for s in summary.splits.values()) == len(texts)


def test_folders_that_are_closed_are_told(make_config, tmp_path, texts, monkeypatch):
    """As an ordinary user sees it: root may read everything."""
    scandir = os.scandir

    def look(path="."):
        if str(path).endswith("/closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", look)
    (tmp_path / "all" / "closed").mkdir(parents=True)
    closed = f"`{tmp_path}/all/closed`"
    with pytest.raises(AutoresearchError, match=rf"can be read: {closed} is closed to you"):
        prepare(make_config(tmp_path / "all"))
    lines = "".join(json.dumps({"text": t}) + "\n" for t in texts)
    (tmp_path / "all" / "a.jsonl").write_text(lines, encoding="utf-8")
    summary = prepare(make_config(tmp_path / "all"))
    assert any(f"1 folders cannot be read, the first: {closed}" in w for w in summary.warnings)


@pytest.mark.parametrize("pattern", ["*.csv", "none/*.txt", "[", "a?.jsonl"])
def test_a_pattern_that_nothing_matches_is_told(make_config, tmp_path, pattern):
    with pytest.raises(AutoresearchError, match="matches no file of text"):
        prepare(make_config(tmp_path / pattern))


def test_a_file_damaged_in_its_middle_is_read_up_to_there(make_config, tmp_path, texts):
    lines = "".join(json.dumps({"text": t}) + "\n" for t in texts).encode()
    half = gzip.compress(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(half[: len(half) // 2])
    with pytest.raises(AutoresearchError, match=r"cannot read `.*b\.jsonl\.gz"):
        prepare(make_config(tmp_path / "b.jsonl.gz"))
    (tmp_path / "a.jsonl").write_bytes(lines)
    data = bytearray(table_bytes(pa.table({"text": texts})))
    data[len(data) // 4] ^= 255
    (tmp_path / "c.parquet").write_bytes(data)
    summary = prepare(make_config(tmp_path))
    assert any("2 left out: the rest of a damaged file" in w for w in summary.warnings)
    assert sum(s["documents"] for s in summary.splits.values()) >= len(texts) / 2


@pytest.mark.parametrize("error", [IndexError("-1 out of bounds"), AssertionError(), KeyError("x")])
def test_whatever_a_decoder_raises_names_the_file(tmp_path, monkeypatch, error):
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet(text=pa.array(["a"])))

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("pyarrow.parquet.ParquetFile", fail)
    with pytest.raises(AutoresearchError, match=r"cannot read `.*a\.parquet`"):
        check(str(path), "parquet", "text")


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("https://huggingface.co/datasets/O/N", "hf://datasets/O/N"),
        ("https://huggingface.co/datasets/O/N/tree/main/data?x=1", "hf://datasets/O/N"),
        ("https://example.org/a.parquet", "fetch it"),
        ("file:///data/a.parquet", "give the path"),
        ("s3://bucket/a.parquet", "fetch it"),
        ("hf:O/N", "hf://datasets/OWNER/NAME"),
        ("hf://O/N", "hf://datasets/OWNER/NAME"),
    ],
)
def test_an_address_is_no_path(source, hint):
    with pytest.raises(UsageError, match="cannot read the source") as raised:
        sources.normalise(source, Path("/run"))
    assert hint in raised.value.hint


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("hf://datasets/O/N/data/a.parquet", "`hf://datasets/O/N`: a dataset is taken whole"),
        ("hf://datasets/squad", "`hf://datasets/OWNER/NAME`"),
        ("hf://datasets/", "`hf://datasets/OWNER/NAME`"),
    ],
)
def test_a_hub_source_is_a_whole_dataset(source, hint):
    with pytest.raises(UsageError) as raised:
        parse(source)
    assert hint in raised.value.hint
