"""Files give each document once however they are cut into ranges; what is wrong is counted or told."""

import gzip
import itertools
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.errors import AutoresearchError
from autoresearch.tasks.gpt.data import faults, formats
from autoresearch.tasks.gpt.data.faults import is_utf8
from autoresearch.tasks.gpt.data.formats import Range, Reader, check


def make_range(path: Path, kind="text", start=0, stop=None, part=1 << 20) -> Range:
    stat = path.stat()
    return Range(
        str(path),
        kind,
        start,
        stat.st_size if stop is None else stop,
        stat.st_size,
        stat.st_mtime_ns,
        part,
    )


def read(path, kind="text", *, column="text", part=1 << 20, **bounds):
    reader = Reader(column)
    return list(reader.documents(make_range(path, kind, part=part, **bounds))), reader


def cuts(draw, size, step=1):
    inner = draw(st.lists(st.integers(1, max(1, size - 1)), max_size=4))
    inner = sorted({i // step * step for i in inner})
    bounds = [0, *(i for i in inner if 0 < i < size), size]
    return list(itertools.pairwise(bounds))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_ranges_of_jsonl_give_each_line_once(tmp_path_factory, data):
    texts = data.draw(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=12))
    ends = data.draw(st.lists(st.sampled_from(["\n", "\r\n", "\n\n"]), min_size=12, max_size=12))
    path = tmp_path_factory.mktemp("j") / "a.jsonl"
    path.write_bytes(
        "".join(json.dumps({"text": t}) + e for t, e in zip(texts, ends, strict=False)).encode()
    )
    whole, _ = read(path, "jsonl")
    parts = [
        read(path, "jsonl", start=a, stop=b)[0] for a, b in cuts(data.draw, path.stat().st_size)
    ]
    assert [d for part in parts for d in part] == whole
    assert len(whole) <= len(texts)


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_ranges_of_separated_text_give_each_document_once(tmp_path_factory, data):
    alphabet = st.sampled_from(["a", "é", "\n", "<", "|", "end", "<|endoftext|>", "\ufeff"])
    text = "".join(data.draw(st.lists(alphabet, min_size=1, max_size=60)))
    path = tmp_path_factory.mktemp("s") / "a.txt"
    path.write_bytes(text.encode())
    expected = [t.strip("\r\n") for t in text.split("<|endoftext|>")]
    expected[0] = expected[0].removeprefix("\ufeff")
    expected = [t.encode() for t in expected if t.encode().strip()]
    bounds = [(a, b) for a, b in cuts(data.draw, path.stat().st_size) if a == 0 or a >= 13]
    merged = [
        (a, b)
        for a, b in zip(
            [a for a, _ in bounds], [*[a for a, _ in bounds][1:], path.stat().st_size], strict=True
        )
    ]
    found = [d for a, b in merged for d in read(path, "separated", start=a, stop=b)[0]]
    assert found == expected


@given(data=st.data(), size=st.integers(8, 40))
@settings(max_examples=80, deadline=None)
def test_parts_of_text_join_to_the_whole(tmp_path_factory, data, size):
    text = data.draw(st.text(alphabet="abé中\n \U0001f600", min_size=1, max_size=300))
    path = tmp_path_factory.mktemp("t") / "a.md"
    path.write_bytes(text.encode())
    bounds = cuts(data.draw, path.stat().st_size, step=size)
    reader = Reader("text")
    found = [
        d for a, b in bounds for d in reader.documents(make_range(path, start=a, stop=b, part=size))
    ]
    assert "not UTF-8" not in reader.skipped
    if "empty" not in reader.skipped:
        assert b"".join(found) == text.encode()


def test_a_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfhello")
    assert read(path)[0] == [b"hello"]


def test_what_is_left_out_is_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [
        '{"text": "good"}',
        "{broken",
        '{"text": "  "}',
        '{"other": 1}',
        '{"text": 3}',
        '{"text": "\\ud800"}',
        '{"text": "also"}',
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    found, reader = read(path, "jsonl")
    assert found == [b"good", b"also"]
    assert reader.skipped == {"not JSON": 1, "empty": 1, "without text": 2, "not UTF-8": 1}
    assert reader.examples["not JSON"] == f"{path} near byte 17"


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"\x89PNG\0\0\0", "not text"), (b"caf\xe9", "not UTF-8"), (b" \n\t", "empty")],
)
def test_files_that_are_no_text_are_counted(tmp_path, data, reason):
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    found, reader = read(path)
    assert found == []
    assert reader.skipped == {reason: 1}


