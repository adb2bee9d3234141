"""Confirmations run end to end on a real record with a stand-in for training."""

import contextlib
import itertools
import random
import re
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from autoresearch.config import load_config
from autoresearch.decision.confirmation import carried
from autoresearch.errors import PrerequisiteError, UsageError
from autoresearch.events import Progress, SessionStarted
from autoresearch.paths import RunDirectory
from autoresearch.record import revert
from autoresearch.record.record import Record
from autoresearch.rundir import control
from autoresearch.session import confirm as confirming
from autoresearch.session import paired
from autoresearch.session.confirm import (
    ConfirmOptions,
    confirm_session,
    parse_changes,
    run_confirmation,
    run_each,
    with_constants,
)
from autoresearch.session.context import Stop
from autoresearch.session.run import due_confirmation
from autoresearch.tasks.gpt import METRIC
from autoresearch.types import Decision, Outcome, Proposal, Purpose, Setup, TrialResult, Verdict
from autoresearch.ui.summary import alerts, summarize

TRAIN = "A = 0\n\n\n\n\nB = 0\n\n\n\n\nC = 0\n"
SETUP = Setup("cpu", "2.13.0", "", 5.0, "d", "1", 128, 1000)


class Formula:
    """Scores 1 - 0.01 A - 0.02 B + 0 C, with luck by seed; counts what it ran."""

    def __init__(self, noise=0.0005):
        self.noise = noise
        self.specs = []
        self.outcomes = []
        self.stop_after = None

    def run(self, spec, *, on_progress=None, stop=None):
        self.specs.append(spec)
        if self.stop_after is not None and len(self.specs) > self.stop_after:
            stop.set()
            return TrialResult(spec.seed, Outcome.TAINTED, "stopped", split=spec.split)
        outcome = self.outcomes.pop(0) if self.outcomes else Outcome.OK
        if outcome is not Outcome.OK:
            return TrialResult(spec.seed, outcome, "oom", split=spec.split)
        text = spec.files["train.py"].decode()
        values = {k: float(v) for k, v in re.findall(r"^([A-Z]) = (\S+)", text, re.MULTILINE)}
        luck = random.Random(f"{spec.seed} {text}").gauss(0, self.noise)
        score = 1 - 0.01 * values["A"] - 0.02 * values["B"] + luck
        return TrialResult(
            spec.seed, Outcome.OK, split=spec.split, score=score, num_audited=9, total_seconds=2.0
        )


def make_record(root, verdict):
    """Three ideas after the baseline, all with one verdict."""
    root.mkdir()
    for name, text in {"train.py": TRAIN, "program.md": "", "autoresearch.toml": ""}.items():
        (root / name).write_text(text)
    made = Record.create(RunDirectory(root), "t", ["train.py", "program.md", "autoresearch.toml"])
    made.append(
        SessionStarted(
            metric=METRIC, tag="t", tip=made.tip(), setup=vars(SETUP), seed=3, proposer="search"
        )
    )
    for number, text in enumerate(
        (
            TRAIN,
            TRAIN.replace("A = 0", "A = 1"),
            TRAIN.replace("A = 0", "A = 1").replace("B = 0", "B = 1"),
            TRAIN.replace("A = 0", "A = 1").replace("B = 0", "B = 1").replace("C = 0", "C = 1"),
        )
    ):
        who = "search" if number else "baseline"
        made.propose(
            Proposal(
                description=f"idea {number}",
                files={"train.py": text},
                parent=made.tip(),
                proposer=who,
            ),
            number,
            b"",
        )
        result = TrialResult(7, Outcome.OK, score=1 - 0.01 * number, total_seconds=2.0)
        made.record_trial(number, result, setup=SETUP.key, started_at="2026-01-01T00:00:00Z")
        decision = Decision(
            "keep" if verdict is Verdict.KEEP else "discard", "gain", p_real=0.7, estimate=-0.008
        )
        made.judge(number, verdict if number else Verdict.KEEP, "gain", decision, SETUP.key)
    return made


@pytest.fixture
def record(tmp_path):
    with make_record(tmp_path / "lab", Verdict.KEEP) as made:
        yield made


@pytest.fixture(autouse=True)
def seeds(monkeypatch):
    """Seeds in a row, so that a stand-in has the same luck each time."""
    monkeypatch.setattr(paired, "draw_seed", itertools.count(1_000_001).__next__)


