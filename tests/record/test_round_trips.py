"""Whatever is written is read back equal, or visibly replaced."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_support import Night

from autoresearch.events import Event, Noted, TrialJudged
from autoresearch.record import v1
from autoresearch.record.fold import (
    Fold,
    curve_from_bytes,
    curve_to_bytes,
    result_from_json,
    result_to_json,
)
from autoresearch.record.results_tsv import read_tsv, to_tsv
from autoresearch.tasks.gpt import METRIC
from autoresearch.types import (
    CurvePoint,
    Experiment,
    Metric,
    Outcome,
    Session,
    State,
    Trial,
    TrialResult,
    Usage,
    Verdict,
)
from autoresearch.util.text import clean_json, clean_line, clean_text

ANY = st.text(st.characters(codec=None, exclude_categories=()), max_size=200)
NUMBER = st.floats(allow_nan=False, allow_infinity=False, width=32)
MAYBE = st.none() | NUMBER
RESULTS = st.builds(
    TrialResult,
    seed=st.integers(0, 2**31),
    outcome=st.sampled_from(Outcome),
    reason=st.sampled_from(["", "oom", "claim_mismatch"]),
    detail=ANY.map(clean_text),
    score=MAYBE,
    score_se=MAYBE,
    num_audited=st.integers(0, 9999),
    num_tokens=st.none() | st.integers(0, 10**12),
    peak_memory_mb=MAYBE,
    extra=st.dictionaries(st.sampled_from("abc"), st.integers() | st.booleans(), max_size=3),
)


@given(ANY)
def test_cleaning_text_is_safe_and_stable(text: str) -> None:
    once = clean_text(text, 50)
    assert clean_text(once, 50) == once
    assert len(once) <= 50
    once.encode("utf-8")
    assert not any(ord(c) < 32 and c not in "\n\t" for c in once)
    line = clean_line(text, 50)
    assert "\n" not in line
    assert clean_line(line, 50) == line
    assert json.loads(json.dumps(clean_json({text: [text, (text,)]}))) == clean_json(
        {text: [text, (text,)]}
    )


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200))
def test_plain_text_is_not_changed(text: str) -> None:
    assert clean_text(text) == text


@given(RESULTS)
def test_a_result_goes_round(result: TrialResult) -> None:
    assert result_from_json(json.loads(json.dumps(result_to_json(result)))) == result


@given(st.lists(st.builds(CurvePoint, st.integers(0, 300), st.integers(0, 10**9), MAYBE)))
def test_a_curve_goes_round(curve: list[CurvePoint]) -> None:
    assert curve_from_bytes(curve_to_bytes(curve)) == tuple(curve)


def test_a_curve_with_numbers_that_are_not_finite_misses_them() -> None:
    curve = [CurvePoint(1.0, 2, float("nan"), {"lr": float("inf"), "x": 1.0})]
    assert curve_from_bytes(curve_to_bytes(curve)) == (CurvePoint(1.0, 2, None, {"x": 1.0}),)


@given(st.lists(st.tuples(RESULTS, st.sampled_from(Verdict), ANY), min_size=1, max_size=6))
def test_a_fold_goes_round_through_its_index(
    night_of: list[tuple[TrialResult, Verdict, str]],
) -> None:
    fold = Fold("x")
    for number, (result, verdict, text) in enumerate(night_of):
        events = [
            {"type": "proposed", "number": number, "commit": f"{number:040x}", "parent": "",
             "identity": "", "proposer": "search", "description": clean_text(text)},
            {"type": "trial", "number": number, "index": 0, "setup": "s", "started_at": "",
             "result": result_to_json(result)},
            {"type": "verdict", "number": number, "verdict": verdict.value, "reason": "r",
             "commit": f"{number:040x}"},
        ]  # fmt: skip
        for n, event in enumerate(events):
            line = json.dumps({"v": 1, "at": "2026-03-01T22:00:00Z", **event})
            fold.apply(f"{number}-{n}", line)
    again = Fold.load(json.loads(json.dumps(fold.dump())))
    assert again is not None
    assert again.session() == fold.session()
    assert [e.trials[0].result for e in fold.session().experiments] == [r for r, _, _ in night_of]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.sampled_from(Verdict), NUMBER, ANY), min_size=1, max_size=8))
def test_results_tsv_goes_round(tmp_path: Path, rows: list[tuple[Verdict, float, str]]) -> None:
    experiments = tuple(
        Experiment(
            number=number, commit=f"{number + 1:07x}", parent="", state=State.JUDGED,
            description=text or "x", proposer="search", verdict=verdict,
            trials=(Trial(TrialResult(0, Outcome.OK, score=abs(score)), "", "", ""),),
        )
        for number, (verdict, score, text) in enumerate(rows)
    )  # fmt: skip
    first = to_tsv(Session("r", "", experiments, metric=METRIC))
    (tmp_path / "r.tsv").write_text(first, encoding="utf-8")
    again = read_tsv(tmp_path / "r.tsv")
    assert len(again.experiments) == len(rows)
    assert first.count("\n") == len(rows) + 1
    assert first.count("\t") == 4 * (len(rows) + 1)


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(ANY)
def test_any_text_goes_through_git(night: Night, text: str) -> None:
    night.record.append(Noted(text=text))
    assert night.record.session().notes[-1].text == clean_text(text)
    fresh = Fold("nov21")
    journal = night.record.session().journal
    for sha, _, message in night.record.repository.chain(journal):
        fresh.apply(sha, message)
    assert fresh.session().notes[-1].text == clean_text(text)


EARLIER = Path(__file__).with_name("journal_of_november.jsonl").read_text().splitlines()
"""Events as they were written when each class of them listed its fields itself."""


@pytest.mark.parametrize("line", EARLIER, ids=lambda line: json.loads(line)["type"])
def test_events_are_written_as_they_were(line: str) -> None:
    known = json.loads(line)
    v1.upgrade(known)
    known["v"] = 2
    given = {name: value for name, value in known.items() if name not in ("v", "type")}
    if "usage" in given:
        given["usage"] = Usage(**given["usage"])
    if "metric" in given:
        given["metric"] = Metric(**given["metric"])
    kind = next(kind for kind in Event.__subclasses__() if kind.type == known["type"])
    written = clean_json(kind(**given).to_json())
    later = {"flags"}
    assert {
        name: value for name, value in written.items() if name not in later - known.keys()
    } == known


def test_a_record_of_an_earlier_version_is_read() -> None:
    fold = Fold("t")
    for number, line in enumerate(EARLIER):
        fold.apply(f"{number:040x}", line)
    session = fold.session()
    assert (session.state, session.best, session.seed, session.proposer) == (
        "finished", 0, 0, "search",
    )  # fmt: skip
    assert (session.is_unsafe, session.trivial_score, session.hardware) == (
        True,
        7.5,
        {"gpu": "cpu"},
    )
    assert session.limits["first_number"] == 1
    assert session.setup is not None
    assert session.setup.torch == "2.13"
    verdicts = {e.number: (e.verdict, e.reason, len(e.trials)) for e in session.experiments}
    assert verdicts == {
        0: (Verdict.KEEP, "baseline", 3),
        1: (Verdict.KEEP, "gain", 2),
        3: (Verdict.CRASH, "nan", 1),
        5: (Verdict.DISCARD, "edit_failed", 0),
    }
    first, answer = session.experiment(1), session.experiment(5)
    assert (first.parameters, first.lines_added, first.identity) == (
        {"LR": 2.5}, 1, "55b78d124b32c7d2",
    )  # fmt: skip
    assert first.reverted_by == session.tip
    assert first.decision is not None
    assert first.decision.num_trials == 1
    assert first.trials[1].confirmation == "session-0-1-0-abcdef/candidate"
    assert (answer.model, answer.hypothesis, answer.expected_effect, answer.theme) == (
        "some/model", "h", "e", "th",
    )  # fmt: skip
    assert session.usage == Usage(4, 5, 0, 0, 0.52)
    notes = [(note.text, note.author) for note in session.notes]
    assert notes == [("remember", "agent"), ("try the optimizer", "human")]
    assert session.alerts[0].command == "autoresearch doctor"
    assert session.confirmations[0].candidate == 1


def test_an_event_keeps_every_field() -> None:
    event = TrialJudged(
        number=1, index=0, setup="s", started_at="", result={"a": 1}, purpose="check"
    )
    assert set(event.to_json()) == {f.name for f in dataclasses.fields(event)} | {"v", "type"}


@pytest.mark.parametrize("limit", [30, 300, 20_000])
def test_a_long_text_says_how_much_is_missing(limit: int) -> None:
    text = clean_text("x" * 1_000_000, limit)
    assert len(text) == limit
    assert text.endswith(f"{1_000_000 - limit} more characters]")
