"""`kill -9` at every step of the loop, and at random moments: the night ends with the same record."""

from pathlib import Path

import pytest
from kill_support import kill_at_random, kill_at_step, run_night

from autoresearch import faults

NUM = 4
STEPS = [step for step in faults.STEPS if step != "confirmed"]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run directory of a night nobody disturbed."""
    root = tmp_path_factory.mktemp("undisturbed") / "lab"
    assert run_night(root, NUM) == 0
    return root


@pytest.mark.parametrize("step", STEPS)
def test_a_night_killed_at_a_step_goes_on(undisturbed: Path, tmp_path: Path, step: str) -> None:
    kill_at_step(undisturbed, tmp_path / "lab", NUM, step)


def test_a_night_killed_at_random_moments_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    kill_at_random(undisturbed, tmp_path / "lab", NUM, num_kills=8, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_night_killed_two_hundred_times_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    kill_at_random(undisturbed, tmp_path / "lab", NUM, num_kills=200, seed=2)
