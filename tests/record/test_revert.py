"""Inverse commits: one experiment, or back to a state; never half of it."""

from dataclasses import replace
from pathlib import Path

import pytest
from record_support import TRAIN, Night, git, undo

from autoresearch.errors import UsageError
from autoresearch.record.git_command import ConflictError, RefMovedError
from autoresearch.record.revert import apply, plan
from autoresearch.ui.summary import summarize


def _train(night: Night) -> str:
    return night.record.files(night.record.tip())["train.py"].decode()


def test_one_experiment_is_undone_and_the_later_ones_stand(night: Night) -> None:
    night.try_out(night.knob(3, 33))
    night.try_out(night.knob(9, 99))
    tip = undo(night.record, "1")
    assert night.record.tip() == tip
    assert _train(night) == TRAIN.replace("KNOB_09 = 9\n", "KNOB_09 = 99\n")
    assert (night.root / "train.py").read_text() == _train(night)
    assert git(night.root, "status", "--porcelain") == ""
    session = night.record.session()
    assert [e.number for e in session.kept] == [2]
    assert session.experiment(1).reverted_by == tip
    assert session.tip == tip
    assert session.best == 2
    assert "Revert #1: change a knob" in git(night.root, "log", "-1", "--format=%s")
    assert len(git(night.root, "log", "--format=%h").splitlines()) == 4


def test_a_conflict_changes_nothing_and_names_what_depends_on_it(night: Night) -> None:
    night.try_out(night.knob(3, 33))
    night.try_out(night.knob(9, 99))
    night.try_out(night.knob(3, 333))
    night.try_out(night.knob(3, 3333))
    before = git(night.root, "for-each-ref")
    with pytest.raises(ConflictError, match="#3, #4 changed the same lines") as caught:
        undo(night.record, "#1")
    assert "autoresearch revert 4" in (caught.value.hint or "")
    assert git(night.root, "for-each-ref") == before
    undo(night.record, "4")
    undo(night.record, "3")
    undo(night.record, "1")
    assert _train(night) == TRAIN.replace("KNOB_09 = 9\n", "KNOB_09 = 99\n")


def test_the_files_return_to_a_state(night: Night) -> None:
    first = night.try_out(night.knob(3, 33))
    night.try_out(night.knob(9, 99))
    night.try_out(night.knob(8, 88))
    undo(night.record, to="1")
    assert _train(night) == night.record.files(first.commit)["train.py"].decode()
    session = night.record.session()
    assert [e.number for e in session.kept] == [1]
    assert session.best == 1
    assert "Undone" in git(night.root, "log", "-1", "--format=%b").title()
    with pytest.raises(UsageError, match="are those of `1` already"):
        undo(night.record, to="1")
    undo(night.record, to="baseline")
    assert _train(night) == TRAIN
    assert night.record.session().best == 0


def test_a_return_gives_back_what_stood_then(night: Night) -> None:
    night.try_out(night.knob(3, 33))
    night.try_out(night.knob(9, 99))
    without_first = undo(night.record, "1")
    undo(night.record, to="2")
    session = night.record.session()
    assert [e.number for e in session.kept] == [1, 2]
    assert session.best == 2
    assert session.reverts[-1].restored == (1,)
    undo(night.record, to=without_first[:12])
    assert [e.number for e in night.record.session().kept] == [2]
    assert _train(night) == TRAIN.replace("KNOB_09 = 9\n", "KNOB_09 = 99\n")
    undo(night.record, to="baseline")
    assert night.record.session().kept == ()
    undo(night.record, to="1")
    assert [e.number for e in night.record.session().kept] == [1]
    undo(night.record, "1")
    assert _train(night) == TRAIN


def test_a_branch_that_was_not_measured_since_is_told(night: Night) -> None:
    night.try_out(night.knob(3, 33))
    night.try_out(night.knob(9, 99))
    before = summarize(night.record.session())
    assert not any("has changed" in alert.text for alert in before.alerts)
    undo(night.record, "1")
    session = replace(night.record.session(), state="finished")
    after = summarize(session)
    assert any("changed since #2" in alert.text for alert in after.alerts)
    assert after.next_command == "autoresearch run"


def test_a_plan_changes_nothing_and_shows_the_diff(night: Night) -> None:
    night.try_out(night.knob(3, 33))
    refs = git(night.root, "for-each-ref")
    made = plan(night.record, "1")
    assert "-KNOB_03 = 33\n+KNOB_03 = 3\n" in made.diff
    assert made.numbers == (1,)
    assert git(night.root, "for-each-ref") == refs
    night.try_out(night.knob(9, 99))
    with pytest.raises(RefMovedError):
        apply(night.record, made)
    assert night.record.session().experiment(1).reverted_by == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("0", "baseline"),
        ("2", "not on the branch"),
        ("3", "not on the branch"),
        ("9", "no experiment"),
    ],
)
def test_only_what_was_kept_can_be_undone(night: Night, name: str, words: str) -> None:
    night.try_out(night.knob(3, 33))
    night.try_out(night.knob(4, 44), keep=False)
    night.try_out(night.knob(5, 55), score=None)
    with pytest.raises(UsageError, match=words):
        undo(night.record, name)


def test_it_is_undone_once(night: Night) -> None:
    night.try_out(night.knob(3, 33))
    undo(night.record, "1")
    with pytest.raises(UsageError, match="undone already"):
        undo(night.record, "1")


def test_a_commit_of_the_person_in_between_is_kept(night: Night, tmp_path: Path) -> None:
    night.try_out(night.knob(3, 33))
    (night.root / "train.py").write_text((night.root / "train.py").read_text() + "# mine\n")
    git(night.root, "commit", "-qam", "mine")
    undo(night.record, "1")
    assert _train(night) == TRAIN + "# mine\n"
    assert git(night.root, "status", "--porcelain") == ""


def test_a_dirty_working_tree_is_left(night: Night) -> None:
    night.try_out(night.knob(3, 33))
    dirty = (night.root / "train.py").read_text() + "# typing\n"
    (night.root / "train.py").write_text(dirty)
    undo(night.record, "1")
    assert (night.root / "train.py").read_text() == dirty
