"""A machine that slept taints the trial; what counts is the kernel's clocks, not the time of day."""

import select
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from trial_files import BARE

from autoresearch.tasks.gpt import training
from autoresearch.types import Outcome

CODE = "from autoresearch.trial.process import suspended_seconds as s; print(s())"


def test_a_machine_that_slept_while_it_trained_taints_the_trial(run, unjudged, monkeypatch) -> None:
    slept = [7.0]
    monkeypatch.setattr(training, "suspended_seconds", lambda: slept[0])

    def heard(progress) -> None:
        if progress.phase == "train":
            slept[0] = 49.0

    result = run(BARE, on_progress=heard, trial__budget_seconds=60.0)
    assert (result.outcome, result.reason) == (Outcome.TAINTED, "suspended")
    assert "slept for 42 s" in result.detail
    assert result.score is None


def test_a_lab_that_did_not_look_for_more_than_a_second_taints_the_trial(run, monkeypatch) -> None:
    """Stopped with the trial, by Ctrl-Z or a frozen container, it sees no sleep of the machine."""
    real = select.select

    def stopped(*arguments):
        time.sleep(1.3)
        return real(*arguments)

    monkeypatch.setattr(training, "select", SimpleNamespace(select=stopped))
    result = run("import time\ntime.sleep(60)\n")
    assert (result.outcome, result.reason) == (Outcome.TAINTED, "suspended"), result
    assert "was stopped for" in result.detail


def test_sleep_is_what_the_boot_clock_is_ahead_of_the_monotonic_one() -> None:
    def measured(*prefix: str) -> float | None:
        done = subprocess.run(
            [*prefix, sys.executable, "-c", CODE], capture_output=True, text=True, check=False
        )
        return float(done.stdout) if done.returncode == 0 else None

    here = measured()
    there = measured("unshare", "--user", "--time", "--fork", "--boottime", "500")
    assert here is not None
    if there is None:
        pytest.skip("no namespaces of time here")
    assert there - here == pytest.approx(500, abs=1.0)
