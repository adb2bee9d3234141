"""The keep rule on scores that are means over cases: pairs whose trials of one code do not differ at all."""

import random
from dataclasses import replace
from statistics import fmean, stdev

import pytest

from autoresearch.decision.belief import measure_noise
from autoresearch.decision.confirmation import paired
from autoresearch.decision.rule import anchor_of, decide, is_implausible
from autoresearch.types import NUM_CASES, REFERENCE_SCORE, Outcome, TrialResult, Verdict

NUM = 48


def by_cases(lab, number, scores, error=0.0, **changes):
    """An experiment whose trials are means over cases with this standard error."""
    made = lab.experiment(number, scores, **changes)
    extra = {NUM_CASES: NUM}
    trials = [
        replace(t, result=replace(t.result, score_se=error, extra=extra)) for t in made.trials
    ]
    return replace(made, trials=tuple(trials))


def test_a_gain_far_beyond_the_cases_is_kept(lab, decision_config):
    base = by_cases(lab, 0, [0.5, 0.5, 0.5])
    for policy in ("greedy", "balanced", "strict"):
        new = by_cases(lab, 1, [0.4], 0.01)
        got = decide(new, base, lab.session(base, new), decision_config(policy=policy))
        assert got.action == "keep"
        assert got.p_real is not None
        assert got.p_real > 0.99
        assert got.noise == pytest.approx(0.01, rel=0.01)


def test_what_changes_nothing_is_no_gain(lab, decision_config):
    base, new = by_cases(lab, 0, [0.5, 0.5, 0.5]), by_cases(lab, 1, [0.5])
    got = decide(new, base, lab.session(base, new), decision_config())
    assert (got.action, got.reason) == ("discard", "no_gain")


def test_a_gain_within_the_cases_is_not_believed(lab, decision_config):
    base, new = by_cases(lab, 0, [0.5, 0.5, 0.5]), by_cases(lab, 1, [0.493], 0.01)
    got = decide(new, base, lab.session(base, new), decision_config(policy="strict"))
    assert got.action != "keep"
    assert got.p_real is not None
    assert got.p_real < 0.6


def test_luck_of_cases_is_seldom_kept(lab, decision_config):
    """Two hundred changes that shift single cases up and down and are worth nothing."""
    draw, num_kept = random.Random(3), 0
    base = by_cases(lab, 0, [0.5, 0.5, 0.5])
    config = decision_config()
    for _ in range(200):
        trials = []
        for index in range(2):
            cases = [draw.gauss(0, 0.05) for _ in range(NUM)]
            one = by_cases(lab, 1, [0.5 + fmean(cases)], stdev(cases) / NUM**0.5).trials[0]
            seed = lab.trial(0.0, index).result.seed
            trials.append(replace(one, result=replace(one.result, seed=seed)))
            new = replace(lab.experiment(1, [0.5]), trials=tuple(trials))
            action = decide(new, base, lab.session(base, new), config).action
            if action != "retest":
                num_kept += action == "keep"
                break
    assert num_kept < 10


def test_the_anchor_is_the_level_without_its_luck(lab, decision_config):
    base = by_cases(lab, 0, [0.5, 0.5, 0.5])
    kept = by_cases(lab, 1, [0.47], 0.01, verdict=Verdict.KEEP)
    kept = replace(kept, decision=decide(kept, base, lab.session(base), decision_config()))
    session = lab.session(base, kept, best=1)
    anchor = anchor_of(session, kept, decision_config())
    assert anchor is not None
    assert 0.47 < anchor < 0.49
    measured = anchor_of(session, kept, decision_config(policy="greedy"))
    assert measured == kept.score_under(lab.setup.key)


def test_noise_counts_the_cases(lab):
    base = by_cases(lab, 0, [0.5, 0.5, 0.5], 0.02)
    assert measure_noise(lab.session(base)).sd == pytest.approx(0.02, rel=0.02)


def test_a_jump_of_1_is_never_implausible(lab, decision_config):
    base, new = by_cases(lab, 0, [0.5, 0.5, 0.5]), by_cases(lab, 1, [0.0], 0.001)
    got = decide(new, base, lab.session(base, new), decision_config())
    assert is_implausible(got, base, lab.setup.key, 0.1)
    assert not is_implausible(got, base, lab.setup.key, 1.0)


def test_a_trial_that_ran_beside_its_reference_is_a_pair(lab):
    del lab
    ours = [TrialResult(seed=s, outcome=Outcome.OK, score=1.0 + s) for s in range(3)]
    theirs = [replace(t, score=(t.score or 0) - 0.5) for t in ours]
    beside = [replace(t, extra={REFERENCE_SCORE: 7.0}) for t in theirs]
    assert paired(ours, theirs) == [(1.0, 0.5), (2.0, 1.5), (3.0, 2.5)]
    assert paired(ours, beside) == [(7.0, 0.5), (7.0, 1.5), (7.0, 2.5)]
    assert paired(beside, ours) == [(0.5, 7.0), (1.5, 7.0), (2.5, 7.0)]
