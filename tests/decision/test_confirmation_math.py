"""Planning and analysis of a confirmation."""

import math

import numpy as np
import pytest

from autoresearch.config import load_config
from autoresearch.decision.confirmation import (
    EARLY_LEVEL,
    affordable_pairs,
    confirm,
    confirmation_reserve_seconds,
    is_apart,
    is_settled,
    level_at,
    p_carries,
)
from autoresearch.types import Decision, Outcome, Question, TrialResult
from autoresearch.util.stats import student_cdf, student_quantile


def results(scores, split="test"):
    return [
        TrialResult(
            seed=i, outcome=Outcome.OK if s is not None else Outcome.CRASH, score=s, split=split
        )
        for i, s in enumerate(scores)
    ]


def compare(a, b, **changes):
    question = Question(reference=0, candidate=7, budget_seconds=300.0, **changes)
    return confirm(results(a), results(b), question, setup="s", at="2026-01-01T00:00:00Z")


def test_student_table():
    # Standard table, two-sided 95 %.
    for degrees, t in ((1, 12.7062), (3, 3.1824), (6, 2.4469), (30, 2.0423)):
        assert student_quantile(0.975, degrees) == pytest.approx(t, abs=1e-4)
        assert student_cdf(t, degrees) == pytest.approx(0.975, abs=1e-5)
        assert student_cdf(-t, degrees) == pytest.approx(0.025, abs=1e-5)


def test_known_difference():
    got = compare([1.0, 1.1, 1.2, 1.3], [0.9, 1.02, 1.08, 1.2])
    assert got.delta == pytest.approx(-0.1)
    # Differences -0.10, -0.08, -0.12, -0.10: sd 0.016330, standard error 0.008165.
    assert got.high - got.delta == pytest.approx(3.18245 * 0.0081650, rel=1e-4)
    assert got.p_real > 0.99
    assert (got.num_trials, got.split) == (4, "test")


def test_a_failed_trial_leaves_with_its_partner():
    got = compare([1.0, None, 1.2, 1.3], [0.9, 0.1, 1.08, 1.2])
    assert got.num_trials == 3
    assert got.reference_score == pytest.approx(3.5 / 3)


def test_one_pair_is_no_confirmation():
    with pytest.raises(ValueError, match="two pairs"):
        compare([1.0, None], [0.9, 0.8])


def test_splits_are_not_mixed():
    with pytest.raises(ValueError, match="different splits"):
        confirm(
            results([1.0, 1.1]),
            results([1.0, 1.1], "validation"),
            Question(reference=0, candidate=1, budget_seconds=1),
            setup="s",
            at="",
        )


def test_identical_trials_prove_nothing():
    got = compare([1.0, 1.0], [1.0, 1.0])
    assert (got.delta, got.low, got.high, got.p_real) == (0, 0, 0, 0.5)


def test_it_ends_once_the_answer_is_clear():
    clear, blurred = [-0.010, -0.0101, -0.0099, -0.01], [-0.01, 0.01, -0.02, 0.015]

    def after(deltas, planned):
        return is_settled(results([1.0] * len(deltas)), results([1 + d for d in deltas]), planned)

    assert [after(clear[:n], 8) for n in (1, 2, 3, 4)] == [False, False, True, True]
    assert not after(clear, 4), "it is over anyway"
    assert not after(blurred, 8)
    assert after([0.01, 0.0101, 0.0099], 8), "also where it is clearly worse"
    assert not after([0.0, 0.0, 0.0], 8)


def test_the_interval_is_that_of_the_look_at_which_it_ended():
    def interval(deltas, planned):
        found = confirm(
            results([1.0] * len(deltas)),
            results([1 + d for d in deltas]),
            Question(reference=0, candidate=7, budget_seconds=1.0),
            setup="s",
            at="",
            planned=planned,
        )
        return found.high - found.delta

    deltas = [-0.010, -0.0101, -0.0099]
    plain = interval(deltas, 0)
    assert interval(deltas, 3) == pytest.approx(plain)
    assert interval(deltas, 8) / plain == pytest.approx(
        student_quantile(1 - EARLY_LEVEL / 2, 2) / student_quantile(0.975, 2)
    )
    # The time was over, and nothing of the scores ended it.
    blurred = [-0.01, 0.01, -0.02]
    assert interval(blurred, 8) == pytest.approx(interval(blurred, 0))


def test_all_looks_together_err_in_one_of_twenty():
    chance = np.random.default_rng(0)
    for planned in (4, 8):
        luck = chance.standard_normal((20_000, planned))
        is_wrong = np.zeros(len(luck), bool)
        for n in range(2, planned + 1):
            level = level_at(n, planned)
            if level:
                part = luck[:, :n]
                error = part.std(axis=1, ddof=1) / math.sqrt(n)
                is_wrong |= (
                    np.abs(part.mean(axis=1)) > student_quantile(1 - level / 2, n - 1) * error
                )
        assert 0.045 < is_wrong.mean() < 0.055


def test_a_pair_at_two_paces_is_apart():
    def at(others, stolen=0.0):
        load = {"stolen": stolen, "others": others}
        return TrialResult(seed=1, outcome=Outcome.OK, score=1.0, extra={"load": load})

    assert not is_apart(at(0.1), at(0.11))
    assert is_apart(at(0.1), at(0.2))
    assert is_apart(at(0.1), at(0.1, 0.05))


def test_a_change_left_out_is_judged_by_both_validation_and_test():
    kept = Decision("keep", "gain", p_real=0.6, estimate=-0.006)

    def after(*deltas):
        found = compare([1.0] * len(deltas), [1.0 + d for d in deltas], kind="each")
        return p_carries(found, kept)

    assert after(-0.011, -0.009, -0.010, -0.0102) > 0.95
    assert after(0.0005, -0.0004, 0.0001, 0.0002) < 0.1
    assert after(0.009, 0.011, 0.010, 0.0103) < 0.1
    # Too blurred to say anything: it stays about where it was.
    assert after(0.3, -0.5, 0.4, 0.1) == pytest.approx(0.6, abs=0.05)
    found = compare([1.0, 1.0, 1.0], [1.001, 0.999, 1.0002], kind="each")
    for other in (None, Decision("keep", "simpler", p_real=0.4, estimate=-0.001)):
        assert p_carries(found, other) is None


def test_reserve_is_the_smaller_of_share_and_need():
    settings = load_config(None).config.session
    assert confirmation_reserve_seconds(settings, 10.0, 3600.0) == 80.0
    assert confirmation_reserve_seconds(settings, 100.0, 3600.0) == 540.0
    assert confirmation_reserve_seconds(settings, 360.0, 0.0) == 2880.0
    # Two pairs do not fit into the share: nothing is kept free for half an answer.
    assert confirmation_reserve_seconds(settings, 360.0, 3600.0) == 0.0
    assert affordable_pairs(540.0, 100.0, 4) == 2
    assert affordable_pairs(None, 100.0, 4) == 4
