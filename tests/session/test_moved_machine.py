"""A machine that moves during the night: what was discarded on it is tried once more, and the proposer reads so."""

from dataclasses import replace
from typing import Any

from stand_ins import variant

from autoresearch.decision import rule
from autoresearch.proposer.history import table
from autoresearch.types import Purpose, TrialResult, TrialSpec, Verdict

SLOWER = 0.1
"""What the machine adds to each score from the third idea on."""


def moved_from_the_third_idea_on(night: Any, monkeypatch: Any) -> None:
    night.executor.noise = 0.0002
    real, ideas = night.executor.run, []

    def run(spec: TrialSpec, **kwargs: Any) -> TrialResult:
        ideas.append(spec.number)
        result = real(spec, **kwargs)
        return replace(result, score=(result.score or 0.0) + SLOWER * (max(ideas) >= 3))

    monkeypatch.setattr(night.executor, "run", run)
    monkeypatch.setattr(rule, "SENTINEL_EVERY", 4)


def test_ideas_that_a_moved_machine_wronged_are_tried_once_more(night: Any, monkeypatch: Any):
    moved_from_the_third_idea_on(night, monkeypatch)
    night.run([variant(LR=lr) for lr in (0.9, 0.95, 1.2, 0.8, 0.85)], experiments=5)
    session = night.session
    wronged = session.experiment(3)
    assert wronged.verdict is Verdict.KEEP
    assert wronged.doubt is not None
    assert wronged.doubt.p_real > 0.3
    assert [t.purpose for t in wronged.trials][:2] == [Purpose.CANDIDATE, Purpose.RETEST]
    assert wronged.decision is not None
    assert wronged.decision.num_trials >= 2
    others = [session.experiment(n) for n in (1, 2, 4)]
    assert all(e.verdict is Verdict.DISCARD and e.doubt is None for e in others)
    assert session.best == 3


def test_the_proposer_reads_that_it_is_not_known(night: Any, monkeypatch: Any):
    """While the idea waits for its further trial it is no failure, and afterwards it has its verdict again."""
    moved_from_the_third_idea_on(night, monkeypatch)
    seen = []

    def look(event: Any) -> None:
        if getattr(event, "type", "") == "reopened":
            seen.append(night.session)

    night.listeners.append(look)
    night.run([variant(LR=lr) for lr in (0.9, 0.95, 1.2, 0.8, 0.85)], experiments=5)
    context = replace(night.proposer.history[-1], session=seen[0] if seen else night.session)
    lines = table(context, 5000, len).splitlines()
    assert any("not known" in line for line in lines if line.startswith("#3 ")) == bool(seen)
    session = night.session
    lines = table(replace(context, session=session), 5000, len).splitlines()
    assert any(line.startswith("#3 keep") for line in lines)
