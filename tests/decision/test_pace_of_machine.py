"""A machine whose pace changes: what is taken off, what is paired, and what a candidate cannot make of it."""

from dataclasses import replace

import numpy as np
import pytest

from autoresearch.decision import belief, rule
from autoresearch.decision.belief import SLOPE_SPREAD, believe, estimates
from autoresearch.decision.rule import decide, is_incumbent_due
from autoresearch.decision.scores import pace_of
from autoresearch.types import Decision, State, Verdict

BASE = (1.0000, 1.0004, 0.9996)
SLOPE = -0.03
"""Units of the score for a pace of 1, on the log scale."""


def loaded(lab, score, others, index=0, **changes):
    """A trial during which other programs had this share of the machine."""
    return lab.trial(score, index, extra={"load": {"stolen": 0.0, "others": others}}, **changes)


def slow(level, others):
    """The score of a program of this level while others have a share of the machine."""
    return level + SLOPE * np.log1p(-others)


def baseline(lab, *shares, later=()):
    """A baseline of level 1 that ran at the first three shares, and again, much later, at the others."""
    luck = (0.0, 0.0004, -0.0004, 0.0002, -0.0002, 0.0001)
    first = [loaded(lab, slow(1 + luck[i], share), share, i) for i, share in enumerate(shares)]
    more = [
        loaded(lab, slow(1 + luck[3 + i], share), share, 5 + i, place=lab.later + i)
        for i, share in enumerate(later)
    ]
    return lab.experiment(0, [], trials=(*first, *more))


def candidate(lab, level, others, number=1, **changes):
    made = lab.experiment(number, [], trials=(loaded(lab, slow(level, others), others),))
    return replace(made, **changes)


def test_repeats_teach_what_the_pace_does_and_it_is_taken_off(lab, decision_config):
    base = baseline(lab, 0.0, 0.0, 0.0, later=(0.3, 0.2, 0.1))
    for level, low, high in ((1.0, 0.02, 0.5), (0.994, 0.8, 1.0), (1.006, 0.0, 0.02)):
        new = candidate(lab, level, 0.15)
        got = decide(new, base, lab.session(base, new), decision_config())
        assert low <= got.p_real <= high
    raw = lab.experiment(1, [slow(1.0, 0.15)])
    assert decide(raw, base, lab.session(base, raw), decision_config()).p_real < 0.01


def test_without_repeats_nothing_is_thought_known(lab, decision_config):
    """A slow trial of an idea that helps is no sign of harm before it is known what a pace does."""
    base = baseline(lab, 0.0, 0.0, 0.0)
    new = candidate(lab, 0.994, 0.15)
    session = lab.session(base, new)
    got = decide(new, base, session, decision_config())
    assert 0.02 < got.p_real < 0.5
    new = session.experiments[1]
    assert is_incumbent_due(replace(got, action="discard"), new, base, session)


def test_the_incumbent_beside_it_settles_what_a_pace_does(lab, decision_config):
    base = baseline(lab, 0.0, 0.0, 0.0, later=(0.15,))
    new = candidate(lab, 0.994, 0.15)
    session = lab.session(base, new)
    got = decide(new, base, session, decision_config())
    assert got.p_real > 0.8
    assert not is_incumbent_due(got, session.experiments[1], session.experiments[0], session)


def test_a_quiet_machine_asks_for_no_pair(lab, decision_config):
    base = baseline(lab, 0.001, 0.0, 0.002)
    for score in (0.99, 1.0, 1.01):
        new = candidate(lab, score, 0.0015)
        session = lab.session(base, new)
        got = decide(new, base, session, decision_config())
        new = session.experiments[1]
        assert not is_incumbent_due(replace(got, action="discard"), new, base, session)
        plain = lab.experiment(1, [score]), lab.experiment(0, BASE)
        want = decide(*plain, lab.session(*reversed(plain)), decision_config())
        assert got.p_real == pytest.approx(want.p_real, abs=0.02)


