"""Several sessions in one run directory, and new ones from old results."""

from collections.abc import Callable

import pytest
from record_support import TRAIN, Night, git

from autoresearch.errors import UsageError
from autoresearch.lab.record import Record
from autoresearch.lab.sessions import begin_from, sessions


def test_sessions_are_listed_newest_first(
    night: Night, make_record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    night.try_out(night.knob(3, 33))
    night.end()
    monkeypatch.setattr("autoresearch.lab.record.now", lambda: "2036-01-01T00:00:00Z")
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
