"""The posterior against slow, independent computations, and properties that hold for any numbers."""

import math
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.decision.normal import cut_normal, log_cdf
from autoresearch.decision.posterior import (
    DISASTER_SHARE,
    Rows,
    default_prior,
    effect_posterior,
    noise_grid,
    start,
)

NORMAL = NormalDist()


def rows(scores, seeds=(-1,), audit=0.0, num_columns=1):
    """Rows that hold the level, which is the first column, and the luck of the seeds that have one."""
    scores = np.asarray(scores, float)
    design = np.zeros((len(seeds), num_columns))
    design[:, 0] = 1
    for i, seed in enumerate(seeds):
        if seed >= 0:
            design[i, 1 + seed] = 1
    return Rows(scores, design, np.array(seeds) >= 0, np.full(scores.shape, audit))


def knowledge(scores, rho=0.0, seeds=(0, 1, 2), num_seeds=4):
    scores = np.array(scores, float)
    squares = ((scores - scores.mean()) ** 2).sum()
    counted = (np.array(squares), np.array(len(scores) - 1.0), scores[0])
    grid = noise_grid(*counted, correlations=((rho, 1.0),))
    known = start(grid)
    known = known.added(scores[0], known.flat())
    for _ in range(num_seeds):
        known = known.added(0.0, (grid.correlation * grid.sigma**2)[:, None])
    return known.observe(rows(scores, seeds[: len(scores)], num_columns=1 + num_seeds))


def level(known):
    return float(known.moments(0)[0])


def one(known, score, seed=-1, audit=0.0):
    """What a single trial of a candidate says."""
    return known.effect(rows([score], (seed,), audit, known.mean.shape[-1]))


def absorbed(known, score, *, is_kept):
    trial = rows([score], num_columns=known.mean.shape[-1])
    return known.absorb(trial, known.effect(trial), is_kept)


def test_tails_of_the_normal():
    xs = np.concatenate([np.linspace(-29, 8, 2001), [-35.0, -60.0]])
    for x, log, (shift, spread) in zip(
        xs, log_cdf(xs), np.transpose(cut_normal(xs)[1:]), strict=True
    ):
        if x > -20:
            p = 0.5 * math.erfc(-x / math.sqrt(2))
            ratio = math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi) / p
            assert log == pytest.approx(math.log(p), abs=2e-5)
            assert shift == pytest.approx(ratio, rel=1e-4, abs=1e-9)
        assert shift >= -x
        assert 0 < spread <= 1.0 + 1e-9


@pytest.mark.parametrize("measured", [-0.004, -0.0007, 0.0, 0.0003, 0.005])
def test_effect_agrees_with_integration(measured):
    """Sum over a fine grid of effects, one node: the closed form must give the same."""
    grid = noise_grid(np.array(0.0), np.array(0.0), np.array(1.0))
    prior = default_prior(grid)
    node, sd = 4, 0.0006
    shape = (1, prior.log_gain.shape[-1])
    weight = np.full(shape, -np.inf)
    weight[0, node] = 0.0
    scale = float(prior.gain_mean[0, node])
    harm_scale = float(prior.harm_mean[0, node])
    effect = effect_posterior(np.full(shape, measured), np.full(shape, sd**2), prior, weight)
    step = 1e-6
    size = np.arange(step / 2, 0.05, step)
    gain, harm = np.exp(prior.log_gain[node]), np.exp(prior.log_harm[node])
    null = math.exp(prior.log_null[node])

    def likelihood(x):
        return np.exp(-0.5 * ((measured - x) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))

    below = gain / scale * np.exp(-size / scale) * likelihood(-size) * step
    above = harm / harm_scale * np.exp(-size / harm_scale) * likelihood(size) * step
    above = above + DISASTER_SHARE / float(prior.disaster_mean[0, 0]) * likelihood(size) * step
    at = null * float(likelihood(0.0))
    total = below.sum() + above.sum() + at
    assert float(effect.below(0.0)) == pytest.approx(below.sum() / total, abs=2e-4)
    mean = ((size * above).sum() - (size * below).sum()) / total
    assert float(effect.mean) == pytest.approx(mean, abs=2e-6)
    assert effect.log_first[0, node] == pytest.approx(math.log(total), abs=1e-3)
    x = -0.0004
    assert float(effect.below(x)) == pytest.approx(below[size > -x].sum() / total, abs=1e-3)


