"""The search proposer: `pytest tests/proposer/test_search.py`."""

import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from proposer_sample import TRAIN, context, experiment, session

from autoresearch.proposer import edits
from autoresearch.proposer.base import CancelledError, Context, ProposerUnavailableError
from autoresearch.proposer.search import constants
from autoresearch.proposer.search.proposer import SearchProposer
from autoresearch.types import Experiment, Proposal, Verdict

NEVER = threading.Event()


def propose(given: Context) -> Proposal:
    return SearchProposer().propose(given, NEVER)


def night(num: int, score: "object" = None) -> list[Proposal]:
    """Propose and judge `num` times; `score(values)` gives val_bpb, None a crash; greedy keeps."""
    text, incumbent, best = TRAIN, f"{0:040x}", None
    done: list[Experiment] = []
    proposals = []
    tried: dict[str, int] = {edits.identity({"train.py": TRAIN}): 0}
    for number in range(1, num + 1):
        past = session(*done)
        best = score(constants.parse(text).values()) if callable(score) else 1.5
        past = replace(
            past,
            experiments=tuple(
                replace(
                    e,
                    trials=experiment(
                        0, Verdict.KEEP, score(constants.parse(TRAIN).values())
                    ).trials,
                )
                if e.number == 0 and callable(score)
                else e
                for e in past.experiments
            ),
        )
        p = propose(context(text, number, past, parent=incumbent, tried=tried))
        proposals.append(p)
        tried[edits.identity(p.files)] = number
        found = score(constants.parse(p.files["train.py"]).values()) if callable(score) else 1.6
        verdict = (
            Verdict.CRASH if found is None else Verdict.KEEP if found < best else Verdict.DISCARD
        )
        done.append(experiment(number, verdict, found, parameters=p.parameters, parent=incumbent))
        if verdict is Verdict.KEEP:
            text, incumbent = p.files["train.py"], f"{number:040x}"
    return proposals


def test_proposes_one_constant_and_edits_in_place() -> None:
    p = propose(context())
    assert len(p.parameters) == 1
    assert constants.changed(TRAIN, p.files["train.py"]) == pytest.approx(dict(p.parameters))
    assert p.proposer == "search"
    assert " -> " in p.description
    assert len(p.files["train.py"].splitlines()) == len(TRAIN.splitlines())


def test_same_record_same_proposal() -> None:
    past = session(
        *(
            experiment(n, Verdict.DISCARD, 1.5 + n / 100, parameters={"MATRIX_LR": 0.01 * n})
            for n in range(1, 9)
        )
    )
    first, second = (propose(context(number=9, past=past)) for _ in range(2))
    assert first == second
    other = propose(context(number=10, past=past))
    assert other.files != first.files


def test_a_night_tries_nothing_twice_and_keeps_constraints() -> None:
    proposals = night(60)
    seen = {edits.identity(p.files) for p in proposals}
    assert len(seen) == 60
    for p in proposals:
        values = constants.parse(p.files["train.py"]).values()
        assert values["TOTAL_BATCH"] % values["DEVICE_BATCH"] == 0
        assert values["N_EMBD"] % values["HEAD_DIM"] == 0
        assert not {"SEED", "VOCAB_SIZE"} & set(p.parameters)


def test_learns_from_the_record() -> None:
    import math

    def score(values: dict[str, float]) -> float | None:
        if values["TOTAL_BATCH"] > 2**15:
            return None
        return (
            1.2
            + 0.01 * (math.log2(values["MATRIX_LR"] / 0.012)) ** 2
            + 0.01 * (math.log2(values["TOTAL_BATCH"] / 2**12)) ** 2
            + 0.2 * (values["WARMDOWN_FRAC"] - 0.8) ** 2
        )

    start = score(constants.parse(TRAIN).values())
    proposals = night(60, score)
    scores = [score(constants.parse(p.files["train.py"]).values()) for p in proposals]
    best = min(s for s in scores if s is not None)
    assert start is not None
    assert best - 1.2 < 0.25 * (start - 1.2)


def test_a_crash_pushes_away() -> None:
    crashes = [
        experiment(n, Verdict.CRASH, None, parameters={"TOTAL_BATCH": 2.0**15}) for n in range(1, 4)
    ]
    worse = experiment(4, Verdict.DISCARD, 1.51, parameters={"TOTAL_BATCH": 2.0**13})
    picks = []
    for number in range(5, 60):
        p = propose(context(number=number, past=session(*crashes, worse, seed=3)))
        if "TOTAL_BATCH" in p.parameters:
            picks.append(p.parameters["TOTAL_BATCH"])
    assert picks
    assert sum(v >= 2**15 for v in picks) < len(picks) / 2


def test_refuses_what_is_in_flight() -> None:
    first = propose(context())
    second = propose(context(in_flight=(first,)))
    assert second.files != first.files
    moved = replace(first, files={"train.py": TRAIN.replace("LOCAL = 3", "LOCAL = 4")})
    third = propose(context(in_flight=(moved,)))
    assert third.parameters != first.parameters


@pytest.mark.parametrize(("score", "is_up"), [(1.49, True), (1.52, False)])
def test_a_change_an_llm_made_is_learned_from(score: float, is_up: bool) -> None:
    text = "ROPE_BASE = 10_000.0\n"
    past = session(
        experiment(1, Verdict.DISCARD, score, parameters={"ROPE_BASE": 20000.0}, proposer="llm")
    )
    for number in range(2, 12):
        p = propose(context(text, number, past))
        assert (p.parameters["ROPE_BASE"] > 10_000) == is_up


def test_nothing_to_search_is_said() -> None:
    with pytest.raises(ProposerUnavailableError, match="no numeric UPPER_CASE constant") as raised:
        propose(context("x = 1\n"))
    assert raised.value.retry_seconds is None
    with pytest.raises(ProposerUnavailableError, match="not valid Python"):
        propose(context("X = \n"))
    small = "N = 1  # one of 1, 2\n"
    tried = {edits.identity({"train.py": small.replace("= 1", "= 2")}): 1}
    with pytest.raises(ProposerUnavailableError, match="no untried values"):
        propose(context(small, tried=tried))


def test_stops_when_told() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(CancelledError):
        SearchProposer().propose(context(), stop)


def test_importing_it_imports_no_optuna() -> None:
    code = "import sys, autoresearch.proposer.search.proposer; sys.exit('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_check_names_the_version() -> None:
    assert "optuna" in SearchProposer().check()
