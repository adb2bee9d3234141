"""A record made by the version before a session had a metric is read, and continued."""

from pathlib import Path

import loop_driver
import pytest
from record_support import git

import autoresearch
from autoresearch.types import Outcome, Verdict

BUNDLE = Path(__file__).with_name("v1.bundle")
"""A night of `loop_driver` over eight ideas, by commit 6363da2."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return a run directory that was made then."""
    folder = tmp_path / "old"
    folder.mkdir()
    git(folder, "init", "-q")
    git(folder, "fetch", "-q", str(BUNDLE), "refs/*:refs/*")
    git(folder, "switch", "-q", "autoresearch/nov21")
    return folder


def test_scores_and_their_metric_are_read(old: Path) -> None:
    session = autoresearch.read_session(old)
    assert (session.metric.name, session.metric.sign) == ("val_bpb", 1)
    assert session.experiment(0).score == pytest.approx(1.0400120269336586)
    assert (session.best, session.experiment(7).score) == (7, pytest.approx(0.9997540971096301))
    failed = session.experiment(2)
    assert (failed.verdict, failed.score) == (Verdict.CRASH, None)
    (confirmation,) = session.confirmations
    assert confirmation.reference_score == pytest.approx(1.0400065670386311)
    assert confirmation.candidate_score == pytest.approx(1.0000065670386311)
    assert confirmation.is_gain


def test_it_is_continued(old: Path) -> None:
    loop_driver.run(old, 8)  # it is over: nothing happens
    before = autoresearch.read_session(old)
    with loop_driver.make(old) as record, record.presence.lock():
        trial = before.experiment(8).trials[0].result
        record.record_trial(
            8, trial, setup=loop_driver.SETUP.key, started_at="2026-03-01T22:00:00Z"
        )
    after = autoresearch.read_session(old)
    old_trial, new_trial = after.experiment(8).trials[-2:]
    assert old_trial.result == new_trial.result
    assert (new_trial.result.outcome, new_trial.result.score) == (Outcome.OK, trial.score)
    assert after.experiments[:8] == before.experiments[:8]
