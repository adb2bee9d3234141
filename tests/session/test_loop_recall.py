"""What a resumed run takes over from the record for its trials."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from autoresearch.errors import PrerequisiteError
from autoresearch.session.build import check_setup, recall
from autoresearch.types import (
    Calibration,
    Experiment,
    Outcome,
    Session,
    Setup,
    State,
    Trial,
    TrialResult,
)

SETUP = Setup("gpu", "2.13", "1", 300.0, "data", "1", 128, 1000, "cudnn+varlen")


class Executor:
    """Holds what it is given."""

    calibration = Calibration()
    attention = ""

    def use_attention(self, choice: str) -> None:
        """Note it."""
        self.attention = choice


@dataclass(frozen=True)
class Lab:
    """As much of a lab as is needed."""

    setup: Setup
    executor: Executor


def session_of(proposer: Any, setup: Setup = SETUP) -> Session:
    extra = {"tolerance": 0.4, "difference_sd": 0.01}
    result = TrialResult(1, Outcome.OK, score=1.0, submit_seconds=0.7, extra=extra)
    experiment = Experiment(
        number=0,
        commit="c",
        parent="p",
        state=State.JUDGED,
        description="baseline",
        proposer=proposer,
        trials=(
            Trial(replace(result, extra={}), setup.key, "", ""),
            Trial(result, setup.key, "", ""),
        ),
        setup=setup.key,
    )
    return Session("t", "b", (experiment,), setup=setup, setups={setup.key: setup})


def recalled(session: Session) -> tuple[Any, Executor]:
    executor = Executor()
    lab: Any = Lab(replace(SETUP, attention="flash+folded"), executor)
    return recall(lab, session), executor


def test_a_baseline_of_this_setup_is_recalled() -> None:
    lab, executor = recalled(session_of("baseline"))
    assert executor.calibration == Calibration(0.7, 0.4, 0.01)
    assert executor.attention == lab.setup.attention == "cudnn+varlen"


def test_nothing_is_taken_from_a_candidate_or_another_setup() -> None:
    _, executor = recalled(session_of("llm"))
    assert executor.calibration == Calibration()
    lab, executor = recalled(session_of("baseline", replace(SETUP, gpu="other")))
    assert executor.calibration == Calibration()
    assert executor.attention == ""
    assert lab.setup.attention == "flash+folded"


def test_a_changed_setup_is_told_with_both_ways_on() -> None:
    lab: Any = Lab(replace(SETUP, budget_seconds=60.0), Executor())
    with pytest.raises(PrerequisiteError, match="measured under another setup") as caught:
        check_setup(session_of("baseline"), lab, is_rebaseline=False)
    assert caught.value.hint is not None
    assert "`autoresearch run --rebaseline`" in caught.value.hint
    assert "`autoresearch run --tag t-2 --from best`" in caught.value.hint
