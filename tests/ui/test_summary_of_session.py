from dataclasses import replace
from datetime import timedelta

import pytest
import sessions

from autoresearch.decision import scores
from autoresearch.decision.confirmation import carried
from autoresearch.types import Alert, Busy, Decision, Experiment, Outcome, Session, State, Verdict
from autoresearch.ui import summary as s
from autoresearch.ui.pages import overview


def test_empty_session_has_no_numbers():
    found = s.summarize(sessions.empty(), sessions.NOW)
    assert found.baseline_score is None
    assert found.delta is None
    assert found.keep_rate is None
    assert found.trajectory == "new"
    assert found.next_command == "autoresearch run --hours 8"
    assert found.alerts == ()


def test_headline_is_best_minus_baseline():
    session = sessions.night()
    found = s.summarize(session, sessions.NOW)
    best = session.experiment(session.best)
    assert found.delta == pytest.approx(best.score - 0.9979)
    assert found.relative == pytest.approx(found.delta / 0.9979)
    assert found.num_by_verdict == {
        "keep": 25,
        "discard": 94,
        "crash": 4,
        "invalid": 2,
        "held": 0,
    }
    assert found.num_by_reason["crash"] == {"nan": 2, "oom": 2}
    assert found.steps[-1].cumulative == pytest.approx(found.delta)
    assert sum(step.delta for step in found.steps) == pytest.approx(found.delta)


def test_noise_comes_from_the_last_decision_else_from_the_baseline():
    session = sessions.night(5)
    assert s.noise_of(session) == sessions.NOISE
    only = replace(session, experiments=session.experiments[:1], best=0)
    assert s.noise_of(only) == pytest.approx(0.00025)
    one = replace(only, experiments=(sessions.baseline(num_trials=1),))
    assert s.noise_of(one) is None


def test_a_confirmation_of_an_earlier_best_does_not_count():
    session = sessions.night()
    assert s.summarize(session).confirmation is not None
    old = tuple(replace(c, candidate=6) for c in session.confirmations)
    assert s.summarize(replace(session, confirmations=old)).confirmation is None


def test_confirmation_trials_do_not_change_what_an_experiment_took():
    e = sessions.night(5).experiment(1)
    extra = replace(e.trials[0], confirmation="c1")
    assert replace(e, trials=(*e.trials, extra)).total_seconds == e.total_seconds
    assert replace(e, trials=(extra,)).peak_memory_mb is None


@pytest.mark.parametrize(
    ("verdicts", "word", "since"),
    [("", "new", 0), ("ddd", "new", 3), ("dk", "improving", 0), ("k" + "d" * 5, "improving", 5),
     ("k" + "d" * 12, "plateau", 12), ("d" * 12, "stuck", 12), ("l" * 12, "stuck", 12)],
)  # fmt: skip
def test_trend(verdicts, word, since):
    """k: a convincing keep, l: one that may be luck, d: a discard."""
    experiments = [sessions.baseline()]
    for i, letter in enumerate(verdicts, 1):
        keep = letter in "kl"
        experiments.append(
            sessions.experiment(
                i, Verdict.KEEP if keep else Verdict.DISCARD, score=0.99, incumbent=0.991,
                at=sessions.START, reason="gain" if keep else "no_gain",
                p={"k": 0.97, "l": 0.6, "d": 0.1}[letter],
            )
        )  # fmt: skip
    session = replace(sessions.empty(), experiments=tuple(experiments))
    found = s.summarize(session)
    assert (found.trajectory, found.num_since_gain) == (word, since)


def test_a_simpler_keep_is_not_called_luck():
    e = sessions.experiment(
        1, Verdict.KEEP, score=0.998, incumbent=0.998, at=sessions.START, reason="simpler", p=0.4
    )
    assert not scores.is_doubtful(e)


def crash(number, reason="oom"):
    return sessions.experiment(
        number, Verdict.CRASH, score=None, incumbent=1.0, at=sessions.START, reason=reason
    )


def test_repeated_crashes_need_a_person():
    session = sessions.night(10)
    crashed = replace(session, experiments=(*session.experiments, *map(crash, (11, 12, 13))))
    texts = [a.text for a in s.summarize(crashed).alerts]
    assert any("3 of the last 13 experiments crashed with oom" in text for text in texts)
    assert not s.summarize(session).alerts


