"""`autoresearch prepare`: what it prints, in each mode, and its exit codes."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from autoresearch.cli import main
from autoresearch.tasks.gpt.data import dataset


@pytest.fixture
def folder(tmp_path, monkeypatch, texts):
    """A run directory with a source beside it."""
    monkeypatch.setenv("AUTORESEARCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("AUTORESEARCH_JUDGE_CONTEXT", "64")
    monkeypatch.setenv("AUTORESEARCH_JUDGE_EVAL_TOKENS", "1024")
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"text": t}) + "\n" for t in texts]
    (tmp_path / "text.jsonl").write_text("".join(lines), encoding="utf-8")
    (tmp_path / "autoresearch.toml").write_text(
        '[data]\nsource = "text.jsonl"\nvocab_size = 400\n', encoding="utf-8"
    )
    return tmp_path


def normal(text, folder):
    text = text.replace(str(folder), "FOLDER")
    text = re.sub(r"datasets/[0-9a-f]{20}", "datasets/KEY", text)
    text = re.sub(r"\b\d+(\.\d+)?m?s\b|\b\d+ ms\b|<\d+s", "TIME", text)
    return re.sub(r"\d+\.\d+ [kM]B", "SIZE", text)


def test_the_screen(folder, capsys):
    assert main(["prepare"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    lines = normal(err, folder).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("prepared "))
    assert lines[first] == "prepared FOLDER/text.jsonl in TIME"
    table = lines[first + 1 : first + 4]
    assert [line.split()[0] for line in table] == ["train", "validation", "test"]
    assert "rows to score" in table[1]
    assert re.search(
        r"400 tokens in the vocabulary, \d+ shards, SIZE in `FOLDER/cache", lines[first + 4]
    )
    assert re.search(r"a model that only counts tokens scores \d\.\d{6} val_bpb", lines[first + 5])
    main(["prepare"])
    assert "prepared FOLDER/text.jsonl already; nothing to do" in normal(
        capsys.readouterr().err, folder
    )


def test_json_and_quiet(folder, capsys):
    assert main(["prepare", "--json"]) == 0
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert err == ""
    assert summary["is_new"] is True
    assert set(summary["splits"]) == {"train", "validation", "test"}
    assert main(["prepare", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_check(folder, capsys):
    assert main(["prepare", "--check"]) == 3
    assert "autoresearch prepare" in capsys.readouterr().err
    main(["prepare", "--quiet"])
    assert main(["prepare", "--check"]) == 0
    assert "every file matches its checksum" in capsys.readouterr().err
    shard = next(folder.glob("cache/datasets/*/train-*.arrow"))
    data = bytearray(shard.read_bytes())
    data[-200] ^= 4
    shard.write_bytes(data)
    assert main(["prepare", "--check"]) == 1
    err = capsys.readouterr().err
    assert f"`{shard}` does not match its checksum" in err
    assert "hint: run `autoresearch prepare`" in err
    assert main(["prepare", "--quiet"]) == 0
    assert main(["prepare", "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True}


def test_what_was_prepared_is_listed_and_removed(folder, capsys):
    assert main(["prepare", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    main(["prepare", "--quiet"])
    main(["prepare", "--quiet", "--vocab-size", "300"])
    capsys.readouterr()
    assert main(["prepare", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert [("ready, used here" in line) for line in lines].count(True) == 1
    assert all(line.endswith("text.jsonl") for line in lines)
    other = next(line.split()[0] for line in lines if "used here" not in line)
    assert main(["prepare", "--remove", other[:6], "--dry-run"]) == 0
    assert f"would remove {other}" in capsys.readouterr().err
    assert main(["prepare", "--remove", other[:6]]) == 0
    assert main(["prepare", "--remove", other]) == 2
    assert "names no dataset" in capsys.readouterr().err
    assert main(["prepare", "--check"]) == 0
    assert [p.name for p in folder.glob("cache/datasets/*")] == [
        next(line.split()[0] for line in lines if "used here" in line)
    ]


def test_a_dataset_of_an_older_build_is_told_and_made_again(folder, capsys):
    main(["prepare", "--quiet"])
    manifest = next(folder.glob("cache/datasets/*/manifest.json"))
    values = json.loads(manifest.read_text())
    del values["notes"]
    manifest.write_text(json.dumps(values))
    assert main(["prepare", "--check"]) == 3
    err = capsys.readouterr().err
    assert "was prepared by another version of autoresearch" in err
    assert "hint: run `autoresearch prepare` again" in err
    assert main(["prepare", "--list"]) == 0
    assert "unusable" in capsys.readouterr().out
    assert main(["prepare"]) == 0
    assert "already" not in capsys.readouterr().err
    assert main(["prepare", "--check"]) == 0


def test_the_fields_of_a_manifest_belong_to_the_format(folder):
    """Another set of fields is another FORMAT, so that what older builds cached is never taken for new."""
    main(["prepare", "--quiet"])
    manifest = json.loads(next(folder.glob("cache/datasets/*/manifest.json")).read_text())
    assert tuple(sorted(manifest)) == dataset.FIELDS
    known = {1: "10f4"}
    digest = hashlib.sha256("".join(dataset.FIELDS).encode()).hexdigest()[:4]
    assert known[dataset.FORMAT] == digest


def test_dry_run_writes_nothing(folder, capsys):
    assert main(["prepare", "--dry-run"]) == 0
    err = normal(capsys.readouterr().err, folder)
    assert err.startswith("would prepare FOLDER/text.jsonl: 1 files, ")
    assert "are free" in err
    assert not (folder / "cache").exists()
    main(["prepare", "--quiet"])
    assert main(["prepare", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["is_done"] is True


def test_flags_that_run_would_not_know_are_told(folder, capsys):
    (folder / "other").mkdir()
    (folder / "text.jsonl").rename(folder / "other" / "text.jsonl")
    assert main(["prepare", "--source", "other/text.jsonl", "--vocab-size", "300"]) == 0
    err = capsys.readouterr().err.replace("\n", " ")
    assert "write under `[data]`: source = " in err
    assert "vocab_size = 300" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--source", "nowhere"], 3, "does not exist"),
        (["--source", "hf://night"], 2, "cannot read the source"),
        (["--text-column", "body"], 1, "has no text in `body`; it has `text`"),
        (["--vocab-size", "100"], 2, "vocab_size"),
    ],
)
def test_errors(folder, capsys, arguments, code, words):
    assert main(["prepare", *arguments]) == code
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err
    assert "hint:" in err


def test_help_imports_nothing_heavy(folder, capsys):
    assert main(["prepare", "--help"]) == 0
    assert "--text-column" in capsys.readouterr().out


def test_ctrl_c_ends_at_once_and_says_how_to_go_on(folder):
    # Every worker hangs as it starts, and hears Ctrl-C before the command does.
    slow = "import sys, time\nif 'autoresearch.tasks.gpt.data.pool' in sys.orig_argv: time.sleep(600)\n"
    (folder / "sitecustomize.py").write_text(slow)
    (folder / "long.txt").write_text("text that a worker shall read\n" * 200_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "autoresearch", "prepare", "--source", "long.txt"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
        stderr=subprocess.PIPE,
        text=True,
    )
    seen = ""
    while "scan ..." not in seen:
        line = process.stderr.readline()
        assert line, seen
        seen += line
    deadline = time.monotonic() + 60
    while not (workers := psutil.Process(process.pid).children()):
        assert time.monotonic() < deadline
    for worker in workers:
        worker.send_signal(signal.SIGINT)
    assert not psutil.wait_procs(workers, timeout=1)[0]
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert "`autoresearch prepare` continues where it stopped" in rest
    assert "Traceback" not in rest
    assert not psutil.wait_procs(workers, timeout=10)[1]
