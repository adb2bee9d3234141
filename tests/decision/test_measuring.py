"""How much of a night measuring may take."""

from dataclasses import replace

import pytest

from autoresearch.decision.measuring import is_swinging, may_measure, measuring_share
from autoresearch.types import Decision, Purpose, Verdict


def night(lab, num_ideas, num_measured, *, mark="", seconds=0.0, each=10.0):
    def timed(number, purpose):
        made = lab.experiment(number, [1.0], verdict=Verdict.DISCARD if number else Verdict.KEEP)
        (trial,) = made.trials
        trial = replace(trial, purpose=purpose, result=replace(trial.result, total_seconds=each))
        return replace(made, trials=(trial,), decision=Decision("discard", "no_gain", mark=mark))

    base = timed(0, Purpose.BASELINE)
    base = replace(base, trials=base.trials * num_measured)
    ideas = [timed(n, Purpose.CANDIDATE) for n in range(1, num_ideas + 1)]
    session = lab.session(base, *ideas)
    return replace(session, limits={"seconds": seconds} if seconds else {})


def test_share_of_the_time(lab):
    assert measuring_share(night(lab, 97, 3)) == pytest.approx(0.03)
    assert measuring_share(lab.session()) is None


def test_a_night_may_measure_an_eighth_and_a_swinging_one_a_quarter(lab):
    assert may_measure(night(lab, 89, 11))
    assert not may_measure(night(lab, 88, 12))
    mark = "others took +15% of the machine"
    assert is_swinging(night(lab, 5, 1, mark=mark))
    assert may_measure(night(lab, 80, 20, mark=mark))
    assert not may_measure(night(lab, 75, 25, mark=mark))
    assert not is_swinging(night(lab, 5, 1, mark="tokens/s -3%"))


def test_a_night_that_begins_may_measure_what_the_whole_of_it_may(lab):
    assert may_measure(night(lab, 0, 5))
    assert not may_measure(night(lab, 0, 6)), "six of fifty, and one more"
    assert may_measure(night(lab, 0, 6, seconds=1000.0))


def test_a_short_run_is_not_spent_on_measuring(lab):
    short = {"experiments": 5}
    assert not may_measure(replace(night(lab, 0, 1), limits=short))
    assert may_measure(replace(night(lab, 40, 3), limits=short)), (
        "of a session that is long already"
    )
