"""A gain beyond what ideas bring: audited on text that no claim saw, held, and released or dropped by the user."""

import dataclasses
import json
from typing import Any

import pytest
import typer
from stand_ins import variant
from typer.testing import CliRunner

from autoresearch.commands import State, as_verb
from autoresearch.commands.steer import approve, reject
from autoresearch.errors import UsageError
from autoresearch.proposer.history import table
from autoresearch.session.proposals import context_of
from autoresearch.types import Outcome, Purpose, Reason, TrialResult, TrialSpec, Verdict
from autoresearch.ui.pages.rows import verdict_text
from autoresearch.ui.summary import summarize

JUMP = {"judge.suspicious_jump": 0.02}
UNSEEN = {"num_unseen": 64, "unseen_score": 1.01, "unseen_se": 0.01}


def leap_onto(text: str) -> str:
    """Return the script with a gain of 0.1 that leaves the line of the learning rate alone."""
    return text + "\n\n\n\nBONUS = 1\n"


@pytest.fixture
def lab(night: Any) -> Any:
    """A night in which BONUS takes off 0.1, and where an alarm is answered as `lab.alarm` says."""
    night.executor.noise = 0.0001
    real, night.alarm = night.executor.run, {"extra": UNSEEN}

    def run(spec: TrialSpec, **kwargs: Any) -> TrialResult:
        result = real(spec, **kwargs)
        if b"BONUS" in spec.files["train.py"] and result.score is not None:
            result = dataclasses.replace(result, score=result.score - 0.1)
        if spec.purpose is Purpose.ALARM:
            result = dataclasses.replace(result, **night.alarm)
        return result

    night.executor.run = run
    return night


def call(night: Any, monkeypatch: Any, verb: Any, *arguments: str) -> Any:
    monkeypatch.chdir(night.root)
    app = typer.Typer()
    app.callback()(lambda: None)
    app.command(verb.__name__)(as_verb(verb))
    found = CliRunner().invoke(app, [verb.__name__, *arguments, "--json"], obj=State())
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return json.loads(found.stdout)


def test_a_leap_is_held_the_night_goes_on_and_an_approval_measures_it_on_the_new_tip(
    lab: Any, monkeypatch: Any
) -> None:
    lab.run([leap_onto(variant()), variant(LR=1.5)], experiments=2, **JUMP)
    baseline, leap, step = lab.session.experiments
    assert (leap.verdict, leap.reason) == (Verdict.HELD, Reason.IMPLAUSIBLE)
    assert [t.purpose for t in leap.trials] == [Purpose.CANDIDATE, Purpose.ALARM]
    assert leap.trials[0].result.seed != leap.trials[1].result.seed
    assert "on 64 rows that no claim saw it scores 1.0100" in leap.decision.explanation
    assert verdict_text(leap) == "keep (held)"
    # The branch did not move by it, and nothing that was learnt rests on it.
    assert (step.parent, step.verdict) == (baseline.commit, Verdict.KEEP)
    assert lab.session.best == 2
    assert -0.025 < step.decision.estimate < -0.01
    (alert,) = [a for a in summarize(lab.session).alerts if "held" in a.text]
    assert alert.command == "autoresearch approve 1"
    with lab.record as record:
        context = context_of(record, record_config(lab), hardware={}, program="")
    assert "#1 keep (held)" in table(context, 10_000, len)

    assert call(lab, monkeypatch, approve, "1")["commit"] is None
    with pytest.raises(UsageError, match="not held"):
        call(lab, monkeypatch, approve, "2")
    count = len(lab.executor.specs)
    lab.run([variant(LR=1.2)], experiments=1, **JUMP)
    leap = lab.session.experiment(1)
    assert (leap.verdict, leap.parent, lab.session.best) == (Verdict.KEEP, step.commit, 1)
    assert b"LR = 1.5" in lab.executor.specs[count].files["train.py"]
    assert Purpose.ALARM not in {spec.purpose for spec in lab.executor.specs[count:]}
    # It stands last although its number is low.
    assert lab.session.experiment(3).parent == leap.commit
    assert lab.session.experiment(3).decision.delta > 0.01
    assert not [a for a in summarize(lab.session).alerts if "held" in a.text]


def test_what_is_not_stale_is_kept_at_once(lab: Any, monkeypatch: Any) -> None:
    lab.run([leap_onto(variant()), variant(LR=0.9)], experiments=2, **JUMP)
    told = call(lab, monkeypatch, approve, "#1")
    session = lab.session
    assert (session.best, session.tip) == (1, told["commit"])
    assert "BONUS" in (lab.root / "train.py").read_text()
    lab.run([variant(LR=1.5), leap_onto(variant(LR=1.5))], experiments=2, **JUMP)
    without, better = lab.session.experiments[3:]
    assert (without.verdict, better.verdict) == (Verdict.DISCARD, Verdict.KEEP)
    assert without.decision.delta > 0.05


def test_a_rejected_leap_is_a_discard(lab: Any, monkeypatch: Any) -> None:
    lab.run([variant(LR=1.2), leap_onto(variant(LR=1.2))], experiments=2, **JUMP)
    before = summarize(lab.session)
    assert call(lab, monkeypatch, reject, "2")["number"] == 2
    leap = lab.session.experiment(2)
    assert (leap.verdict, leap.reason) == (Verdict.DISCARD, Reason.REJECTED)
    assert leap.decision.explanation.endswith("rejected by the user")
    with pytest.raises(UsageError, match="not held"):
        call(lab, monkeypatch, reject, "2")
    assert lab.session.best == 1
    assert summarize(lab.session).best_score == before.best_score


def test_what_fails_on_unseen_text_is_invalid_and_what_has_none_says_so(lab: Any) -> None:
    lab.alarm = {"outcome": Outcome.INVALID, "reason": "unseen_text", "detail": "it knows the rows"}
    lab.run([leap_onto(variant())], experiments=1, **JUMP)
    leap = lab.session.experiment(1)
    assert (leap.verdict, leap.reason) == (Verdict.INVALID, "unseen_text")
    lab.alarm = {"extra": {"num_unseen": 0}}
    lab.run([leap_onto(variant(LR=1.1))], experiments=1, **JUMP)
    leap = lab.session.experiment(2)
    assert leap.verdict is Verdict.HELD
    assert "no text is left that no claim saw" in leap.decision.explanation
    assert lab.session.best == 0


def record_config(night: Any) -> Any:
    from autoresearch.config import load_config
    from autoresearch.paths import RunDirectory

    return load_config(RunDirectory(night.root)).config
