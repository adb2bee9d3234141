"""What rests on the whole session: sentinels, marks, hopeless trials."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from autoresearch.decision import rule
from autoresearch.decision.posterior import default_prior, noise_grid
from autoresearch.decision.replay import estimates
from autoresearch.decision.rule import decide, is_sentinel_due, keep_threshold
from autoresearch.decision.scores import MOST_GAIN
from autoresearch.decision.throughput import Watch, collapse, killed, speed_mark
from autoresearch.events import Progress
from autoresearch.types import Decision, Outcome, Reason, TrialResult, Verdict

BASE = (1.0000, 1.0004, 0.9996)


def at(experiment, *times, judged=""):
    trials = tuple(replace(t, started_at=s) for t, s in zip(experiment.trials, times, strict=True))
    return replace(experiment, trials=trials, judged_at=judged)


def hour(n):
    return f"2026-01-01T{n:02d}:00:00Z"


def test_sentinel_after_so_many_experiments(lab, monkeypatch):
    base = at(lab.experiment(0, BASE), hour(0), hour(0), hour(0))
    tried = [at(lab.experiment(i, [1.001], verdict=Verdict.DISCARD), hour(i)) for i in range(1, 6)]
    monkeypatch.setattr(rule, "SENTINEL_EVERY", 5)
    assert not is_sentinel_due(lab.session(base, *tried[:4]))
    assert is_sentinel_due(lab.session(base, *tried))
    again = at(lab.experiment(0, (*BASE, 1.0)), hour(0), hour(0), hour(0), hour(6))
    assert not is_sentinel_due(lab.session(again, *tried))
    assert not is_sentinel_due(lab.session())


def test_sentinel_after_two_odd_speeds(lab):
    base = at(lab.experiment(0, BASE), hour(0), hour(0), hour(0))
    mark = Decision("discard", "no_gain", mark="tokens/s -5.0%")
    tried = [
        replace(at(lab.experiment(i, [1.001], verdict=Verdict.DISCARD), hour(i)), decision=mark)
        for i in (1, 2)
    ]
    assert not is_sentinel_due(lab.session(base, tried[0]))
    assert is_sentinel_due(lab.session(base, *tried))
    calm = replace(tried[1], decision=Decision("discard", "no_gain"))
    assert not is_sentinel_due(lab.session(base, tried[0], calm))


def test_a_sentinel_that_drifted_moves_what_candidates_must_beat(lab, decision_config):
    base = at(lab.experiment(0, BASE), hour(0), hour(0), hour(0), judged=hour(1))
    moved = at(lab.experiment(0, (*BASE, 1.02)), hour(0), hour(0), hour(0), hour(5), judged=hour(1))
    before = keep_threshold(lab.session(base), decision_config())
    after = keep_threshold(lab.session(moved), decision_config())
    assert after > before + 0.015
    assert estimates(lab.session(moved))[0].level == pytest.approx(1.02, abs=0.001)


def test_the_verdict_says_which_trials_it_rests_on(lab):
    base = lab.experiment(0, (*BASE, 1.02), decision=Decision("keep", "baseline", num_trials=3))
    assert estimates(lab.session(base))[0].level == pytest.approx(1.02, abs=0.001)
    together = lab.experiment(0, (*BASE, 1.02), decision=Decision("keep", "baseline", num_trials=4))
    assert estimates(lab.session(together))[0].level == pytest.approx(1.005, abs=0.001)


def test_a_measured_tip_is_a_level_not_an_idea(lab, decision_config):
    base = lab.experiment(0, BASE)
    tip = lab.experiment(1, [1.004], verdict=Verdict.KEEP, proposer="human", parent="c1")
    new = lab.experiment(2, [1.0032], parent="c1")
    got = decide(new, tip, lab.session(base, tip, new, best=1), decision_config(policy="greedy"))
    assert got.action == "keep"
    assert got.p_real > 0.2
    assert got.estimate < 0.0005


def test_a_proposal_that_waited_is_weighed_against_the_tip_measured_meanwhile(lab, decision_config):
    base = lab.experiment(0, BASE)
    tip = lab.experiment(3, [1.02], verdict=Verdict.KEEP, proposer="human", parent="c3")
    first = lab.experiment(1, [1.016], verdict=Verdict.KEEP, parent="c3")
    second = lab.experiment(2, [1.017], verdict=Verdict.DISCARD, parent="c1")
    session = lab.session(base, first, second, tip, best=1)
    found = estimates(session)
    assert found[1].effect == pytest.approx(-0.004, abs=0.001)
    assert found[2].effect > 0, "it came after the first, and is weighed against that"
    assert found[1].level == pytest.approx(1.016, abs=0.001)
    assert keep_threshold(session, decision_config()) < 1.018


def with_speed(experiment, tokens_per_second, **more):
    trials = tuple(
        replace(
            t,
            result=replace(
                t.result,
                tokens_per_second=tokens_per_second * (1 + 0.001 * i),
                num_params=10,
                num_tokens=800,
                num_steps=8,
                **more,
            ),
        )
        for i, t in enumerate(experiment.trials)
    )
    return replace(experiment, trials=trials)


def test_a_speed_without_cause_is_marked(lab, decision_config):
    base = with_speed(lab.experiment(0, BASE), 1000.0)
    slow = with_speed(lab.experiment(1, [1.003]), 960.0)
    assert "-4." in speed_mark(slow, base, lab.setup.key)
    assert decide(slow, base, lab.session(base, slow), decision_config()).mark
    usual = with_speed(lab.experiment(1, [1.003]), 998.0)
    assert speed_mark(usual, base, lab.setup.key) == ""
    larger = with_speed(lab.experiment(1, [1.003]), 960.0)
    larger = replace(
        larger,
        trials=tuple(replace(t, result=replace(t.result, num_params=12)) for t in larger.trials),
    )
    assert speed_mark(larger, base, lab.setup.key) == ""


def test_noisy_machines_tolerate_more(lab):
    base = lab.experiment(0, BASE)
    speeds = (1000.0, 1050.0, 980.0)
    base = replace(
        base,
        trials=tuple(
            replace(t, result=replace(t.result, tokens_per_second=s))
            for t, s in zip(base.trials, speeds, strict=True)
        ),
    )
    other = lab.experiment(1, [1.0])
    other = replace(
        other,
        trials=(
            replace(
                other.trials[0], result=replace(other.trials[0].result, tokens_per_second=930.0)
            ),
        ),
    )
    assert speed_mark(other, base, lab.setup.key) == ""


def training(seconds, tokens, phase="train"):
    return Progress(
        number=1, label="1-0", phase=phase, seconds=seconds, budget_seconds=100.0, num_tokens=tokens
    )


def test_collapse_of_throughput_ends_a_trial():
    kill = collapse(training(20.0, 2000), 1000.0)
    assert kill is not None
    assert kill.reason == "slow"
    assert kill.seconds_saved == 80.0
    result = killed(TrialResult(1, Outcome.TAINTED, "stopped"), kill)
    assert (result.outcome, result.reason, result.score) == (Outcome.TAINTED, "slow", None)
    assert result.tokens_per_second == 100.0
    assert result.detail.endswith("20% of the budget; 80 s saved")


def test_a_watch_stops_its_trial_only():
    session_stop = threading.Event()
    watch = Watch(session_stop, 1000.0)
    watch.hear(training(20.0, 19000))
    assert not watch.stop.is_set()
    watch.hear(training(30.0, 2000))
    assert watch.stop.is_set()
    assert not session_stop.is_set()
    stopped = TrialResult(1, Outcome.TAINTED, "stopped")
    assert watch.settle(stopped).reason == "slow"
    assert watch.settle(TrialResult(1, Outcome.OK, score=1.0)).ok
    session_stop.set()
    assert watch.settle(stopped) is stopped
    assert Watch(session_stop, None).stop.is_set()


@pytest.mark.parametrize(
    ("progress", "reference"),
    [
        (training(10.0, 100), 1000.0),
        (training(20.0, 8000), 1000.0),
        (training(20.0, 2000), None),
        (training(20.0, 0, "startup"), 1000.0),
    ],
)
def test_what_is_not_a_collapse(progress, reference):
    assert collapse(progress, reference) is None


def test_a_gain_is_implausible_beyond_the_prior_and_the_setting(lab):
    base = lab.experiment(0, BASE)
    for delta, noise, jump, expected in (
        (-0.09, 0.001, 0.1, False),
        (-0.11, 0.001, 0.1, True),
        (-0.11, 0.002, 0.1, False),  # 75 times the noise is more
        (-0.16, 0.002, 0.1, True),
        (-0.99, 0.001, 1.0, False),
        (0.5, 0.001, 0.1, False),
    ):
        decision = Decision("keep", "gain", delta=delta, noise=noise)
        assert rule.is_implausible(decision, base, lab.setup.key, jump) is expected


def test_the_prior_hardly_knows_gains_beyond_the_implausible():
    grid = noise_grid(*map(np.array, (0.0, 0.0, 0.0, 1.0)))
    prior = default_prior(grid)
    weight = np.exp(prior.log_weight + prior.log_gain)
    tail = np.exp(-MOST_GAIN * grid.centre / prior.gain_mean[0])
    assert 5e-5 < float(np.sum(weight * tail) / np.sum(weight)) < 1e-4


def test_a_held_keep_stands_after_all_that_was_tried_meanwhile(lab):
    """Its number is low, and what came after it was compared with the incumbent of before."""
    base = lab.experiment(0, BASE)
    leap = lab.experiment(1, [0.8, 0.8], verdict=Verdict.KEEP, is_approved=True)
    meanwhile = [lab.experiment(i, [1.001], verdict=Verdict.DISCARD) for i in (2, 3)]
    after = lab.experiment(4, [0.801], verdict=Verdict.DISCARD, parent="c1")
    found = estimates(lab.session(base, leap, *meanwhile, after, best=1))
    assert found[1].level == pytest.approx(0.8, abs=0.002)
    assert all(abs(found[i].effect) < 0.003 for i in (2, 3, 4))


def test_what_was_held_or_rejected_teaches_nothing(lab):
    base = lab.experiment(0, BASE)
    for changes in (
        {"verdict": Verdict.HELD},
        {"verdict": Verdict.DISCARD, "reason": Reason.REJECTED},
    ):
        leap = lab.experiment(1, [0.5], **changes)
        assert estimates(lab.session(base, leap)) == estimates(lab.session(base))
