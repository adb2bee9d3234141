"""What lies beside git is kept small; exports; the index."""

import json
import os
from pathlib import Path

import pytest
from record_support import TRAIN, Night, git, undo

from autoresearch.errors import UsageError
from autoresearch.events import Noted
from autoresearch.record import journal
from autoresearch.record.record import Record
from autoresearch.report.export import export
from autoresearch.rundir.storage import drop_weights, keep_weights, prune, weights_path
from autoresearch.session.housekeeping import pack
from autoresearch.types import MB, Verdict


def _fill(path: Path, num_mb: float, age: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0" * int(num_mb * MB))
    os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))
    return path


def test_old_logs_go_first(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    where = night.record.run_directory
    logs = [_fill(where.logs / "nov21" / f"{n}-0.log", 0.5, age=100 - n) for n in range(4)]
    monkeypatch.setattr("autoresearch.rundir.storage.MAX_LOGS_BYTES", MB)
    assert prune(where, night.record.session()) == MB
    assert [p.exists() for p in logs] == [False, False, True, True]
    assert prune(where, night.record.session()) == 0


def test_weights_of_discarded_experiments_go_first_and_the_best_last(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = night.record.run_directory
    night.try_out(night.knob(1, 11))
    night.try_out(night.knob(2, 22), keep=False)
    night.try_out(night.knob(3, 33))
    session = night.record.session()
    paths = {n: _fill(weights_path(where, "nov21", n), 0.6, age=n) for n in (1, 2, 3)}
    monkeypatch.setattr("autoresearch.rundir.storage.MAX_WEIGHTS_BYTES", 2 * MB)
    prune(where, session)
    assert all(p.exists() for p in paths.values())
    paths[4] = _fill(weights_path(where, "nov21", 4), 0.6, age=0)
    _fill(weights_path(where, "older", 0), 0.6, age=500)
    monkeypatch.setattr("autoresearch.rundir.storage.MAX_WEIGHTS_BYTES", MB)
    prune(where, session)
    assert [n for n, p in paths.items() if p.exists()] == [3]


@pytest.mark.parametrize(("policy", "left"), [("none", []), ("best", [3, 4]), ("kept", [1, 3, 4])])
def test_the_policy_says_which_weights_stay(night: Night, policy: str, left: list[int]) -> None:
    where = night.record.run_directory
    night.try_out(night.knob(1, 11))
    night.try_out(night.knob(2, 22), keep=False)
    night.try_out(night.knob(3, 33))
    held = night.propose(night.knob(4, 44), "a leap", "search", "").number
    night.trial(held, 0.1)
    night.record.judge(held, Verdict.HELD, "implausible")
    for n in (1, 2, 3, 4):
        written = _fill(night.root / "scratch.bin", 0.01, age=0)
        assert keep_weights(where, "nov21", n, written) == weights_path(where, "nov21", n)
        assert not written.exists()
    drop_weights(where, night.record.session(), policy)
    assert [n for n in (1, 2, 3, 4) if weights_path(where, "nov21", n).exists()] == left


def test_an_export_needs_no_lab(night: Night, tmp_path: Path) -> None:
    night.try_out(night.knob(3, 33), "knob 3 up")
    night.try_out(night.knob(4, 44), "worse", keep=False)
    _fill(weights_path(night.record.run_directory, "nov21", 1), 0.01, age=0)
    done = export(night.record, "best", tmp_path / "out")
    assert done.number == 1
    assert "KNOB_03 = 33" in (tmp_path / "out" / "train.py").read_text()
    assert {"train.py", "autoresearch.toml", "model.safetensors", "experiment.json"} <= set(
        done.files
    )
    facts = json.loads((tmp_path / "out" / "experiment.json").read_text())
    assert (facts["experiment"], facts["val_bpb"], facts["description"]) == (1, 1.4, "knob 3 up")
    assert "tokenizer" in done.missing[0]
    with pytest.raises(UsageError, match="is not empty"):
        export(night.record, "best", tmp_path / "out")
    (night.root / "autoresearch.toml").write_text("data.nothing = 1\n")
    second = export(night.record, "2")
    assert "unknown setting `data.nothing`" in second.missing[0]
    assert second.folder == night.root / "export-nov21-2"
    assert "weights" in " ".join(second.missing)


def test_the_index_gives_the_same_session(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_MIN_NEW_EVENTS", 1)
    night.try_out(night.knob(3, 33), "\u2603 caf\u00e9")
    night.try_out(night.knob(4, 44), keep=False)
    undo(night.record, "1")
    where = night.record.run_directory
    path = where.state / "index" / "nov21.json"

    def fresh() -> object:
        with Record.open(where) as record:
            return record.session()

    expected = fresh()
    assert path.is_file()
    read = []
    monkeypatch.setattr(
        "autoresearch.record.journal.Fold.apply", lambda *args: read.append(args), raising=True
    )
    assert fresh() == expected
    assert read == []
    monkeypatch.undo()
    night.record.append(Noted(text="one more"))
    assert fresh() == night.record.session()
    for damage in (b"", b"{}", b"[1]", b'{"version": 99}', path.read_bytes()[:-20]):
        path.write_bytes(damage)
        assert fresh() == night.record.session()


def test_an_index_of_another_history_is_not_used(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_MIN_NEW_EVENTS", 1)
    ref = "refs/autoresearch/nov21/journal"
    before = git(night.root, "rev-parse", ref)
    night.try_out(night.knob(3, 33))
    with Record.open(night.record.run_directory) as record:
        assert len(record.session().experiments) == 2
    git(night.root, "update-ref", ref, before)
    assert len(night.record.session().experiments) == 1
    with Record.open(night.record.run_directory) as record:
        assert len(record.session().experiments) == 1


def test_packing_loses_nothing(night: Night) -> None:
    for n in range(4):
        night.try_out(night.knob(n, 100 + n), keep=n % 2 == 0)
    lonely = git(night.root, "hash-object", "-w", "program.md")
    before = night.record.session()
    assert not pack(night.record)
    assert pack(night.record, force=True)
    assert "count: 0" in git(night.root, "count-objects", "-v")
    assert git(night.root, "cat-file", "-t", lonely) == "blob"
    with Record.open(night.record.run_directory) as record:
        assert record.session() == before
    night.try_out(night.knob(9, 99))
    assert git(night.root, "fsck", "--strict") == ""


def test_everything_beside_git_may_be_deleted(night: Night) -> None:
    import shutil

    night.try_out(night.knob(3, 33))
    before = night.record.session()
    shutil.rmtree(night.root / ".autoresearch")
    with Record.open(night.record.run_directory) as record:
        assert record.session() == before
        record.presence.set_status({"phase": "x"})
    night.try_out(night.knob(4, 44))
    assert (night.root / "train.py").read_text() != TRAIN
    assert git(night.root, "status", "--porcelain") == ""
