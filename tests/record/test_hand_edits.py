"""A person's edit of train.py becomes one experiment, or is told; never two, and never nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from record_support import TRAIN, Night, git

import autoresearch
from autoresearch.errors import WorkError
from autoresearch.events import Event
from autoresearch.record.record import Record
from autoresearch.session.proposals import take_hand_edit
from autoresearch.types import Experiment, State
from autoresearch.ui.summary import alerts

MINE = TRAIN + "# mine\n"
COLLIDING = TRAIN.replace("KNOB_03 = 3\n", "KNOB_03 = 4\n")
TAKE = """
import sys
from pathlib import Path
from autoresearch.session.proposals import take_hand_edit
from autoresearch.record.record import Record
from autoresearch.paths import RunDirectory
take_hand_edit(Record.open(RunDirectory(Path(sys.argv[1]))), b"# program\\n")
"""


def _take(night: Night) -> bool:
    is_taken = take_hand_edit(night.record, b"# program\n")
    night.number += is_taken
    return is_taken


def _by_hand(night: Night) -> list[Experiment]:
    return [e for e in night.record.session().experiments if e.proposer == "human"]


def test_an_edit_is_taken_once_it_has_settled_and_only_once(night: Night) -> None:
    night.edit(MINE, age=5.0)
    assert not _take(night)
    night.edit(MINE)
    assert _take(night)
    assert not _take(night)
    (experiment,) = _by_hand(night)
    assert (experiment.state, experiment.parent) == (State.PROPOSED, night.record.tip())
    assert night.record.texts(experiment.commit) == {"train.py": MINE}
    assert night.record.files(experiment.event)["program.md"] == b"# program\n"
    night.edit(MINE + "# again\n")
    assert _take(night)
    assert len(_by_hand(night)) == 2


def test_an_edit_is_carried_over_to_the_tip_and_given_back_when_kept(night: Night) -> None:
    night.edit(MINE)
    night.try_out(night.knob(3, 33))
    assert _take(night)
    experiment = _by_hand(night)[0]
    carried = night.record.texts(experiment.commit)["train.py"]
    assert carried == night.knob(3, 33) + "# mine\n"
    assert experiment.parameters == {}
    night.keep(experiment.number)
    assert (night.root / "train.py").read_text() == carried
    assert git(night.root, "status", "--porcelain") == ""


def test_an_edit_that_was_discarded_stays_in_the_working_tree(night: Night) -> None:
    night.edit(MINE)
    assert _take(night)
    night.discard(_by_hand(night)[0].number)
    night.try_out(night.knob(4, 44))
    assert (night.root / "train.py").read_text() == MINE
    assert not _take(night)


def test_an_edit_that_collides_is_told_once_with_the_way_to_get_it_back(night: Night) -> None:
    night.edit(COLLIDING)
    night.try_out(night.knob(3, 33))
    assert not _take(night)
    assert not _take(night)
    assert not _by_hand(night)
    (alert,) = night.record.session().alerts
    kept = night.record.worktree.taken()
    assert kept is not None
    assert kept[:12] in alert.text
    assert night.record.texts(kept) == {"train.py": COLLIDING}
    shown = subprocess.run(
        alert.command.split(), cwd=night.root, capture_output=True, text=True, check=True
    )
    assert "+KNOB_03 = 4\n" in shown.stdout
    git(night.root, "checkout", "HEAD", "--", "train.py")
    night.edit(night.knob(3, 4))  # the same text as before, but made from what was kept
    assert _take(night)
    assert night.record.texts(_by_hand(night)[0].commit) == {"train.py": night.knob(3, 4)}
    assert alerts(night.record.session(), []) == ()


def test_a_collision_is_over_once_the_branchs_file_is_back(night: Night) -> None:
    night.edit(COLLIDING)
    night.try_out(night.knob(3, 33))
    assert not _take(night)
    assert len(alerts(night.record.session(), [])) == 1
    git(night.root, "checkout", "HEAD", "--", "train.py")
    assert not _take(night)
    assert alerts(night.record.session(), []) == ()
    assert not _take(night)
    assert [alert.is_over for alert in night.record.session().alerts] == [False, True]


def test_a_second_edit_on_the_old_text_is_told_again(night: Night) -> None:
    night.edit(COLLIDING)
    night.try_out(night.knob(3, 33))
    _take(night)
    night.edit(COLLIDING + "# more\n")
    assert not _take(night)
    assert not _take(night)
    assert len(night.record.session().alerts) == 2


def test_edits_of_two_files_are_taken_together_and_once(record: Record) -> None:
    night = Night(record)
    (night.root / "model.py").write_text("x = 1\n")
    (night.root / "autoresearch.toml").write_text('[task]\neditable = ["train.py", "model.py"]\n')
    git(night.root, "add", "model.py")
    git(night.root, "commit", "-qm", "two files")
    night.start()
    night.edit(MINE)
    assert _take(night)
    night.discard(_by_hand(night)[0].number)
    (night.root / "model.py").write_text("x = 2\n")
    os.utime(night.root / "model.py", (0, 0))
    assert _take(night)
    assert not _take(night)
    last = _by_hand(night)[-1]
    assert night.record.texts(last.commit) == {"train.py": MINE, "model.py": "x = 2\n"}


def test_an_edit_that_says_what_was_kept_is_nothing_to_try(night: Night) -> None:
    night.edit(COLLIDING)
    night.try_out(COLLIDING + "# and more\n")
    assert not _take(night)
    assert not _by_hand(night)
    assert night.record.session().alerts == ()


@pytest.mark.parametrize("step", ["proposal_written", "proposal_stored"])
def test_an_edit_is_one_experiment_wherever_the_lab_is_killed(night: Night, step: str) -> None:
    night.edit(MINE)
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(autoresearch.__file__).parents[1]),
        "AUTORESEARCH_FAULT": step,
    }
    done = subprocess.run(
        [sys.executable, "-c", TAKE, str(night.root)], env=environment, check=False
    )
    assert done.returncode == -signal.SIGKILL
    _take(night)
    (experiment,) = _by_hand(night)
    assert night.record.texts(experiment.commit) == {"train.py": MINE}


@pytest.mark.parametrize("text", [MINE, COLLIDING])
def test_an_edit_that_could_not_be_stored_comes_again(
    night: Night, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    def fail(event: Event, **_: object) -> str:
        raise WorkError(f"cannot store {event.type}")

    night.edit(text)
    night.try_out(night.knob(3, 33))
    with monkeypatch.context() as patch:
        patch.setattr(night.record, "append", fail)
        with pytest.raises(WorkError, match="cannot store"):
            _take(night)
    assert _take(night) == (text == MINE)
    assert len(_by_hand(night)) + len(night.record.session().alerts) == 1
