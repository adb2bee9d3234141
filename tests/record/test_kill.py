"""Whatever disturbs a night, it ends with the same record: kills, a full disk, a read-only folder, locks of git."""

from pathlib import Path

import pytest
from kill_support import (
    CAN_BIND,
    check_night,
    fill_disk,
    finish,
    forbid_writing,
    kill_at_each,
    kill_at_random,
    kill_at_step,
    leave_lock,
    run_night,
)
from real_kills import RealLab

import autoresearch
from autoresearch.util import killpoints

NUM = 4
NUM_NIGHTS = 3
"""That share the steps: a night is killed at every third."""


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run directory of a night nobody disturbed."""
    root = tmp_path_factory.mktemp("undisturbed") / "lab"
    finish(root, NUM)
    return root


@pytest.mark.parametrize("first", range(NUM_NIGHTS))
def test_a_night_killed_at_one_step_after_the_other_goes_on(
    undisturbed: Path, tmp_path: Path, first: int
) -> None:
    kill_at_each(undisturbed, tmp_path / "lab", NUM, killpoints.STEPS[first::NUM_NIGHTS])


@pytest.mark.slow
@pytest.mark.parametrize("step", killpoints.STEPS)
def test_a_night_killed_at_a_step_for_the_first_and_the_second_time_goes_on(
    undisturbed: Path, tmp_path: Path, step: str
) -> None:
    kill_at_step(undisturbed, tmp_path / "lab", NUM, step)


def test_a_night_killed_after_each_trial_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    """Also between a slow trial, the checks of the incumbent and what they come to."""
    num_kills = 0
    while run_night(tmp_path / "lab", NUM, fault="trial_stored:1").code:
        num_kills += 1
    check_night(tmp_path / "lab", undisturbed)
    session = autoresearch.read_session(undisturbed)
    reasons = [
        [t.result.reason for t in session.experiment(n).trials if not t.confirmation]
        for n in (0, 1, 2)
    ]
    assert reasons == [["", "", "", "slow", "slow", ""], ["slow", "", ""], ["slow"]]
    assert [a.is_over for a in session.alerts] == [False, True]
    assert num_kills >= len(
        [t for e in session.experiments for t in e.trials if not t.confirmation]
    )


def test_a_night_killed_at_random_moments_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    kill_at_random(undisturbed, tmp_path / "lab", NUM, num_kills=8, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_night_killed_two_hundred_times_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    kill_at_random(undisturbed, tmp_path / "lab", NUM, num_kills=200, seed=2)


def test_a_night_on_a_full_disk_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    stopped = fill_disk(undisturbed, tmp_path / "disk", NUM, step_kb=72)
    if stopped is None:
        pytest.skip("a small disk cannot be mounted here")
    assert stopped > 2


@pytest.mark.skipif(not CAN_BIND, reason="nothing is read-only here")
def test_a_night_in_a_read_only_folder_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    forbid_writing(undisturbed, tmp_path / "lab", NUM, killpoints.STEPS[:-1:3])


@pytest.mark.parametrize(
    ("lock", "is_ours", "outcome"),
    [
        ("refs/autoresearch/nov21/journal.lock", True, "removed"),
        ("refs/heads/autoresearch/nov21.lock", True, "removed"),
        ("refs/heads/autoresearch/nov21.lock", False, "named"),
        ("HEAD.lock", False, "named"),
        ("index.lock", True, "removed"),
        ("index.lock", False, "told"),
        ("packed-refs.lock", False, "not in the way"),
    ],
)
def test_a_night_with_a_lock_in_its_way_goes_on(
    undisturbed: Path, tmp_path: Path, lock: str, is_ours: bool, outcome: str
) -> None:
    found = leave_lock(undisturbed, tmp_path / "lab", NUM, lock, is_ours=is_ours)
    assert found.startswith(outcome)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> RealLab:
    """Return a lab that trains for real."""
    return RealLab(tmp_path_factory.mktemp("real") / "here")


@pytest.mark.xdist_group("real lab")
@pytest.mark.parametrize("step", ["trial_started", "weights_in"])
def test_nothing_outlives_a_lab_that_is_killed_while_it_trains(lab: RealLab, step: str) -> None:
    lab.kill_at_step(step)


@pytest.mark.xdist_group("real lab")
def test_a_lost_terminal_ends_nothing(lab: RealLab) -> None:
    assert lab.lose_terminal() == 0