def test_alerts_of_the_lab_come_newest_first_and_once():
    alerts = (Alert("one", "t1"), Alert("two", "t2"), Alert("one", "t3"))
    found = s.summarize(replace(sessions.night(5), alerts=alerts)).alerts
    assert [a.text for a in found] == ["one", "two"]


def test_good_news_settles_what_came_before_it():
    slow = Alert("it is slow", "t0", "autoresearch doctor", about="a")
    down = Alert("it is down", "t1", "autoresearch doctor", about="a")
    back = Alert("it answers again", "t2", about="a", is_over=True)
    other = Alert("the other is down", "t1", "autoresearch doctor", about="b")

    def told(*alerts: Alert) -> list[str]:
        return [a.text for a in s.summarize(replace(sessions.night(5), alerts=alerts)).alerts]

    assert told(slow, down) == ["it is down"]
    assert told(slow, down, back) == []
    assert told(down, other, back) == ["the other is down"]
    assert told(back, down, Alert("full", "t3")) == ["full", "it is down"]


def test_what_was_done_about_an_alert_settles_it():
    session = sessions.night(5)
    alert = Alert("commit abc made the branch worse", "t1", "autoresearch revert 3")
    done = tuple(replace(e, reverted_by="abc") if e.number == 3 else e for e in session.experiments)
    assert alert in s.summarize(replace(session, alerts=(alert,))).alerts
    assert alert not in s.summarize(replace(session, alerts=(alert,), experiments=done)).alerts


def test_a_dead_session_says_how_it_goes_on():
    first = s.summarize(replace(sessions.running(), state="dead")).alerts[0]
    assert first.command == "autoresearch run --tag nov21"


def test_drift_between_trials_of_the_same_code_is_told():
    base = sessions.baseline()
    slow = replace(base.trials[1], result=replace(base.trials[1].result, tokens_per_second=1.5e6))
    session = replace(
        sessions.empty(),
        experiments=(replace(base, trials=(base.trials[0], slow, base.trials[2])),),
    )
    assert any("tokens/s" in a.text for a in s.summarize(session).alerts)


def test_time_of_a_running_session_goes_on_to_now():
    session = replace(sessions.running(), wall_seconds=0.0, started_at="2026-11-21T07:00:00Z")
    assert s.summarize(session, sessions.NOW).wall_seconds == 120


def test_seconds_by_kind_fall_back_on_the_trials():
    session = replace(sessions.night(3), busy=())
    found = s.seconds_by_kind(session)
    assert found["train"] == pytest.approx(300 * 6)
    assert found["startup"] == pytest.approx(21.5 * 6)


def test_tainted_and_test_trials_do_not_count_as_good():
    e = sessions.baseline()
    tainted = replace(e.trials[0], result=replace(e.trials[0].result, outcome=Outcome.TAINTED))
    test = replace(e.trials[0], result=replace(e.trials[0].result, split="test"))
    assert scores.good_trials(replace(e, trials=(tainted, test))) == []


@pytest.mark.parametrize(
    ("status", "what", "seconds"),
    [
        (
            {"type": "progress", "phase": "train", "seconds": 10, "budget_seconds": 300},
            "train",
            20.0,
        ),
        (
            {"type": "progress", "phase": "train", "seconds": 299, "budget_seconds": 300},
            "train",
            300,
        ),
        (
            {"type": "progress", "phase": "claim", "seconds": 5, "budget_seconds": 300},
            "claim",
            15.0,
        ),
        ({"type": "phase", "name": "propose"}, "propose", 10.0),
    ],
)
def test_status_is_brought_forward(status, what, seconds):
    at = (sessions.NOW - timedelta(seconds=10)).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = s.doing({"at": at, "number": 4, **status}, sessions.NOW)
    assert (found.what, found.number, found.seconds) == (what, 4, seconds)
    assert s.doing(None, sessions.NOW) is None


def test_only_what_is_under_trial_runs():
    session = sessions.running()
    found = s.at_present(session, s.Doing("train", 20))
    assert [e.number for e in found.experiments if e.state is State.RUNNING] == [20]
    stopped = s.at_present(replace(session, state="interrupted"), None)
    assert not [e for e in stopped.experiments if e.state is State.RUNNING]


