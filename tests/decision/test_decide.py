"""The keep rule on small sessions: what is kept, why, and what is never mixed."""

from dataclasses import replace

import pytest

from autoresearch.decision.belief import estimates, measure_noise
from autoresearch.decision.plateau import is_plateau
from autoresearch.decision.rule import decide, keep_threshold
from autoresearch.types import Decision, Verdict

BASE = (1.0000, 1.0004, 0.9996)


def test_clear_gain_is_kept_by_every_policy(lab, decision_config):
    base, new = lab.experiment(0, BASE), lab.experiment(1, [0.99])
    for policy in ("greedy", "balanced", "strict"):
        got = decide(new, base, lab.session(base, new), decision_config(policy=policy))
        assert (got.action, got.reason) == ("keep", "gain")
        assert got.p_real is not None
        assert got.p_real > 0.99
        assert got.delta == pytest.approx(-0.01, abs=0.001)
        assert got.level == pytest.approx(1.0 + got.delta)
        assert got.low < got.estimate < got.high < 0


def test_clear_harm_is_worse(lab, decision_config):
    base, new = lab.experiment(0, BASE), lab.experiment(1, [1.01])
    for policy in ("greedy", "balanced", "strict"):
        got = decide(new, base, lab.session(base, new), decision_config(policy=policy))
        assert (got.action, got.reason) == ("discard", "worse")


def test_lucky_draw_divides_the_policies(lab, decision_config):
    base, new = lab.experiment(0, BASE), lab.experiment(1, [0.9999])
    session = lab.session(base, new)
    assert decide(new, base, session, decision_config(policy="greedy")).action == "keep"
    got = decide(new, base, session, decision_config(policy="balanced"))
    assert (got.action, got.reason) == ("discard", "no_gain")


def test_strict_tests_the_doubtful_again_and_ends(lab, decision_config):
    base = lab.experiment(0, BASE)
    config = decision_config(policy="strict")
    actions = []
    for n in range(1, 5):
        new = lab.experiment(1, [0.9989] * n)
        actions.append(decide(new, base, lab.session(base, new), config).action)
    assert actions[0] == "retest"
    assert actions[-1] != "retest"


def test_numbers_of_another_setup_are_not_seen(lab, decision_config):
    base, new = lab.experiment(0, BASE), lab.experiment(1, [0.9990])
    other = replace(base, trials=(*base.trials, lab.trial(0.5, 3, setup="other")))
    config = decision_config()
    ours = decide(new, base, lab.session(base, new), config)
    assert decide(new, other, lab.session(other, new), config) == ours


def test_confirmation_trials_and_test_split_are_not_seen(lab, decision_config):
    base, new = lab.experiment(0, BASE), lab.experiment(1, [0.9990])
    extra = (lab.trial(0.5, 3, confirmation="x"), lab.trial(0.5, 4, split="test"))
    other = replace(base, trials=base.trials + extra)
    config = decision_config()
    ours = decide(new, base, lab.session(base, new), config)
    assert decide(new, other, lab.session(other, new), config) == ours


def test_an_incumbent_whose_own_trials_disagree_is_told(lab, decision_config):
    later = lab.trial(0.8, 4, place=lab.later)
    base = lab.experiment(0, BASE)
    new = lab.experiment(1, [0.93])
    plain = decide(new, base, lab.session(base, new), decision_config())
    assert "apart" not in plain.explanation
    odd = replace(base, trials=(*base.trials, later))
    got = decide(new, odd, lab.session(odd, new), decision_config())
    assert "trials of its incumbent alone lie 0.200400 apart" in got.explanation


def test_unmeasured_incumbent_is_refused(lab, decision_config):
    base, new = lab.experiment(0, []), lab.experiment(1, [0.9])
    with pytest.raises(ValueError, match="no score in setup"):
        decide(new, base, lab.session(base, new), decision_config())


def test_fewer_lines_at_equal_score_are_kept(lab, decision_config):
    base = lab.experiment(0, BASE)
    new = lab.experiment(1, [0.9998], lines_removed=12, lines_added=2)
    got = decide(new, base, lab.session(base, new), decision_config())
    assert (got.action, got.reason) == ("keep", "simpler")
    as_long = lab.experiment(1, [0.9998], lines_removed=12, lines_added=12)
    got = decide(as_long, base, lab.session(base, as_long), decision_config())
    assert got.action == "discard"


def test_fewer_lines_do_not_buy_harm(lab, decision_config):
    base = lab.experiment(0, BASE)
    new = lab.experiment(1, [1.002], lines_removed=100)
    assert decide(new, base, lab.session(base, new), decision_config()).action == "discard"


