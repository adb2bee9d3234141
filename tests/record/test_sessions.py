"""Several sessions in one run directory, and new ones from old results."""

from collections.abc import Callable
from pathlib import Path

import pytest
from record_support import TRAIN, Night, git

from autoresearch.bootstrap.scaffold import scaffold
from autoresearch.errors import AutoresearchError, UsageError
from autoresearch.record.record import Record
from autoresearch.record.sessions import begin_from, sessions


def test_sessions_are_listed_newest_first(
    night: Night, make_record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    night.try_out(night.knob(3, 33))
    night.end()
    monkeypatch.setattr("autoresearch.record.record.now", lambda: "2036-01-01T00:00:00Z")
    other = make_record(tag="dec24")
    assert git(night.root, "branch", "--show-current") == "autoresearch/dec24"
    assert [s.tag for s in sessions(night.record.run_directory)] == ["nov21", "dec24"]
    second = Night(other)
    second.start()
    found = sessions(night.record.run_directory)
    assert [(s.tag, s.best, len(s.experiments)) for s in found if s.tag == "nov21"] == [
        ("nov21", 1, 2)
    ]
    with Record.open(night.record.run_directory) as current:
        assert current.tag == "dec24"
    with Record.open(night.record.run_directory, "nov21") as named:
        assert named.session() == night.record.session()


@pytest.mark.parametrize("source", ["nov21", "best", "1", "sha", "HEAD~1"])
def test_a_session_begins_with_an_old_result(night: Night, source: str) -> None:
    first = night.try_out(night.knob(3, 33))
    night.try_out(night.knob(4, 44))
    expected = first.commit if source in ("1", "sha", "HEAD~1") else night.record.tip()
    with begin_from(
        night.record.run_directory, "next", first.commit[:9] if source == "sha" else source
    ) as record:
        assert record.tip() == expected
        assert record.session().experiments == ()
        assert git(night.root, "branch", "--show-current") == "autoresearch/next"
        assert git(night.root, "status", "--porcelain") == ""
        assert (night.root / "train.py").read_bytes() == record.files(expected)["train.py"]
        started = Night(record)
        started.start()
        started.try_out(started.knob(9, 99))
    assert night.record.branch_tip() != record.branch_tip()
    assert len(night.record.session().experiments) == 3


def test_it_begins_with_nothing_of_the_person_lost(night: Night) -> None:
    night.try_out(night.knob(3, 33))
    (night.root / "train.py").write_text(TRAIN + "# mine\n")
    with pytest.raises(UsageError, match=r"would replace: `train\.py`"):
        begin_from(night.record.run_directory, "next", "baseline")
    assert git(night.root, "branch", "--list", "autoresearch/next") == ""
    with begin_from(night.record.run_directory, "next", "best"):
        pass
    assert (night.root / "train.py").read_text() == TRAIN + "# mine\n"


def test_a_session_begins_once_and_with_something(night: Night) -> None:
    with pytest.raises(UsageError, match="exists already"):
        begin_from(night.record.run_directory, "nov21", "best")
    with pytest.raises(UsageError, match="no session, no experiment and no commit"):
        begin_from(night.record.run_directory, "next", "nonsense")


def test_init_from_a_result_in_a_clone_brings_its_files(night: Night, tmp_path: Path) -> None:
    night.try_out(night.knob(3, 33))
    git(night.root, "checkout", "-q", "--orphan", "main")
    git(night.root, "rm", "-qrf", ".")
    person = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    git(night.root, *person, "commit", "-q", "--allow-empty", "-m", "nothing yet")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "-b", "main", str(night.root), str(clone))
    made = scaffold(clone, preset="demo", tag="next", source="origin/autoresearch/nov21")
    assert made.written == ()
    assert "KNOB_03 = 33" in (clone / "train.py").read_text()
    assert git(clone, "branch", "--show-current") == "autoresearch/next"
    assert git(clone, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("tag", "source"), [("odd name", None), ("next", "nonsense"), ("next", "best")]
)
def test_init_that_is_refused_writes_nothing(tmp_path: Path, tag: str, source: str | None) -> None:
    with pytest.raises(AutoresearchError):
        scaffold(tmp_path / "new", preset="demo", tag=tag, source=source)
    assert not (tmp_path / "new").exists()