@pytest.fixture(autouse=True)
def to_the_end(request, monkeypatch):
    """All pairs are run, however clear it is, but where a test is about that."""
    if "clear" not in request.function.__name__:
        monkeypatch.setattr(confirming, "is_settled", lambda *_: False)


@pytest.fixture
def ask(monkeypatch):
    """Ask for a confirmation as a person does, with a stand-in for training."""
    monkeypatch.setattr(
        "autoresearch.session.confirm.lock_device", lambda *_: contextlib.nullcontext()
    )
    monkeypatch.setattr(confirming, "recall", lambda lab, _: lab)

    def confirm(record, executor, **options):
        lab = SimpleNamespace(
            config=load_config(None).config, executor=executor, hardware=None,
            run_directory=record.run_directory, setup=SETUP,
        )  # fmt: skip
        options = ConfirmOptions(**options)
        return confirm_session(lab, record, options, emit=lambda _: None, stop=threading.Event())

    return confirm


@pytest.fixture
def call(record):
    def run(executor, **changes):
        stop = changes.pop("stop", threading.Event())
        fixed = {
            "reference": 0,
            "candidate": 3,
            "num_trials": 4,
            "stop": stop,
            "emit": lambda _: None,
        }
        config = load_config(None).config
        return run_confirmation(record, executor, record.session(), config, **{**fixed, **changes})

    return run


def test_best_against_baseline(record, call):
    executor = Formula()
    found = call(executor)
    assert found is not None
    assert found.delta == pytest.approx(-0.03, abs=0.002)
    assert found.high < 0
    session = record.session()
    assert session.confirmations == (found,)
    assert all(
        s.split == "test" and s.purpose is Purpose.CONFIRM and s.audit_below is None
        for s in executor.specs
    )
    assert len(executor.specs) == 8
    assert session.experiment(0).score == 1.0
    marked = [t for e in session.experiments for t in e.trials if t.confirmation]
    assert len(marked) == 8


def test_a_second_one_takes_other_seeds(call):
    one, two = Formula(), Formula()
    call(one)
    call(two)
    assert not {s.seed for s in one.specs} & {s.seed for s in two.specs}
    # And each pair its own rows, the same for both sides.
    parts = [sorted(s.part for s in each.specs) for each in (one, two)]
    assert parts == [[0, 0, 1, 1, 2, 2, 3, 3], [4, 4, 5, 5, 6, 6, 7, 7]]
    assert len({(s.seed, s.part) for s in one.specs}) == 4


def test_a_stopped_one_goes_on_where_it_was(record, call):
    first = Formula()
    first.stop_after = 3
    assert call(first) is None
    assert record.session().confirmations == ()
    second = Formula()
    found = call(second)
    assert found is not None
    assert len(second.specs) == 5
    assert found.num_trials == 4
    assert {s.part for s in second.specs} == {1, 2, 3}
    whole = Formula()
    assert {s.seed for s in first.specs} | {s.seed for s in second.specs} == {
        s.seed for s in second.specs
    } | {s.seed for s in first.specs[:3]}
    assert whole.specs == []


def test_tainted_is_repeated_and_a_crash_costs_its_pair(record, call):
    executor = Formula()
    executor.outcomes = [Outcome.TAINTED, Outcome.OK, Outcome.CRASH]
    found = call(executor)
    assert found is not None
    assert found.num_trials == 3


def test_what_never_runs_ends_with_an_alert(record, call):
    executor = Formula()
    executor.outcomes = [Outcome.CRASH] * 8
    assert call(executor) is None
    assert len(executor.specs) < 8
    assert "oom" in record.session().alerts[-1].text


def test_no_gain_on_test_raises_the_alarm(record, call):
    class Lost(Formula):
        def run(self, spec, **more):
            result = super().run(spec, **more)
            luck = random.Random(spec.seed).gauss(0, 0.0001)
            return replace(result, score=1.0 + luck)

    found = call(Lost())
    assert found is not None
    assert found.is_alarm
    assert found.gap == pytest.approx(0.03, abs=0.005)
    assert "does not carry over" in alerts(record.session(), [])[0].text
    assert call(Formula()) is not None
    assert not any("carry over" in a.text for a in alerts(record.session(), []))


