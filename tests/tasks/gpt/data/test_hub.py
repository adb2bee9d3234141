"""The hub source, through the real huggingface_hub, against a server on loopback that misbehaves."""

import io
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autoresearch.errors import AutoresearchError, PrerequisiteError, UsageError
from autoresearch.tasks.gpt.data import hub as hub_module
from autoresearch.tasks.gpt.data.hub import MAX_ATTEMPTS, HubFile, choose, parse, patiently
from autoresearch.tasks.gpt.data.prepare import check, open_dataset, plan, prepare

sys.path.insert(0, str(Path(__file__).parent))
from hub_server import COMMIT, Hub

NAME = "ada/night"
SOURCE = f"hf://datasets/{NAME}"


def shard(texts):
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), sink, row_group_size=20)
    return sink.getvalue()


def set_endpoint(monkeypatch, address):
    """Do what HF_ENDPOINT does before huggingface_hub is imported."""
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def server(texts, monkeypatch, tmp_path):
    files = {f"shard_{i:05d}.parquet": shard(texts[60 * i : 60 * i + 60]) for i in range(5)}
    files |= {"README.md": b"# Night\n"}
    hub = Hub(NAME, files)
    set_endpoint(monkeypatch, hub.address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr("autoresearch.tasks.gpt.data.hub.RETRY_SECONDS", 0.01)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    yield hub
    hub.close()


def num_gets(hub, name):
    return sum(c == "GET" and p.startswith(f"/signed/{name}") for c, p, _ in hub.requests)


def test_shards_are_pinned_to_splits(server, make_config, texts):
    progress = []
    config = make_config(SOURCE, shards=2)
    summary = prepare(config, on_progress=progress.append)
    assert summary.revision == COMMIT
    dataset = open_dataset(config)

    def found(split):
        chunks = dataset.store(split).chunks
        found = [c.tokens[a:b] for c in chunks for a, b in itertools.pairwise(c.offsets)]
        return [dataset.tokenizer.decode(tokens) for tokens in found]

    assert found("train") == texts[:120]
    assert found("test") == texts[180:240]
    assert found("validation") == texts[240:300]
    assert num_gets(server, "shard_00002.parquet") == 0
    assert num_gets(server, "README.md") == 0
    assert not dataset.is_visible
    downloads = [p for p in progress if p.phase == "download"]
    assert downloads[-1].done == downloads[-1].total > 0


def test_shards_that_upstream_fetched_are_used_with_the_same_split(
    server, make_config, texts, tmp_path, monkeypatch
):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for number in (0, 4):
        (theirs / f"shard_{number:05d}.parquet").write_bytes(
            shard(texts[60 * number : 60 * number + 60])
        )
    (theirs / "shard_00001.parquet").write_bytes(b"x" * len(shard(texts[60:120])))  # damaged
    monkeypatch.setattr(hub_module, "UPSTREAM_DATA", theirs)
    config = make_config(SOURCE, shards=2)
    summary = prepare(config)
    assert [num_gets(server, f"shard_{n:05d}.parquet") for n in (0, 1, 3, 4)] == [0, 1, 1, 0]
    assert any("2 files were in" in note for note in summary.warnings)
    num_documents = {s: open_dataset(config).store(s).num_documents for s in ("train", "test")}
    assert num_documents == {"train": 120, "test": 60}
    assert (theirs / "shard_00001.parquet").read_bytes()[:1] == b"x"


def test_a_folder_of_numbered_shards_has_the_split_of_the_hub(make_config, texts, tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    for number in (0, 1, 2, 6542):
        part = texts[60 * min(number, 3) :][:60]
        (folder / f"shard_{number:05d}.parquet").write_bytes(shard(part))
    config = make_config(folder)
    assert any("the last is validation" in note for note in prepare(config).warnings)
    sizes = open_dataset(config).manifest["splits"]
    assert [sizes[s]["documents"] for s in ("train", "validation", "test")] == [120, 60, 60]
    own = (len(text.encode()) for text in texts[180:240])
    assert sizes["validation"]["bytes"] == sum(own)
    (folder / "shard_00002.parquet").rename(folder / "more.parquet")
    prepare(config)
    assert open_dataset(config).manifest["splits"]["validation"]["documents"] != 60


def test_second_call_asks_nothing(server, make_config):
    config = make_config(SOURCE)
    first = prepare(config)
    server.requests.clear()
    assert not prepare(config).is_new
    assert not prepare(config, offline=True).is_new
    assert server.requests == []
    assert check(config) == []
    assert first.revision in open_dataset(config).manifest["revision"]


def test_duplicates_of_held_out_text_leave_training(server, make_config, texts):
    server.files["shard_00000.parquet"] = shard(texts[:60] + texts[240:260] + texts[180:190])
    summary = prepare(make_config(SOURCE))
    assert summary.duplicates == {"validation": 0, "test": 0, "train": 30}
    assert summary.splits["train"]["documents"] == 180


def test_other_settings_fetch_nothing_again(server, make_config):
    prepare(make_config(SOURCE))
    server.requests.clear()
    prepare(make_config(SOURCE, vocab_size=300))
    assert [c for c, p, _ in server.requests] == ["GET"]
    assert prepare(make_config(SOURCE, vocab_size=310), offline=True).is_new


def test_a_dropped_connection_is_resumed(server, make_config, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    server.faults["shard_00001.parquet"] = ["drop"]
    assert prepare(make_config(SOURCE)).is_new
    ranges = [
        r for c, p, r in server.requests if p.startswith("/signed/shard_00001") and c == "GET"
    ]
    assert ranges[0] == ""
    assert ranges[1].startswith("bytes=")


@pytest.mark.parametrize("fault", ["short", "wrong"])
def test_a_wrong_file_is_fetched_again(server, make_config, fault):
    server.faults["shard_00001.parquet"] = [fault]
    assert prepare(make_config(SOURCE)).is_new
    assert num_gets(server, "shard_00001.parquet") == 2


def test_a_file_that_stays_wrong_is_refused(server, make_config, tmp_path):
    server.faults["shard_00001.parquet"] = ["wrong"] * 20
    config = make_config(SOURCE)
    with pytest.raises(AutoresearchError, match="does not match the checksum"):
        prepare(config)
    server.faults.clear()
    assert prepare(config).is_new


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_failures_are_waited_out(server, make_config, status):
    server.faults["api"] = [status, status]
    server.faults["head shard_00000.parquet"] = [status]
    server.faults["shard_00000.parquet"] = [status]
    assert prepare(make_config(SOURCE)).is_new


def test_a_limit_that_stays_is_told(server, make_config):
    server.faults["api"] = [429] * 50
    with pytest.raises(AutoresearchError, match="refuses more requests"):
        prepare(make_config(SOURCE))


def test_what_was_fetched_is_kept(server, make_config):
    server.faults["head shard_00002.parquet"] = [404]
    config = make_config(SOURCE)
    with pytest.raises(UsageError, match="has no `shard_00002"):
        prepare(config)
    done = {p for c, p, _ in server.requests if c == "GET" and p.startswith("/signed/")}
    server.requests.clear()
    assert prepare(config).is_new
    again = {p for c, p, _ in server.requests if c == "GET" and p.startswith("/signed/")}
    assert "/signed/shard_00002.parquet?signature=abc" in again
    assert not done & again


def test_private_and_gated_datasets_say_what_to_do(server, make_config, monkeypatch):
    server.faults["api"] = ["gated"]
    with pytest.raises(PrerequisiteError, match="no access") as caught:
        prepare(make_config(SOURCE))
    assert "terms" in caught.value.hint
    server.token = "secret"
    with pytest.raises(PrerequisiteError, match="needs a token") as caught:
        prepare(make_config(SOURCE))
    assert "HF_TOKEN" in caught.value.hint
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert prepare(make_config(SOURCE)).is_new
    assert server.leaked == []


def test_unknown_names_and_revisions(server, make_config):
    with pytest.raises(PrerequisiteError, match="no dataset"):
        prepare(make_config("hf://datasets/ada/day"))
    with pytest.raises(UsageError, match="no such revision"):
        prepare(make_config(f"{SOURCE}@v9"))
    assert prepare(make_config(f"{SOURCE}@v1")).revision == COMMIT
    for bad in ("hf://datasets/night", "hf://models/ada/night", "hf://datasets/a/b/c"):
        with pytest.raises(UsageError, match="cannot read the source"):
            prepare(make_config(bad))


def test_offline_without_the_files_is_told(server, make_config, monkeypatch):
    with pytest.raises(PrerequisiteError, match="never listed"):
        prepare(make_config(SOURCE), offline=True)
    prepare(make_config(SOURCE, shards=1))
    with pytest.raises(PrerequisiteError, match="2 of 5 files"):
        prepare(make_config(SOURCE, shards=3), offline=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    server.requests.clear()
    with pytest.raises(PrerequisiteError, match="offline"):
        prepare(make_config(SOURCE, shards=3))
    assert server.requests == []


def test_no_network_at_all_is_told(server, make_config, monkeypatch):
    set_endpoint(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(AutoresearchError, match="could not fetch") as caught:
        prepare(make_config(SOURCE))
    assert "HF_ENDPOINT" in caught.value.hint


def tries(error):
    """Return how often a call that fails with an error is made, and what comes of it."""
    calls = []

    def call():
        calls.append(1)
        raise error

    with pytest.raises(Exception) as caught:
        patiently(call, "night")
    return len(calls), caught.value


def test_what_is_tried_again(monkeypatch):
    from huggingface_hub.utils import get_session

    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(Exception) as refused:
        get_session().get("http://127.0.0.1:9")
    for error in (refused.value, ConnectionResetError("reset")):
        num_tries, raised = tries(error)
        assert (num_tries, type(raised)) == (MAX_ATTEMPTS, AutoresearchError)
    shared = (
        AttributeError("'NoneType' object has no attribute 'stream'"),
        RuntimeError("Cannot send a request, as the client has been closed."),
    )
    for error in shared:  # another thread closed the client of all
        num_tries, raised = tries(error)
        assert (num_tries, type(raised)) == (MAX_ATTEMPTS, AutoresearchError)
    num_tries, raised = tries(RuntimeError("CAS client error"))  # what hf_xet raises
    assert (num_tries, raised.message) == (1, "could not fetch `night`: CAS client error")
    for error in (PermissionError(13, "denied", "/cache"), OSError(28, "full"), KeyError("ours")):
        assert tries(error) == (1, error)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1", "SOCKS"),
        ("HTTP_PROXY", "nothing://127.0.0.1:1", "nothing://"),
        ("HTTP_PROXY", "127.0.0.1:nine", "nine"),
        ("HF_ENDPOINT", "127.0.0.1:9", "does not begin with https://"),
        ("HF_TOKEN", "hf_\u00e4bc", "no token has"),
        ("HF_TOKEN", "hf_abc\u200bdef", "no token has"),
        ("HF_TOKEN", "hf abc", "no token has"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "abc", "'abc'"),
        ("HF_HUB_ETAG_TIMEOUT", "1.5s", "'1.5s'"),
    ],
)
def test_a_wrong_setting_of_this_machine_is_told_at_once(tmp_path, variable, value, words):
    """In a process with its own environment, as huggingface_hub reads it once."""
    code = """
import sys, time
from autoresearch.tasks.gpt.data import hub
hub.time.sleep = lambda _: sys.exit("it waits")
from autoresearch.errors import PrerequisiteError
try:
    hub.plan_hub("hf://datasets/a/b", 1, offline=False)
except PrerequisiteError as exc:
    print(exc.exit_code, exc.message, "|", exc.hint)
"""
    known = ("HF_", "ALL_PROXY", "HTTP", "NO_PROXY", "all_proxy", "http", "no_proxy")
    env = {k: v for k, v in os.environ.items() if not k.startswith(known)}
    env |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), variable: value}
    env |= {"AUTORESEARCH_CACHE_DIR": str(tmp_path / "cache"), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("3 "), done.stderr
    message, hint = done.stdout.split("|")
    assert words in message
    assert variable in hint


def test_a_page_in_place_of_the_listing_is_told(server, make_config):
    server.faults["api"] = ["page"]
    with pytest.raises(PrerequisiteError, match="is not the hub: no JSON") as raised:
        prepare(make_config(SOURCE))
    assert "sign in" in raised.value.hint
    assert prepare(make_config(SOURCE)).is_new


def test_a_cache_of_the_hub_that_is_a_file_is_told(server, make_config, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    with pytest.raises(AutoresearchError, match=r"cannot read or write `.*file") as raised:
        prepare(make_config(SOURCE))
    assert raised.value.kind == "disk"


def test_no_space_is_told_before_the_download(server, make_config, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(hub_module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(AutoresearchError, match="GB free") as caught:
        prepare(make_config(SOURCE))
    assert caught.value.kind == "disk"
    assert not any(p.startswith("/signed/") for _, p, _ in server.requests)


def test_a_plan_fetches_nothing(server, make_config):
    config = make_config(SOURCE, shards=2)
    planned = plan(config)
    assert planned.num_files == 4
    assert planned.download_bytes == planned.num_bytes > 10_000
    assert planned.disk_bytes > planned.download_bytes
    assert not any(p.startswith("/signed/") for _, p, _ in server.requests)
    prepare(config)
    assert plan(config).is_done


def test_choice_of_files():
    def names(found):
        return [(f.name, f.split) for f in found]

    many = [HubFile(f"shard_{i}.parquet", 9) for i in range(6)]
    assert names(choose(many, 2)[0]) == [
        ("shard_0.parquet", "train"),
        ("shard_1.parquet", "train"),
        ("shard_4.parquet", "test"),
        ("shard_5.parquet", "validation"),
    ]
    two = [HubFile("b.parquet", 9), HubFile("a.parquet", 9), HubFile("x.jsonl", 9)]
    found, notes = choose(two, 10)
    assert names(found) == [("a.parquet", None), ("b.parquet", None)]
    assert notes == ["1 files other than parquet were left out"]
    named = [HubFile("data/train-00000.parquet", 9), HubFile("data/validation-00000.parquet", 9)]
    found, notes = choose(named, 10)
    assert names(found) == [("data/train-00000.parquet", None)]
    assert notes == ["1 files not named as training were left out"]
    assert choose([HubFile("model.bin", 9)], 10)[0] == []
    assert parse("hf://datasets/a/b@c") == ("a/b", "c")