@pytest.mark.parametrize(
    ("session", "words"),
    [
        (sessions.running(), "RUNNING confirming 2 of 6: #2, seed 1"),
        (sessions.night(), "was reached; confirming 2 of 6: #2, seed 1"),
        (replace(sessions.running(), state="paused"), "PAUSED"),
    ],
)
def test_a_confirmation_says_how_far_it_is(session, words):
    doing = s.Doing("confirm", 2, 30.0, detail="2 of 6: #2, seed 1")
    session = replace(session, stop_reason=session.ended_at and "experiments")
    summary = s.summarize(session, sessions.NOW, present=doing)
    assert overview.state_text(session, summary, sessions.NOW).plain.endswith(words)


def test_a_session_of_one_proposal_can_be_summed_up():
    e = Experiment(
        number=0, commit="", parent="", state=State.PROPOSED, description="baseline",
        proposer="baseline", decision=Decision("keep", "baseline"),
    )  # fmt: skip
    session = Session(tag="t", branch="autoresearch/t", experiments=(e,), state="running")
    assert s.summarize(session, sessions.NOW).best is e


def test_memory_creep_is_told():
    session = sessions.night(20)
    assert not s.summarize(session).marks
    best = session.experiment(session.best)
    fat = replace(best.trials[0], result=replace(best.trials[0].result, peak_memory_mb=60_000.0))
    changed = tuple(
        replace(e, trials=(fat,)) if e.number == session.best else e for e in session.experiments
    )
    found = s.summarize(replace(session, experiments=changed)).marks
    assert found == ("the best needs 36% more memory than the baseline",)


def test_only_the_newest_answers_about_the_present_best_count():
    session = sessions.verified()
    found = s.summarize(session, sessions.NOW)
    assert [c.kind for c in found.further] == ["longer", "larger"]
    words = {carried(step.left_out) for step in found.steps if step.left_out}
    assert words == {"carries", "unclear", "does not"}
    again = replace(found.further[0], delta=-0.5)
    later = replace(session, confirmations=(*session.confirmations, again))
    assert s.summarize(later).further[0].delta == -0.5
    other = replace(session, best=session.kept[0].number)
    gone = s.summarize(other)
    assert (gone.confirmation, gone.further) == (None, ())
    assert not any(step.left_out for step in gone.steps)


def test_a_change_that_carries_nothing_is_to_be_undone_until_it_is():
    session = sessions.verified()
    advice = [a for a in s.summarize(session).alerts if "not carry the gain" in a.text]
    assert advice
    number = int(advice[0].command.removeprefix("autoresearch revert "))
    undone = tuple(
        replace(e, reverted_by="c" * 40) if e.number == number else e for e in session.experiments
    )
    left = {a.command for a in s.summarize(replace(session, experiments=undone)).alerts}
    assert advice[0].command not in left


def test_the_alarm_stands_until_a_newer_confirmation():
    session = sessions.night()
    lost = replace(session.confirmations[0], is_alarm=True)
    found = s.summarize(replace(session, confirmations=(lost,)))
    assert "does not carry over" in found.alerts[0].text
    assert not s.summarize(replace(session, confirmations=(lost, *session.confirmations))).alerts


def test_a_tip_that_was_measured_is_no_idea():
    session = sessions.night(20)
    tip = replace(
        session.experiments[1], number=21, commit="d" * 40, parent="d" * 40,
        verdict=Verdict.KEEP, reason="baseline", decision=Decision("keep", "baseline"),
    )  # fmt: skip
    before, after = (
        s.summarize(x)
        for x in (session, replace(session, experiments=(*session.experiments, tip), best=21))
    )
    assert (after.num_tried, after.num_kept, after.num_real) == (
        before.num_tried,
        before.num_kept,
        before.num_real,
    )


def test_confirmations_after_the_runs_are_counted_apart():
    session = sessions.night(3)
    e = session.experiments[1]
    extra = replace(e.trials[0], confirmation="each-3-0-ab/without-1")
    more = replace(e, trials=(*e.trials, extra))
    known = sum(b.seconds for b in session.busy)
    later = replace(
        session,
        wall_seconds=known,
        experiments=(session.experiments[0], more, *session.experiments[2:]),
    )
    assert s.summarize(later).later_seconds == extra.result.total_seconds
    within = replace(later, busy=(*later.busy, Busy("confirm", 400.0)))
    assert s.summarize(within).later_seconds == 0
    assert s.summarize(within).seconds_by_kind["confirm"] == 400.0
    assert s.summarize(session).later_seconds == 0