def test_a_shared_machine_is_told_until_a_later_confirmation(record, call):
    class Shared(Formula):
        def run(self, spec, **more):
            speed = 100.0 if len(self.specs) % 3 else 300.0
            return replace(super().run(spec, **more), tokens_per_second=speed)

    found = call(Shared())
    assert found is not None
    session = record.session()
    assert "differed by 200% in tokens/s" in session.alerts[-1].text
    assert session.alerts[-1] in alerts(session, [])
    later = replace(found, at="2099-01-01T00:00:00Z")
    session = replace(session, confirmations=(*session.confirmations, later))
    assert session.alerts[-1] not in alerts(session, [])
    call(Formula())
    assert len(record.session().alerts) == 1


def test_each_finds_what_carries(record):
    executor = Formula(noise=0.0002)
    found = run_each(
        record,
        executor,
        record.session(),
        num_trials=3,
        stop=threading.Event(),
        emit=lambda _: None,
    )
    by_number = {c.reference: c for c in found}
    assert by_number[1].delta == pytest.approx(-0.01, abs=0.001)
    assert by_number[2].delta == pytest.approx(-0.02, abs=0.001)
    assert abs(by_number[3].delta) < 0.001
    assert len(executor.specs) == 12
    session = record.session()
    steps = {step.experiment.number: step.left_out for step in summarize(session).steps}
    assert steps == by_number
    assert [carried(by_number[n]) for n in (1, 2)] == ["carries", "carries"]
    advised = {a.command for a in alerts(session, [])}
    assert by_number[3].p_carries < 0.1
    assert advised == {"autoresearch revert 3"}


def test_an_interrupted_each_goes_on_after_another_confirmation(record, call):
    def each(executor):
        return run_each(
            record, executor, record.session(),
            num_trials=2, stop=threading.Event() if executor.stop_after is None else stopped,
            emit=lambda _: None,
        )  # fmt: skip

    stopped = threading.Event()
    first = Formula()
    first.stop_after = 3
    assert each(first) == []
    assert call(Formula()) is not None
    second = Formula()
    assert len(each(second)) == 3
    assert len(second.specs) == 8 - 3


def test_a_branch_that_moved_since_is_not_confirmed_as_the_best(record, ask):
    executor = Formula()
    revert.apply(record, revert.plan(record, "1"))
    for options in ({}, {"is_each": True}):
        with pytest.raises(UsageError, match="has changed since"):
            ask(record, executor, **options)
    assert executor.specs == []


def test_two_experiments_are_compared_also_where_nothing_was_kept(tmp_path, ask):
    with make_record(tmp_path / "lab", Verdict.DISCARD) as record:
        (found,) = ask(record, Formula(noise=0.0002), reference="0", candidate="2")
        assert (found.kind, found.reference, found.candidate) == ("pair", 0, 2)
        assert found.delta == pytest.approx(-0.03, abs=0.001)
        for options in ({}, {"is_each": True}):
            with pytest.raises(UsageError, match="has kept nothing that could be confirmed"):
                ask(record, Formula(), **options)


def test_an_experiment_that_is_not_there_is_named(tmp_path, ask):
    with make_record(tmp_path / "lab", Verdict.DISCARD) as record:
        with pytest.raises(UsageError, match="there is no experiment `99`"):
            ask(record, Formula(), reference="0", candidate="99")
        record.propose(
            Proposal(description="nothing", files={}, parent=record.tip(), proposer="llm"), 4, b""
        )
        record.judge(4, Verdict.DISCARD, "edit_failed", None, SETUP.key)
        with pytest.raises(UsageError, match=r"experiment 4 made no commit \(edit_failed\)"):
            ask(record, Formula(), reference="0", candidate="4")


def test_longer_and_larger_say_so(record, call):
    executor = Formula()
    longer = call(executor, kind="longer", budget_seconds=60.0)
    assert longer is not None
    assert longer.budget_seconds == 60.0
    assert longer.setup != SETUP.key
    assert {s.budget_seconds for s in executor.specs} == {60.0}
    executor = Formula()
    larger = call(executor, kind="larger", changes={"C": 12})
    assert larger is not None
    assert larger.note == "C=12"
    assert all(b"C = 12" in s.files["train.py"] for s in executor.specs)


def test_unknown_constant_names_the_nearest(record):
    files = record.files(record.tip())
    with pytest.raises(UsageError, match="no constant `D`"):
        with_constants(files, ["train.py"], {"D": 1}, 3)
    with pytest.raises(UsageError, match="NAME=NUMBER"):
        parse_changes(["DEPTH"])
    assert parse_changes(["DEPTH=12", "LR=3e-4"]) == {"DEPTH": 12, "LR": 3e-4}


