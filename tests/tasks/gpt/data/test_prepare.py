"""`prepare` makes whole datasets, once, from any text."""

import gzip
import itertools
import json
import shutil
import sysconfig
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autoresearch.errors import AutoresearchError, PrerequisiteError, UsageError
from autoresearch.tasks.gpt.data.dataset import SPARE, Dataset
from autoresearch.tasks.gpt.data.packing import Packer
from autoresearch.tasks.gpt.data.prepare import PrepareProgress, check, open_dataset, prepare
from autoresearch.tasks.gpt.data.shards import SPLITS
from autoresearch.tasks.gpt.data.sources import list_local


def write_jsonl(path, texts, column="text"):
    path.write_text("".join(json.dumps({column: t}) + "\n" for t in texts), encoding="utf-8")
    return path


def documents(store):
    return [c.tokens[a:b] for c in store.chunks for a, b in itertools.pairwise(c.offsets)]


def decoded(dataset, split):
    return [dataset.tokenizer.decode(tokens) for tokens in documents(dataset.store(split))]


def test_every_document_is_in_exactly_one_split(make_config, tmp_path, texts):
    config = make_config(write_jsonl(tmp_path / "a.jsonl", texts), holdout_share=0.1)
    summary = prepare(config)
    dataset = open_dataset(config)
    found = {split: decoded(dataset, split) for split in SPLITS}
    assert sorted(chain(*found.values())) == sorted(texts)
    for split in SPLITS:
        assert found[split]
        assert summary.splits[split]["bytes"] == sum(len(t.encode()) for t in found[split])
        assert summary.splits[split]["documents"] == len(found[split])
        assert dataset.store(split).num_tokens == summary.splits[split]["tokens"]
    share = summary.splits["validation"]["bytes"] / sum(v["bytes"] for v in summary.splits.values())
    assert 0.08 < share < 0.14


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet", "txt", "folder"])
def test_formats_give_the_same_documents(make_config, tmp_path, texts, kind):
    column = "content"
    path = tmp_path / f"source.{kind}"
    lines = "".join(json.dumps({column: t}) + "\n" for t in texts).encode()
    if kind == "jsonl":
        path.write_bytes(lines)
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(lines))
    elif kind == "jsonl.zst":
        with pa.CompressedOutputStream(str(path), "zstd") as file:
            file.write(lines)
    elif kind == "parquet":
        pq.write_table(pa.table({"n": range(len(texts)), column: texts}), path, row_group_size=50)
    elif kind == "txt":
        path.write_text("\n\n".join(texts), encoding="utf-8")
    else:
        path = tmp_path / "folder"
        path.mkdir()
        for i, text in enumerate(texts):
            (path / f"{i:03d}{'.md' if i % 2 else '.txt'}").write_text(text, encoding="utf-8")
    config = make_config(path, text_column=column)
    prepare(config)
    dataset = open_dataset(config)
    everything = list(chain(*(decoded(dataset, split) for split in SPLITS)))
    if kind == "txt":
        assert sum(len(t) for t in everything) == len("\n\n".join(texts))
        assert len(everything) > 50
    else:
        assert sorted(everything) == sorted(texts)


def test_second_call_does_nothing(make_config, tmp_path, texts):
    config = make_config(write_jsonl(tmp_path / "a.jsonl", texts))
    first = prepare(config)
    assert first.is_new
    before = {p: p.stat().st_mtime_ns for p in first.path.rglob("*")}
    second = prepare(config)
    assert not second.is_new
    assert second.key == first.key
    assert {p: p.stat().st_mtime_ns for p in first.path.rglob("*")} == before
    assert not list((tmp_path / "cache" / "work").glob("*"))


def test_key_follows_the_content_not_the_place(make_config, tmp_path, texts):
    (tmp_path / "b").mkdir()
    first = prepare(make_config(write_jsonl(tmp_path / "a.jsonl", texts)))
    moved = prepare(make_config(write_jsonl(tmp_path / "b" / "other.jsonl", texts)))
    assert moved.key == first.key
    changed = [*texts[:-1], texts[-1] + "!"]
    assert prepare(make_config(write_jsonl(tmp_path / "c.jsonl", changed))).key != first.key
    other = make_config(tmp_path / "a.jsonl", vocab_size=300)
    assert prepare(other).key != first.key


def test_a_changed_source_is_prepared_again(make_config, tmp_path, texts):
    config = make_config(write_jsonl(tmp_path / "a.jsonl", texts))
    first = prepare(config)
    write_jsonl(tmp_path / "a.jsonl", texts[:200])
    assert open_dataset(config).key == first.key
    second = prepare(config)
    assert second.is_new
    assert second.key != first.key
    assert open_dataset(config).key == second.key