def test_a_gain_must_be_worth_its_memory(lab, decision_config):
    def with_memory(made, mb):
        return replace(
            made,
            trials=tuple(
                replace(t, result=replace(t.result, peak_memory_mb=mb)) for t in made.trials
            ),
        )

    base = with_memory(lab.experiment(0, BASE), 1000.0)
    big = with_memory(lab.experiment(1, [0.997]), 2000.0)
    session = lab.session(base, big)
    got = decide(big, base, session, decision_config())
    assert (got.action, got.reason) == ("discard", "memory")
    lean = with_memory(big, 1100.0)
    assert decide(lean, base, lab.session(base, lean), decision_config()).action == "keep"
    large = with_memory(lab.experiment(1, [0.98]), 2000.0)
    assert decide(large, base, lab.session(base, large), decision_config()).action == "keep"


def test_lucky_incumbent_is_taken_over_shrunk(lab):
    base = lab.experiment(0, BASE)
    lucky = lab.experiment(1, [0.9988], verdict=Verdict.KEEP)
    level = estimates(lab.session(base, lucky, best=1))[1].level
    assert level is not None
    assert 0.9988 < level < 1.0


def test_noise_of_three_trials_is_uncertain(lab):
    few = measure_noise(lab.session(lab.experiment(0, BASE)))
    many = measure_noise(lab.session(lab.experiment(0, BASE * 6)))
    assert few.low < few.sd < few.high
    assert many.high / many.low < few.high / few.low
    assert 0.0002 < few.sd < 0.001


def test_noise_of_a_cpu_run_is_found(lab):
    noise = measure_noise(lab.session(lab.experiment(0, [2.51, 2.49, 2.53])))
    assert 0.008 < noise.sd < 0.03


def test_audit_below_lets_nothing_through_that_could_be_kept(lab, decision_config):
    base = lab.experiment(0, BASE)
    for policy in ("greedy", "balanced", "strict"):
        config = decision_config(policy=policy)
        threshold = keep_threshold(lab.session(base), config)
        assert threshold is not None
        for step in range(1, 40):
            score = threshold + step * 0.0001
            new = lab.experiment(1, [score], lines_removed=3)
            assert decide(new, base, lab.session(base, new), config).action == "discard"
        assert threshold < 1.002
    assert keep_threshold(lab.session(), decision_config()) is None


def test_plateau_needs_evidence(lab):
    base = lab.experiment(0, BASE)
    bad = [lab.experiment(i, [1.003], verdict=Verdict.DISCARD) for i in range(1, 61)]
    assert not is_plateau(lab.session(base))
    assert not is_plateau(lab.session(base, *bad[:8]))
    assert is_plateau(lab.session(base, *bad))
    good = [
        lab.experiment(i, [1.0 - 0.01 * i], verdict=Verdict.KEEP, parent=f"c{i - 1}")
        for i in range(1, 10)
    ]
    assert not is_plateau(lab.session(base, *good, best=9))


def test_after_a_revert_the_earlier_state_is_the_reference(lab, decision_config):
    base = lab.experiment(0, BASE)
    kept = lab.experiment(1, [0.98], verdict=Verdict.KEEP, reverted_by="abc")
    new = lab.experiment(2, [0.985])
    got = decide(new, base, lab.session(base, kept, new), decision_config())
    assert got.action == "keep"
    assert got.delta == pytest.approx(-0.015, abs=0.001)


def test_audit_error_widens_the_answer(lab, decision_config):
    base = lab.experiment(0, BASE)
    sharp = lab.experiment(1, [0.9985])
    blurred = replace(sharp, trials=(lab.trial(0.9985, 0, score_se=0.002),))
    config = decision_config()
    one = decide(sharp, base, lab.session(base, sharp), config)
    two = decide(blurred, base, lab.session(base, blurred), config)
    assert two.p_real < one.p_real


def test_value_less_reference_is_the_difference_shown(lab, decision_config):
    """As measured at the usual pace, kept or not; later trials move neither."""
    base = lab.experiment(0, BASE, decision=Decision("keep", "baseline", level=1.00003))
    for score, is_kept in ((0.9985, True), (1.002, False)):
        new = lab.experiment(1, [score])
        got = decide(new, base, lab.session(base, new), decision_config(policy="greedy"))
        assert (got.action == "keep") == is_kept
        verdict = Verdict.KEEP if is_kept else Verdict.DISCARD
        judged = replace(new, decision=got, verdict=verdict)
        assert judged.score - base.score == pytest.approx(got.delta)
        assert judged.score == pytest.approx(score)
        more = replace(judged, trials=(*judged.trials, lab.trial(1.1, 3)))
        assert more.score == judged.score