def test_time_bounds_the_pairs(call):
    executor = Formula()
    found = call(executor, max_seconds=12.0)
    assert found is not None
    assert len(executor.specs) == 6


def test_two_pairs_are_run_also_when_they_take_longer_than_planned(call, monkeypatch):
    clock = iter(range(0, 10_000, 50))
    monkeypatch.setattr("autoresearch.session.paired.time.monotonic", lambda: next(clock))
    executor = Formula()
    assert call(executor, max_seconds=8.0) is not None
    assert len(executor.specs) == 4


def test_a_pause_is_no_part_of_what_a_pair_takes(record, call, monkeypatch):
    """Trials take 10 s; after a pause of an hour within an hour and a half there is time for all pairs."""
    clock = [0.0]
    monkeypatch.setattr("autoresearch.session.paired.time.monotonic", lambda: clock[0])
    executor = Formula()
    real = executor.run

    def run(spec, **more):
        clock[0] += 10.0
        return real(spec, **more)

    def heed(*_):
        clock[0] += 3600.0 * (len(executor.specs) == 3)

    executor.run = run
    monkeypatch.setattr(Stop, "wait_while_paused", heed)
    assert call(executor, max_seconds=5400.0) is not None
    assert len(executor.specs) == 8


@pytest.mark.parametrize("what", [control.Request.STOP, control.Request.STOP_NOW])
def test_a_request_to_stop_is_heard_and_nothing_is_lost(record, call, what):
    executor = Formula()
    real = executor.run

    def run(spec, *, on_progress, stop):
        if len(executor.specs) == 2:
            control.request(record.run_directory, what)
        result = real(spec, on_progress=on_progress, stop=stop)
        on_progress(
            Progress(number=0, label="", phase="train", seconds=1, budget_seconds=2, num_tokens=5)
        )
        return result

    executor.run = run
    assert call(executor) is None
    assert len(executor.specs) == 3
    control.clear(record.run_directory)
    again = Formula()
    assert call(again) is not None
    assert len(again.specs) == (5 if what is control.Request.STOP else 6)


def test_without_a_setup_there_is_nothing(record, call):
    session = replace(record.session(), setup=None)
    with pytest.raises(PrerequisiteError, match="measured nothing"):
        run_confirmation(
            record,
            Formula(),
            session,
            load_config(None).config,
            reference=0,
            candidate=3,
            num_trials=2,
            stop=threading.Event(),
            emit=lambda _: None,
        )


def test_a_clear_answer_ends_it_early_and_stands(record, ask):
    """A gain of 60 times the noise is known after three pairs of eight; asked again, it is another confirmation."""
    executor = Formula()
    (found,) = ask(record, executor, num_trials=8)
    assert found.num_trials == 3
    assert len(executor.specs) == 6
    assert found.is_gain
    assert found.low < -0.03 < found.high
    config = load_config(None, {"session.confirm_trials": 8}).config
    assert due_confirmation(record.session(), config, SETUP) is None


def test_a_pair_at_two_paces_is_run_once_more(record, ask):
    """On the same seed, candidate and reference the other way round; the later trials count."""
    executor = Formula()
    real, shares = executor.run, iter([0.0, 0.3, 0.0, 0.01] + [0.0] * 20)

    def run(spec, **kwargs):
        share = next(shares)
        result = real(spec, **kwargs)
        load = {"load": {"stolen": 0.0, "others": share}}
        return replace(result, score=result.score + 5 * share, extra=load)

    executor.run = run
    (found,) = ask(record, executor, num_trials=3)
    assert len(executor.specs) == 8
    assert len({s.seed for s in executor.specs[:4]}) == 1
    assert [s.number for s in executor.specs[:4]] == [0, 3, 3, 0]
    assert found.num_trials == 3
    assert -0.1 < found.delta < 0.05


def test_seeds_are_of_no_stream_and_stand_in_the_record(record, ask, monkeypatch):
    drawn = []
    real = paired.draw_seed

    def draw():
        drawn.append(real())
        return drawn[-1]

    monkeypatch.setattr(paired, "draw_seed", draw)
    ask(record, Formula(), num_trials=2)
    run = {t.result.seed for e in record.session().experiments for t in e.trials if t.confirmation}
    assert run == set(drawn)