def test_open_dataset_says_what_to_do(make_config, tmp_path):
    with pytest.raises(PrerequisiteError, match="no prepared data") as caught:
        open_dataset(make_config(tmp_path))
    assert caught.value.kind == "data_missing"
    assert "autoresearch prepare" in caught.value.hint


def test_dataset_reopens_from_its_path(make_config, tmp_path, texts):
    summary = prepare(make_config(write_jsonl(tmp_path / "a.jsonl", texts)))
    dataset = Dataset.open(summary.path)
    assert dataset.key == summary.key
    assert dataset.bos_id == dataset.vocab_size - 1
    assert dataset.token_bytes.shape == (dataset.vocab_size,)
    assert dataset.token_bytes[dataset.bos_id] == 0
    assert (dataset.token_bytes[:-1] > 0).all()
    assert not dataset.is_visible


def test_eval_rows_are_fixed(make_config, tmp_path, texts):
    config = make_config(write_jsonl(tmp_path / "a.jsonl", texts), holdout_share=0.2)
    prepare(config)
    dataset = open_dataset(config)
    rows = dataset.eval_rows("validation", 64, 2048)
    assert rows.shape == (32, 65)
    assert (rows[:, 0] == dataset.bos_id).all()
    other = dataset.eval_rows("validation", 32, 10**9)
    total = dataset.store("validation").num_tokens + dataset.store("validation").num_documents
    assert 0.9 * total < other.size <= total * 1.1
    path = dataset.eval_path("validation", 32, 10**9)
    before = path.read_bytes()
    path.unlink()
    dataset.eval_rows("validation", 32, 10**9)
    assert path.read_bytes() == before


def test_unigram_bpb_agrees_with_a_slow_count(make_config, tmp_path, texts):
    config = make_config(write_jsonl(tmp_path / "a.jsonl", texts), holdout_share=0.1)
    dataset = Dataset.open(prepare(config).path)
    train, held = dataset.store("train"), dataset.store("validation")
    counts = np.ones(dataset.vocab_size)
    counts[dataset.bos_id] += train.num_documents
    for token in np.concatenate(documents(train)):
        counts[token] += 1
    bits = sum(-np.log2(counts[token] / counts.sum()) for token in np.concatenate(documents(held)))
    assert dataset.unigram_bpb == pytest.approx(bits / held.num_bytes, rel=1e-9)
    assert 0.5 < dataset.unigram_bpb < 8


def test_builtin_python_is_real_text_and_visible(make_config):
    config = make_config("builtin:python", max_bytes=300_000, vocab_size=512)
    seen: list[PrepareProgress] = []
    summary = prepare(config, on_progress=seen.append)
    dataset = open_dataset(config)
    assert dataset.is_visible
    assert 300_000 <= sum(v["bytes"] for v in summary.splits.values()) < 800_000
    assert {"scan", "tokenizer", "tokenise", "rows"} <= {p.phase for p in seen}
    assert all(p.done <= p.total for p in seen)
    assert dataset.vocab_size == 512


def test_max_bytes_stops_reading(make_config, tmp_path, texts):
    config = make_config(write_jsonl(tmp_path / "a.jsonl", texts), max_bytes=100_000)
    total = sum(v["bytes"] for v in prepare(config).splits.values())
    assert 100_000 <= total < 106_000


def test_duplicates_never_cross_splits(make_config, tmp_path, texts):
    config = make_config(write_jsonl(tmp_path / "a.jsonl", texts * 3), holdout_share=0.1)
    summary = prepare(config)
    dataset = open_dataset(config)
    held = decoded(dataset, "validation") + decoded(dataset, "test")
    assert len(set(held)) == len(held)
    assert not set(held) & set(decoded(dataset, "train"))
    assert summary.duplicates["validation"] + summary.duplicates["test"] == 2 * len(held)


