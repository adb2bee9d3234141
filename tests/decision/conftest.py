"""Sessions built from numbers, for the tests of the keep rule."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from autoresearch.config import DecisionConfig, load_config
from autoresearch.decision.scores import trial_seed
from autoresearch.types import (
    Experiment,
    Outcome,
    Session,
    Setup,
    State,
    Trial,
    TrialResult,
    Verdict,
)

SETUP = Setup(
    gpu="g",
    torch="t",
    driver="d",
    budget_seconds=300,
    data="x",
    judge="1",
    max_seq_len=8,
    eval_tokens=9,
)


def trial(score: float | None, index: int = 0, **changes: object) -> Trial:
    seed = changes.pop("seed", trial_seed(0, index))
    setup = changes.pop("setup", SETUP.key)
    confirmation = changes.pop("confirmation", "")
    outcome = Outcome.OK if score is not None else Outcome.CRASH
    result = TrialResult(seed=seed, outcome=outcome, score=score)  # type: ignore[arg-type]
    return Trial(
        replace(result, **changes),
        setup,
        "2026-01-01T00:00:00Z",
        "e",
        confirmation,  # type: ignore[arg-type]
    )


def experiment(number: int, scores: Sequence[float | None], **changes: object) -> Experiment:
    verdict = changes.pop("verdict", Verdict.KEEP if number == 0 else None)
    made = Experiment(
        number=number,
        commit=f"c{number}",
        parent="c0" if number else "",
        state=State.JUDGED if verdict else State.RUNNING,
        description=f"idea {number}",
        proposer="search" if number else "baseline",
        verdict=verdict,  # type: ignore[arg-type]
        trials=tuple(trial(score, i) for i, score in enumerate(scores)),
        setup=SETUP.key,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def session(*experiments: Experiment, best: int = 0) -> Session:
    return Session("t", "autoresearch/t", experiments=experiments, setup=SETUP, best=best)


@pytest.fixture
def decision_config() -> Callable[..., DecisionConfig]:
    reference = load_config(None).config.decision

    def make(**changes: object) -> DecisionConfig:
        return reference.model_copy(update=changes)

    return make


@pytest.fixture
def lab() -> object:
    """The builders, for tests that cannot import a conftest by name."""

    class Lab:
        setup = SETUP
        trial = staticmethod(trial)
        experiment = staticmethod(experiment)
        session = staticmethod(session)

    return Lab