def test_a_document_that_is_too_long_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "MAX_DOCUMENT_BYTES", 1000)
    monkeypatch.setattr(formats, "READ_BYTES", 300)
    path = tmp_path / "a.txt"
    path.write_bytes(b"one<|endoftext|>" + b"x" * 5000 + b"<|endoftext|>three")
    found, reader = read(path, "separated")
    assert found == [b"one", b"three"]
    assert reader.skipped == {"too long": 1}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_wrong_column_names_the_others(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "jsonl":
        path.write_text('{"content": "x", "id": 1}\n', encoding="utf-8")
    else:
        pq.write_table(pa.table({"content": ["x"], "id": [1]}), path)
    with pytest.raises(AutoresearchError, match="no text in `text`; it has `content`") as caught:
        check(str(path), kind, "text")
    assert caught.value.hint == "name it with `--text-column content`"


def test_the_first_line_must_be_json(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("not json\n", encoding="utf-8")
    with pytest.raises(AutoresearchError, match="not a line of JSON"):
        check(str(path), "jsonl", "text")


@pytest.mark.parametrize("odd", ['{"text": null, "id": 1}', '{"id": 1}', "{broken"])
def test_an_odd_line_at_the_start_of_a_later_range_is_counted(tmp_path, odd):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n' + odd + '\n{"text": "three"}\n', encoding="utf-8")
    found, reader = read(path, "jsonl", start=16)
    assert found == [b"three"]
    assert sum(reader.skipped.values()) == 1


def test_a_null_in_the_first_line_is_no_wrong_column(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": null, "id": 1}\n{"text": "two"}\n', encoding="utf-8")
    check(str(path), "jsonl", "text")
    found, reader = read(path, "jsonl")
    assert found == [b"two"]
    assert reader.skipped == {"without text": 1}


@pytest.mark.parametrize("kind", ["parquet", "jsonl.gz", "jsonl.zst"])
def test_a_file_cut_short_is_told(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    lines = b"".join(b'{"text": "%d"}\n' % i for i in range(5000))
    if kind == "parquet":
        pq.write_table(pa.table({"text": [str(i) for i in range(5000)]}), path)
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(lines))
    else:
        with pa.CompressedOutputStream(str(path), "zstd") as file:
            file.write(lines)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(AutoresearchError, match="cannot read") as caught:
        read(path, kind)
    assert str(path) in caught.value.message


def test_damage_inside_a_parquet_file_is_told(tmp_path):
    path = tmp_path / "a.parquet"
    texts = [f"{i} " * 50 for i in range(2000)]
    pq.write_table(pa.table({"text": texts}), path, compression="zstd", write_page_checksum=True)
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    with pytest.raises(AutoresearchError, match="cannot read"):
        read(path, "parquet", stop=1)


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
    ids=str,
)
def test_parquet_nulls_and_kinds_of_strings(tmp_path, kind):
    path = tmp_path / "a.parquet"
    table = pa.table({"text": pa.array(["one", None, "three"], pa.string()).cast(kind)})
    pq.write_table(table, path)
    found, reader = read(path, "parquet", stop=1)
    assert found == [b"one", b"three"]
    assert reader.skipped == {"without text": 1}


def test_a_file_that_changes_while_it_is_read_is_told(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n' * 10, encoding="utf-8")
    documents = Reader("text").documents(make_range(path, "jsonl"))
    next(documents)
    with path.open("a") as file:
        file.write('{"text": "b"}\n')
    with pytest.raises(AutoresearchError, match="changed while it was read"):
        list(documents)


@given(st.binary(max_size=60), st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_is_utf8_agrees_with_decode(data, block):
    try:
        data.decode()
        expected = True
    except UnicodeDecodeError:
        expected = False
    before = faults.READ_BYTES
    faults.READ_BYTES = block + 3
    try:
        assert is_utf8(data) == expected
    finally:
        faults.READ_BYTES = before