def test_level_agrees_with_the_textbook():
    known = knowledge([1.0, 1.002, 1.001])
    assert level(known) == pytest.approx(1.001, abs=1e-5)
    sigma = known.grid.sigma
    assert known.cov[:, 0, 0, 0] == pytest.approx(sigma**2 / 3, rel=0.01)


def test_noise_weights_are_the_chi_square_likelihood():
    scores = np.array([1.0, 1.0006, 0.9997])
    known = knowledge(scores)
    squares = ((scores - scores.mean()) ** 2).sum()
    sigma = known.grid.sigma
    logs = known.grid.log_prior - 2 * np.log(sigma) - squares / (2 * sigma**2)
    logs -= logs.max()
    want = np.exp(logs) / np.exp(logs).sum()
    got = np.exp(known.log_weight).sum(axis=-1)
    assert got == pytest.approx(want, abs=0.01)


def test_common_luck_cancels_on_the_same_seed():
    """With all luck in the seed, a candidate on the baseline's seed is known sharply; on a new one it is not."""
    known = knowledge([1.0, 1.002, 0.998], rho=0.9)
    same, fresh = one(known, 0.999, 0), one(known, 0.999, 3)
    assert np.all(same.variance < fresh.variance)


def test_order_of_own_trials_does_not_matter():
    first, second = knowledge([1.0, 1.002, 0.998]), knowledge([0.998, 1.0, 1.002])
    assert level(first) == pytest.approx(level(second), abs=2e-6)
    assert float(first.noise) == pytest.approx(float(second.noise), rel=0.01)