def test_what_is_hopeless_or_asked_twice_is_asked_no_more(lab):
    base, new = baseline(lab, 0.0, 0.0, 0.0), candidate(lab, 0.99, 0.3)
    session = lab.session(base, new)
    ask = Decision("discard", "no_gain", p_real=0.1, noise=0.0004)
    new = session.experiments[1]
    assert is_incumbent_due(ask, new, base, session)
    assert not is_incumbent_due(replace(ask, p_real=0.001), new, base, session)
    assert not is_incumbent_due(replace(ask, action="retest"), new, base, session)
    twice = baseline(lab, 0.0, 0.0, 0.0, later=(0.0, 0.0))
    assert not is_incumbent_due(ask, new, twice, lab.session(twice, new))


def test_no_more_than_the_cap_is_taken_off_without_a_trial_near_in_pace(
    lab, decision_config, monkeypatch
):
    """A candidate that looks very slow is not believed to be as much better as that would make it."""
    new = candidate(lab, 0.98, 0.6)
    far = baseline(lab, 0.0, 0.0, 0.0, later=(0.3, 0.3, 0.0))
    near = baseline(lab, 0.0, 0.0, 0.0, later=(0.3, 0.3, 0.6))
    monkeypatch.setattr(rule, "PAIRS_MOST", 9)
    found = {}
    for cap in (0.02, 0.005):
        monkeypatch.setattr(belief, "ADJUST_MOST", cap)
        monkeypatch.setattr(rule, "ADJUST_MOST", cap)
        monkeypatch.setattr(rule, "PAIR_ABOVE", 1e9)
        for name, base in (("far", far), ("near", near)):
            session = lab.session(base, new)
            got = decide(new, base, session, decision_config())
            ask = replace(got, action="keep", mark="")
            is_due = is_incumbent_due(ask, session.experiments[1], session.experiments[0], session)
            found[name, cap] = got.estimate, is_due
    assert found["far", 0.02][0] < -0.005
    assert not found["far", 0.02][1]
    assert found["far", 0.005][0] > found["far", 0.02][0] + 0.004
    assert found["far", 0.005][1]
    assert found["near", 0.005][0] == pytest.approx(found["near", 0.02][0], abs=0.001)
    assert not found["near", 0.005][1]


def test_a_level_is_at_the_usual_pace_and_slopes_of_programs_differ(lab):
    base = baseline(lab, 0.1, 0.1, 0.1, later=(0.0, 0.3))
    kept = candidate(lab, 0.99, 0.3, verdict=Verdict.KEEP, state=State.JUDGED)
    trials = (replace(kept.trials[0], place=lab.later + 50),)
    kept = replace(kept, trials=trials, judged_place=lab.later + 51)
    found = estimates(lab.session(base, kept, best=1))
    assert found[0].level == pytest.approx(slow(1.0, 0.1), abs=0.0005)
    assert found[1].level == pytest.approx(slow(0.99, 0.1), abs=0.002)
    off = abs(SLOPE * (np.log1p(-0.3) - np.log1p(-0.1)))
    assert found[1].level_sd > 0.5 * SLOPE_SPREAD * off


def test_loads_have_slopes_of_their_own(lab):
    """What the host steals costs ten times as much as what other programs take."""

    def trial(score, stolen, others, place):
        load = {"stolen": stolen, "others": others}
        return lab.trial(score, place, place=place, extra={"load": load})

    points = [(0, 0), (0, 0), (0, 0), (0.02, 0), (0, 0.2), (0.02, 0.2), (0.01, 0.1), (0.03, 0)]
    trials = tuple(
        trial(1 - 0.3 * np.log1p(-s) - 0.03 * np.log1p(-o) + 0.0003 * (-1) ** i, s, o, 1 + i)
        for i, (s, o) in enumerate(points)
    )
    known = believe(lab.session(lab.experiment(0, [], trials=trials, judged_place=4)))
    slopes = {
        name: float(known.known.moments(i)[0])
        for i, name in enumerate(known.columns)
        if name.startswith("pace:")
    }
    assert slopes["pace:stolen"] == pytest.approx(-0.3, abs=0.08)
    assert slopes["pace:others"] == pytest.approx(-0.03, abs=0.01)


def test_a_pace_from_elsewhere_is_read_with_care(lab):
    def read(load):
        return pace_of(lab.trial(1.0, 0, extra={"load": load}).result)

    assert read({"stolen": 0.5, "others": 7}) == {"stolen": np.log(0.5), "others": np.log1p(-0.9)}
    assert read({"stolen": "x", "others": float("nan")}) == {}
    for other in (None, 3, [1], {}):
        assert read(other) == {}