@pytest.mark.parametrize(
    ("budget_seconds", "is_told"), [(300.0, True), (5.0, False)], ids=["long", "short"]
)
def test_a_machine_that_drifts_is_told_where_trials_are_long_enough_to_tell(
    budget_seconds, is_told
):
    session = sessions.night(3)
    first, *rest = session.experiments[0].trials
    slower = replace(
        first, result=replace(first.result, tokens_per_second=first.result.tokens_per_second * 0.95)
    )
    baseline = replace(session.experiments[0], trials=(slower, *rest))
    session = replace(
        session,
        experiments=(baseline, *session.experiments[1:]),
        setup=replace(session.setup, budget_seconds=budget_seconds),
    )
    told = [a.text for a in s.summarize(session, sessions.NOW).alerts if "in tokens/s" in a.text]
    assert bool(told) is is_told


def other_speed(experiment, factor):
    first = experiment.trials[0]
    result = replace(first.result, tokens_per_second=first.result.tokens_per_second * factor)
    again = replace(first, result=result)
    return replace(experiment, trials=(*experiment.trials, again))


def session_with(session, changed=None, **fields):
    """Return a session with the numbers of its confirmation, or its baseline, changed."""
    if fields:
        c = replace(session.confirmations[0], **fields)
        session = replace(session, confirmations=(c,))
    if changed:
        session = replace(session, experiments=(changed, *session.experiments[1:]))
    return session


NIGHT = sessions.night(24)
PROMISED = (
    "NOT CONFIRMED: no gain shown, -0.10 +- 0.38 (-10%) on unseen text, 4 fresh seeds;"
    " validation had promised -0.60"
)


@pytest.mark.parametrize(
    ("session", "said"),
    [
        (sessions.empty(), "nothing has been measured yet"),
        (
            replace(NIGHT, experiments=NIGHT.experiments[:1], best=0),
            "the baseline is measured, no idea has been tried yet",
        ),
        (replace(NIGHT, best=0), "NO GAIN: none of 24 ideas is clearly better than the baseline"),
        (
            session_with(NIGHT, delta=-0.1, low=-0.16, high=-0.04),
            "CONFIRMED: -0.100 +- 0.060 (-10%) on unseen text, 4 fresh seeds",
        ),
        (
            session_with(
                NIGHT, delta=-0.1, low=-0.48, high=0.28, is_alarm=True, validation_delta=-0.6
            ),
            PROMISED,
        ),
        (
            session_with(NIGHT, delta=0.1, low=0.04, high=0.16),
            "NOT CONFIRMED: worse than the baseline, +0.100 +- 0.060 (+10%) on unseen text, 4 fresh seeds",
        ),
        (
            session_with(NIGHT, other_speed(NIGHT.experiments[0], 6), low=-1.0, high=1.0),
            "NOT COMPARABLE: the machine ran the same code up to 6.0 times as fast at one time as at another",
        ),
        (
            session_with(NIGHT, other_speed(NIGHT.experiments[0], 6)),
            "CONFIRMED: -0.00386 +- 0.00060 (-0.39%) on unseen text, 4 fresh seeds",
        ),
    ],
)
def test_the_verdict_in_a_sentence(session, said):
    assert str(s.summarize(session, sessions.NOW).conclusion) == said


def test_gains_add_up_to_the_headline_after_repeats():
    session = sessions.night(24)
    lucky = session.kept[0]
    worse = replace(lucky.trials[0].result, score=lucky.score + 0.001)
    repeated = replace(lucky, trials=(*lucky.trials, replace(lucky.trials[0], result=worse)))
    experiments = tuple(repeated if e is lucky else e for e in session.experiments)
    found = s.summarize(replace(session, experiments=experiments), sessions.NOW)
    assert sum(step.delta for step in found.steps) == pytest.approx(found.delta)
    assert found.steps[0].delta == pytest.approx(lucky.decision.delta + 0.0005)