def test_sessions_side_by_side_are_sessions_alone():
    """What the bench does with thousands is what `decide` does with one."""
    scores = np.array([[1.0, 1.0005, 0.9998], [2.0, 2.01, 1.99]])
    squares = ((scores - scores.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    grid = noise_grid(squares, np.array([2.0, 2.0]), scores[:, 0], ((0.0, 1.0),))
    both = start(grid)
    both = both.added(scores[:, 0][:, None, None], both.flat()).observe(rows(scores, (-1, -1, -1)))
    new = rows([[0.9990], [1.98]])
    effect = both.effect(new)
    both = both.absorb(new, effect, np.array([1.0, 0.0]))
    for i in range(2):
        alone = knowledge(scores[i], seeds=(-1, -1, -1), num_seeds=0)
        its = one(alone, float(new.scores[i, 0]))
        assert float(its.below(0.0)) == pytest.approx(float(effect.below(0.0)[i]), abs=1e-9)
        alone = absorbed(alone, float(new.scores[i, 0]), is_kept=i == 0)
        assert level(alone) == pytest.approx(float(both.moments(0)[0][i]), abs=1e-9)


def test_nodes_follow_the_noise():
    """From nodes placed before any repeat to where many say it is: as if they had been placed there at once."""
    scores = 2.5 + 0.02 * np.random.default_rng(1).standard_normal(30)
    known = start(noise_grid(np.array(0.0), np.array(0.0), scores[0]))
    known = known.added(scores[0], known.flat())
    for score in scores:
        known = known.observe(rows([score])).replaced()
    squares = ((scores - scores.mean()) ** 2).sum()
    want = noise_grid(squares, np.array(29.0), scores[0])
    assert float(known.noise) == pytest.approx(float(want.centre), rel=0.03)
    assert known.noise_quantile(0.95) / known.noise_quantile(0.05) < 1.7
    assert level(known) == pytest.approx(scores.mean(), abs=1e-4)
    sd = float(known.moments(0)[1])
    assert sd == pytest.approx(0.02 / math.sqrt(30), rel=0.3)


def test_repeats_show_whether_luck_belongs_to_the_seed():
    chance = np.random.default_rng(2)

    def weight_of_shared(share):
        known = start(noise_grid(np.array(0.0), np.array(0.0), 1.0))
        luck = math.sqrt(share) * chance.standard_normal(4)
        for _ in range(4):
            known = known.added(0.0, (known.grid.correlation * known.grid.sigma**2)[:, None])
        for n in range(30):
            known = known.added(1.0, known.flat())
            scores = 1 + 0.001 * (luck[:2] + math.sqrt(1 - share) * chance.standard_normal(2))
            design = np.zeros((2, 5 + n))
            design[:, 4 + n] = design[0, 0] = design[1, 1] = 1
            trial = Rows(scores, design, np.array([True, True]), np.zeros(2))
            known = known.observe(trial).replaced()
        return np.exp(known.log_weight).sum(axis=-1)[known.grid.correlation > 0].sum()

    assert weight_of_shared(0.0) < 0.2 < 0.8 < weight_of_shared(0.8)


finite = st.floats(-0.02, 0.02)
noises = st.floats(1e-4, 3e-3)


@settings(max_examples=60, deadline=None)
@given(finite, noises, st.floats(0, 1))
def test_probability_falls_as_the_score_rises(score, noise, rho):
    known = knowledge([1.0, 1.0 + noise, 1.0 - noise], rho=0.8 * rho)
    p = [
        float(one(known, 1 + score + step, 0).below(0.0))
        for step in (0.0, 0.1 * noise, noise, 5 * noise)
    ]
    assert all(0 <= x <= 1 for x in p)
    assert all(a >= b - 1e-6 for a, b in pairwise(p))


@settings(max_examples=60, deadline=None)
@given(finite, noises)
def test_estimate_is_shrunk_and_inside_its_interval(score, noise):
    effect = one(knowledge([1.0, 1.0 + noise, 1.0 - noise]), 1 + score, 0)
    low, high = effect.quantile(0.05), effect.quantile(0.95)
    assert low <= high
    assert low - 1e-9 <= float(effect.mean) <= high + 1e-9
    assert float(effect.mean) >= min(score, 0) - 1e-6
    for x in (low, high):
        assert 0 <= float(effect.below(x)) <= 1


@settings(max_examples=40, deadline=None)
@given(st.floats(-0.01, -0.0001), noises)
def test_a_kept_draw_is_never_taken_at_its_face(score, noise):
    """No ratchet: the new level is never below what was measured, and above the old one only if it is worse."""
    known = knowledge([1.0, 1.0 + noise, 1.0 - noise])
    highest = level(known) + max(float(one(known, 1 + score).mean), 0.0)
    after = absorbed(known, 1 + score, is_kept=True)
    assert 1 + score - 1e-6 <= level(after) <= highest + 1e-6


@settings(max_examples=40, deadline=None)
@given(st.floats(-0.01, -0.0001), noises)
def test_a_keep_beside_its_parent_is_a_keep_in_its_place(score, noise):
    """Whether the parent's level stays in the state changes nothing of the new one."""
    known = knowledge([1.0, 1.0 + noise, 1.0 - noise])
    instead = absorbed(known, 1 + score, is_kept=True)
    width = known.mean.shape[-1]
    beside = known.taken([*range(width), 0])
    trial = rows([1 + score], num_columns=width + 1)
    beside = beside.absorb(trial, known.effect(rows([1 + score], num_columns=width)), True, width)
    assert [float(x) for x in beside.moments(width)] == pytest.approx(
        [float(x) for x in instead.moments(0)], rel=1e-6
    )
    discarded = absorbed(known, 1 + score, is_kept=False)
    assert float(beside.moments(0)[0]) == pytest.approx(level(discarded), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-0.5, 0.0), min_size=4, max_size=20), noises)
def test_discards_that_measure_lower_lower_the_level(lower, noise):
    known = knowledge([1.0, 1.0 + noise, 1.0 - noise])
    before = level(known)
    for share in lower:
        known = absorbed(known, 1 + share * noise, is_kept=False)
    assert before - noise < level(known) < before
    assert np.all(np.linalg.eigvalsh(known.cov) > -1e-12)


@settings(max_examples=30, deadline=None)
@given(st.floats(-0.01, 0.01), noises, st.floats(1e-3, 1e3))
def test_another_unit_of_the_score_changes_no_probability(score, noise, unit):
    found = []
    for factor in (1.0, unit):
        known = knowledge([factor * s for s in (1.0, 1.0 + noise, 1.0 - noise)], rho=0.3)
        effect = one(known, factor * (1 + score), 0)
        found.append((float(effect.below(0.0)), float(effect.mean) / factor))
    assert found[0] == pytest.approx(found[1], rel=1e-4, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.floats(-0.01, 0.01), noises, st.floats(0, 0.005))
def test_audit_error_never_makes_surer(score, noise, score_se):
    known = knowledge([1.0, 1.0 + noise, 1.0 - noise])
    sharp, blurred = one(known, 1 + score, 0), one(known, 1 + score, 0, score_se**2)
    assert np.all(blurred.variance >= sharp.variance)
