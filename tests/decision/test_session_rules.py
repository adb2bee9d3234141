"""What rests on the whole session: sentinels, marks, hopeless trials."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from autoresearch.decision import rule
from autoresearch.decision.belief import (
    LIVE,
    believe,
    estimates,
    load,
    measure_noise,
    remember,
    row_of,
)
from autoresearch.decision.posterior import default_prior, noise_grid
from autoresearch.decision.rule import decide, is_sentinel_due, keep_threshold
from autoresearch.decision.scores import MOST_GAIN
from autoresearch.decision.throughput import Watch, collapse, killed, speed_mark
from autoresearch.events import Progress
from autoresearch.types import Decision, Outcome, Reason, State, TrialResult, Verdict

BASE = (1.0000, 1.0004, 0.9996)


def idea(lab, number, score=1.001, **changes):
    return lab.experiment(number, [score], verdict=Verdict.DISCARD, setup=lab.setup.key, **changes)


def with_later(lab, experiment, *scores, place=None):
    """The experiment with trials that ran after all that stands in the session."""
    place = lab.later if place is None else place
    more = [lab.trial(score, 5 + i, place=place + i) for i, score in enumerate(scores)]
    return replace(experiment, trials=(*experiment.trials, *more))


def test_sentinel_after_so_many_experiments(lab, monkeypatch):
    base = lab.experiment(0, BASE)
    tried = [idea(lab, i) for i in range(1, 6)]
    monkeypatch.setattr(rule, "SENTINEL_EVERY", 5)
    assert not is_sentinel_due(lab.session(base, *tried[:4]))
    assert is_sentinel_due(lab.session(base, *tried))
    assert not is_sentinel_due(lab.session(with_later(lab, base, 1.0), *tried))
    assert not is_sentinel_due(lab.session())


def test_sentinel_after_two_odd_speeds(lab):
    base = lab.experiment(0, BASE)
    mark = Decision("discard", "no_gain", mark="tokens/s -5.0%")
    tried = [idea(lab, i, decision=mark) for i in (1, 2)]
    assert not is_sentinel_due(lab.session(base, tried[0]))
    assert is_sentinel_due(lab.session(base, *tried))
    calm = replace(tried[1], decision=Decision("discard", "no_gain"))
    assert not is_sentinel_due(lab.session(base, tried[0], calm))


def test_a_machine_that_moved_moves_what_candidates_must_beat_and_no_level(lab, decision_config):
    base, moved = lab.experiment(0, BASE), with_later(lab, lab.experiment(0, BASE), 1.02)
    before = keep_threshold(lab.session(base), decision_config())
    after = keep_threshold(lab.session(moved), decision_config())
    assert after > before + 0.015
    assert estimates(lab.session(moved))[0].level == pytest.approx(1.0, abs=0.001)
    now = measure_noise(lab.session(moved)).sd
    assert now == pytest.approx(measure_noise(lab.session(base)).sd, rel=0.02)


def test_a_later_trial_that_fits_sharpens_the_level(lab):
    base, again = lab.experiment(0, BASE), with_later(lab, lab.experiment(0, BASE), 1.0003)
    before, after = (estimates(lab.session(e))[0] for e in (base, again))
    assert after.level == pytest.approx(1.0001, abs=2e-4)
    assert after.level_sd < before.level_sd


def test_a_machine_that_came_back_leaves_all_as_it_was(lab, decision_config):
    base = with_later(lab, lab.experiment(0, BASE), 1.02, 1.0201, 1.0199, 1.0002)
    plain = with_later(lab, lab.experiment(0, BASE), 1.0002)
    ours, theirs = (keep_threshold(lab.session(e), decision_config()) for e in (base, plain))
    assert ours == pytest.approx(theirs, abs=0.0005)


def test_a_keep_on_a_slow_machine_has_its_level_at_the_usual_pace(lab, decision_config):
    base = with_later(lab, lab.experiment(0, BASE), 1.02, 1.02, place=10)
    new = placed(lab, lab.experiment(1, [1.01], verdict=Verdict.KEEP), 20)
    known = estimates(lab.session(base, new, best=1))
    assert known[1].effect == pytest.approx(-0.01, abs=0.002)
    assert known[1].level == pytest.approx(0.99, abs=0.002)


def test_trials_before_the_verdict_are_repeats(lab):
    together = lab.experiment(0, (*BASE, 1.02))
    assert estimates(lab.session(together))[0].level == pytest.approx(1.005, abs=0.001)


def test_a_measured_tip_is_a_level_not_an_idea(lab, decision_config):
    base = lab.experiment(0, BASE)
    tip = lab.experiment(1, [1.004], verdict=Verdict.KEEP, proposer="human", parent="c1")
    new = lab.experiment(2, [1.0032], parent="c1")
    got = decide(new, tip, lab.session(base, tip, new, best=1), decision_config(policy="greedy"))
    assert got.action == "keep"
    assert got.p_real > 0.2
    assert got.estimate < 0.0005


def placed(lab, experiment, place):
    """The experiment with one trial at a place of the journal, and its verdict after it."""
    trials = tuple(replace(t, place=place) for t in experiment.trials)
    return replace(experiment, trials=trials, judged_place=place + 1)


def test_order_is_the_journals_and_each_idea_is_weighed_against_its_own_parent(lab):
    """Ideas 1 to 3 waited while the tip, 4, was measured; 2 was made from what 1 was kept as, 3 still from the tip."""
    base = lab.experiment(0, BASE)
    tip = lab.experiment(4, [1.02], verdict=Verdict.KEEP, proposer="human", parent="c4")
    first = lab.experiment(1, [1.01], verdict=Verdict.KEEP, parent="c4")
    second = lab.experiment(2, [1.012], verdict=Verdict.DISCARD, parent="c1")
    third = lab.experiment(3, [1.012], verdict=Verdict.DISCARD, parent="c4")
    experiments = [placed(lab, e, 10 + 10 * i) for i, e in enumerate((tip, first, second, third))]
    found = estimates(lab.session(base, *sorted(experiments, key=lambda e: e.number), best=1))
    assert found[1].effect == pytest.approx(-0.01, abs=0.001)
    assert found[2].effect == pytest.approx(0.002, abs=0.001)
    assert found[3].effect == pytest.approx(-0.008, abs=0.001)
    assert found[1].level == pytest.approx(1.01, abs=0.001)


def test_a_keep_with_a_higher_number_breaks_nothing(lab, decision_config):
    base = lab.experiment(0, BASE)
    late = placed(lab, lab.experiment(9, [0.99], verdict=Verdict.KEEP), 10)
    early = placed(lab, lab.experiment(5, [0.98], verdict=Verdict.KEEP, parent="c9"), 20)
    found = estimates(lab.session(base, early, late, best=5))
    assert found[5].effect == pytest.approx(-0.01, abs=0.001)
    new = lab.experiment(10, [0.9795], parent="c5")
    got = decide(new, early, lab.session(base, early, late, new, best=5), decision_config())
    assert -0.003 < got.estimate < 0


def test_a_revert_returns_to_a_level_as_believed(lab):
    """Its one trial, lucky or not, counts as one more of a program that is known."""
    base = lab.experiment(0, BASE, identity="p0")
    kept = lab.experiment(1, [0.99], verdict=Verdict.KEEP, identity="p1")
    back = {"verdict": Verdict.KEEP, "proposer": "human", "parent": "c2", "identity": "p0"}
    lucky = lab.experiment(2, [0.9988], **back)
    found = estimates(lab.session(base, kept, lucky, best=2))
    assert found[2].level == pytest.approx(0.9997, abs=1e-4)
    unknown = replace(lucky, identity="p2")
    found = estimates(lab.session(base, kept, unknown, best=2))
    assert found[2].level == pytest.approx(0.9988, abs=1e-5)


def test_levels_that_left_the_state_are_known_still(lab):
    base = lab.experiment(0, BASE)
    kept = [
        lab.experiment(i, [1 - 0.01 * i], verdict=Verdict.KEEP, parent=f"c{i - 1}")
        for i in range(1, 12)
    ]
    belief = believe(lab.session(base, *kept, best=11))
    assert sum(name.startswith("level:") for name in belief.columns) == LIVE
    for i in range(12):
        level, sd = belief.level(f"c{i}")
        assert level == pytest.approx(1 - 0.01 * i, abs=0.001)
        assert 0 < sd < 0.002
    old = belief.effect("c2", [row_of(lab.trial(0.97, 0).result)])
    assert float(old.mean) == pytest.approx(-0.01, abs=0.001)


def journal(lab, session, length):
    """The session as it was when its journal had this length, with the shas that a journal has."""
    experiments = []
    for e in session.experiments:
        trials = [replace(t, event=f"e{t.place}") for t in e.trials if t.place <= length]
        is_open = e.judged_place > length
        changes = {"verdict": None, "state": State.RUNNING, "judged_place": 0} if is_open else {}
        if trials:
            experiments.append(replace(e, trials=tuple(trials), **changes))
    return replace(session, experiments=tuple(experiments), journal=f"j{length}")


def a_night(lab):
    base = lab.experiment(0, BASE)
    tried, parent = [], 0
    for i in range(1, 30):
        is_kept = i % 7 == 0
        score = 1 - 0.002 * (i // 7) + 0.0007 * (i % 5)
        verdict = Verdict.KEEP if is_kept else Verdict.DISCARD
        tried.append(lab.experiment(i, [score], verdict=verdict, parent=f"c{parent}"))
        parent = i if is_kept else parent
    moved = with_later(lab, tried[27], 1.03, 1.0301)
    return lab.session(base, *tried[:27], moved, tried[28], best=28)


def test_forward_a_step_at_a_time_is_all_at_once(lab):
    night = a_night(lab)
    whole = believe(replace(night, tag="whole"))
    for length in [*range(1, 64), lab.later, lab.later + 1]:
        found = believe(journal(lab, replace(night, tag="steps"), length))
    assert found.believed() == whole.believed()
    assert np.array_equal(found.known.mean, whole.known.mean)
    assert found.columns == whole.columns
    assert "machine" in found.columns


def test_a_stored_belief_is_read_back_and_continued(lab):
    night = a_night(lab)
    half, full = (journal(lab, replace(night, tag="stored"), n) for n in (30, 2000))
    stored = load(believe(half).dump())
    assert stored is not None
    straight = believe(full)
    remember("stored", stored)
    assert believe(half) is stored
    assert believe(full).believed() == straight.believed()
    damaged = believe(half).dump()
    assert load(damaged[:-40]) is None
    assert load(b"") is None


def test_another_journal_of_the_same_name_is_read_from_its_start(lab):
    night = replace(a_night(lab), tag="other")
    believe(journal(lab, night, 2000))
    base = lab.session(lab.experiment(0, (2.0, 2.1, 1.9)))
    other = replace(journal(lab, replace(base, tag="other"), 4), journal="x")
    trials = tuple(replace(t, event="") for t in other.experiments[0].trials)
    other = replace(other, experiments=(replace(other.experiments[0], trials=trials),))
    assert list(believe(other).believed()) == [0]


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
    grid = noise_grid(*map(np.array, (0.0, 0.0, 1.0)))
    prior = default_prior(grid)
    weight = np.exp(prior.log_weight + prior.log_gain)
    tail = np.exp(-MOST_GAIN * grid.centre / prior.gain_mean[0])
    assert 5e-5 < float(np.sum(weight * tail) / np.sum(weight)) < 1e-4


def test_a_held_keep_stands_after_all_that_was_tried_meanwhile(lab):
    """Its number is low, and what came after it was compared with the incumbent of before."""
    base = lab.experiment(0, BASE)
    leap = lab.experiment(1, [0.8, 0.8], verdict=Verdict.KEEP, is_approved=True, judged_place=50)
    meanwhile = [lab.experiment(i, [1.001], verdict=Verdict.DISCARD) for i in (2, 3)]
    after = lab.experiment(
        4, [], trials=(lab.trial(0.801, 0, place=60),), parent="c1", verdict=Verdict.DISCARD
    )
    after = replace(after, judged_place=61)
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
