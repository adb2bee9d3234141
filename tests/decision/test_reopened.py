"""Discards that were weighed against an incumbent which no longer was the machine's."""

from dataclasses import replace

import pytest

from autoresearch.decision.belief import believe, estimates, load
from autoresearch.decision.rule import decide, due_again, is_again_due
from autoresearch.types import Doubt, State, Verdict

BASE = (1.0000, 1.0004, 0.9996)
MOVED = 0.02
"""What the machine adds from idea 3 on."""


def a_stretch(lab, effects=(0.002, 0.001, -0.0025, 0.004, 0.0), **changes):
    """A baseline, ideas of these effects, and the baseline again; the machine moves before idea 3."""
    base = lab.experiment(0, BASE)
    ideas = [
        lab.experiment(i, [1 + effect + MOVED * (i >= 3)], verdict=Verdict.DISCARD, **changes)
        for i, effect in enumerate(effects, 1)
    ]
    again = lab.trial(1.0002 + MOVED, 7, place=lab.later)
    return replace(lab.session(replace(base, trials=(*base.trials, again)), *ideas), tip="c0")


def opened(session, number, lab, score):
    """The session with an idea open again, and run again."""
    doubt = due_again(session)[number]
    idea = session.experiment(number)
    places = {"judged_place": idea.judged_place, "place": lab.later + 10}
    again = lab.trial(score, 1, place=lab.later + 11)
    idea = replace(
        idea,
        verdict=None,
        state=State.RUNNING,
        judged_place=0,
        doubt=replace(doubt, **places),
        trials=(*idea.trials, again),
    )
    others = tuple(idea if e.number == number else e for e in session.experiments)
    return replace(session, experiments=others), idea


def test_ideas_that_ran_after_the_move_and_may_be_gains_are_tried_again(lab):
    session = a_stretch(lab)
    base = replace(session.experiment(0), trials=session.experiment(0).trials[:3])
    before = replace(session, experiments=(base, *session.experiments[1:]))
    assert estimates(before)[3].p_real < 0.02
    assert estimates(session)[3].p_real > 0.5
    assert all(estimates(session)[n].p_real < 0.3 for n in (1, 2, 4, 5))
    due = due_again(session)
    assert list(due) == [3]
    assert due[3].p_real > 0.5
    assert due[3].shift == pytest.approx(0.0, abs=0.001)


def test_a_quiet_machine_opens_nothing(lab):
    base = lab.experiment(0, BASE)
    ideas = [lab.experiment(i, [0.9998], verdict=Verdict.DISCARD) for i in range(1, 6)]
    again = lab.trial(1.0003, 7, place=lab.later)
    session = lab.session(replace(base, trials=(*base.trials, again)), *ideas)
    assert due_again(replace(session, tip="c0")) == {}


def test_what_was_judged_on_another_tip_or_once_again_stays(lab):
    session = a_stretch(lab)
    assert due_again(replace(session, tip="c9")) == {}
    once = replace(session.experiment(3), doubt=Doubt(0.5, 0.0, 0.0))
    others = tuple(once if e.number == 3 else e for e in session.experiments)
    assert due_again(replace(session, experiments=others)) == {}


def test_there_are_not_many_of_them(lab):
    session = a_stretch(lab, effects=(0.002, 0.001, -0.002, -0.0022, -0.0024, -0.0026, -0.0021))
    found = due_again(session)
    assert len(found) == 2
    chances = [doubt.p_real for doubt in found.values()]
    assert chances == sorted(chances, reverse=True)
    assert len(believe(session).doubts) == 5


def test_all_trials_are_pooled_never_the_best_of_them(lab, decision_config):
    session = a_stretch(lab)
    base = session.experiment(0)
    lucky, idea = opened(session, 3, lab, 1.0 - 0.005 + MOVED)
    assert not is_again_due(idea, lab.setup.key)
    assert is_again_due(replace(idea, trials=idea.trials[:1]), lab.setup.key)
    got = decide(idea, base, lucky, decision_config())
    assert (got.action, got.num_trials) == ("keep", 2)
    assert -0.005 < got.estimate < -0.003
    worse, idea = opened(session, 3, lab, 1.0 + 0.004 + MOVED)
    assert decide(idea, base, worse, decision_config()).action == "discard"


def test_a_second_verdict_is_taken_in_once(lab):
    session = a_stretch(lab)
    first = believe(session)
    again, idea = opened(session, 3, lab, 1.004 + MOVED)
    judged = replace(idea, verdict=Verdict.DISCARD, state=State.JUDGED, judged_place=lab.later + 12)
    others = tuple(judged if e.number == 3 else e for e in again.experiments)
    found = believe(replace(again, experiments=others))
    assert found.level("c0") == pytest.approx(first.level("c0"))
    kept = replace(judged, verdict=Verdict.KEEP)
    others = tuple(kept if e.number == 3 else e for e in again.experiments)
    level, _ = believe(replace(again, experiments=others)).level("c3")
    assert 0.9995 < level < 1.0035


def test_doubts_survive_storing(lab):
    belief = believe(a_stretch(lab))
    stored = load(belief.dump())
    assert stored.doubts == belief.doubts
    earlier = believe(replace(a_stretch(lab), tip="c0", experiments=a_stretch(lab).experiments[1:]))
    assert load(earlier.dump()).since == earlier.since