def test_check_finds_one_flipped_byte(make_config, tmp_path, texts):
    config = make_config(write_jsonl(tmp_path / "a.jsonl", texts))
    summary = prepare(config)
    assert check(config) == []
    shard = next(summary.path.glob("train-*.arrow"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert check(config) == [f"`{shard}` does not match its checksum"]
    with pytest.raises(PrerequisiteError, match="damaged"):
        open_dataset(config)
    assert prepare(config).is_new
    assert check(config) == []
    shard.unlink()
    with pytest.raises(AutoresearchError, match="missing or damaged"):
        Dataset.open(summary.path).store("train")
    assert check(config) == [f"`{shard}` is missing"]
    assert prepare(config).is_new
    assert check(config) == []


def test_damaged_rows_are_made_again(make_config, tmp_path, texts):
    config = make_config(write_jsonl(tmp_path / "a.jsonl", texts))
    summary = prepare(config)
    path = open_dataset(config).eval_path("test", 64, SPARE * 2048)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert check(config) == [f"`{path}` does not match its checksum"]
    assert not prepare(config).is_new
    assert path.read_bytes() == good
    assert Dataset.open(summary.path).key == summary.key


def test_missing_source_and_too_little_text(make_config, tmp_path):
    with pytest.raises(PrerequisiteError, match="does not exist"):
        prepare(make_config(tmp_path / "nothing.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(PrerequisiteError, match="no file of text"):
        prepare(make_config(tmp_path / "empty"))
    (tmp_path / "void.txt").touch()
    with pytest.raises(UsageError, match=r"void\.txt` is empty"):
        prepare(make_config(tmp_path / "void.txt"))
    with pytest.raises(UsageError, match="too few"):
        prepare(make_config(write_jsonl(tmp_path / "a.jsonl", ["one", "two"])))
    with pytest.raises(UsageError, match="unknown source"):
        prepare(make_config("builtin:perl"))


def test_workers_make_the_same_files(make_config, tmp_path, texts, monkeypatch):
    monkeypatch.setattr("autoresearch.tasks.gpt.data.pipeline.SMALL_BYTES", 0)
    monkeypatch.setattr("autoresearch.tasks.gpt.data.sources.MIN_UNIT_BYTES", 65_536)
    path = write_jsonl(tmp_path / "a.jsonl", texts)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(1))
    one = prepare(make_config(path))
    shards = {p.name: p.read_bytes() for p in one.path.glob("*.arrow")}
    assert len(shards) > 6
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(3))
    three = prepare(make_config(path))
    assert three.key == one.key
    assert {p.name: p.read_bytes() for p in three.path.glob("*.arrow")} == shards


def test_workers_do_not_import_what_lies_about(make_config, tmp_path, texts, monkeypatch):
    monkeypatch.setattr("autoresearch.tasks.gpt.data.pipeline.SMALL_BYTES", 0)
    (tmp_path / "queue.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert prepare(make_config(write_jsonl(tmp_path / "a.jsonl", texts))).is_new


def test_few_documents_make_many_batches(make_config, tmp_path):
    config = make_config(
        write_jsonl(
            tmp_path / "a.jsonl", [f"one line of text, number {i}. " * 6 for i in range(12)]
        ),
        judge__context=16,
        trial__max_seq_len=16,
    )
    summary = prepare(config)
    assert any("judge.eval_tokens" in w for w in summary.warnings)
    assert any("data.vocab_size" in w for w in summary.warnings)
    packer = Packer(open_dataset(config).store("train"), seed=0)
    out = np.empty((64, 129), dtype=np.int64)
    assert packer.fill(out) == 64
    assert packer.epoch > 10


def test_validation_smaller_than_a_row_is_told(make_config, tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [f"line {i}" for i in range(20)])
    with pytest.raises(UsageError, match="less than one row"):
        prepare(make_config(path))


def test_packages_are_the_library_and_more(make_config, monkeypatch, tmp_path):
    site = tmp_path / "site-packages"
    (site / "night" / "site-packages").mkdir(parents=True)
    (site / "night" / "lab.py").write_text("x = 1\n")
    paths = {"stdlib": sysconfig.get_path("stdlib"), "purelib": str(site), "platlib": str(site)}
    monkeypatch.setattr("sysconfig.get_path", paths.__getitem__)
    python, packages = list_local("builtin:python"), list_local("builtin:packages")
    assert packages.files[: len(python.files)] == python.files
    assert [f.path for f in packages.files[len(python.files) :]] == [str(site / "night" / "lab.py")]


def test_separated_text_is_cut_where_it_says(make_config, tmp_path, texts):
    path = tmp_path / "stories.txt"
    path.write_text("\n<|endoftext|>\n".join(texts), encoding="utf-8")
    config = make_config(path)
    prepare(config)
    dataset = open_dataset(config)
    everything = list(chain(*(decoded(dataset, split) for split in SPLITS)))
    assert sorted(everything) == sorted(t.strip("\r\n") for t in texts)


def test_one_giant_document_does_not_take_a_split(make_config, tmp_path, texts):
    path = write_jsonl(tmp_path / "a.jsonl", [*texts, "giant " * 400_000])
    config = make_config(path, holdout_share=0.02)
    splits = prepare(config).splits
    assert splits["validation"]["documents"] > 5
    assert splits["test"]["documents"] > 5
    assert splits["train"]["bytes"] > 2_400_000
