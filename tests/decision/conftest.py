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
    place = changes.pop("place", 0)
    confirmation = changes.pop("confirmation", "")
    outcome = Outcome.OK if score is not None else Outcome.CRASH
    result = TrialResult(seed=seed, outcome=outcome, score=score)  # type: ignore[arg-type]
    return Trial(
        replace(result, **changes),
        setup,
        "2026-01-01T00:00:00Z",
        "e",
        confirmation,  # type: ignore[arg-type]
        place=place,  # type: ignore[arg-type]
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


LATER = 1000
"""Place in the journal from which trials are not given one by `session`."""


def session(*experiments: Experiment, best: int = 0) -> Session:
    """A session whose journal holds these experiments one after the other; trials of a place stay at it."""
    place, placed = 0, []
    for made in experiments:
        trials = []
        for t in made.trials:
            place += 1
            trials.append(t if t.place else replace(t, place=place))
        place += 1
        known = made.judged_place or (place if made.verdict else 0)
        placed.append(replace(made, trials=tuple(trials), judged_place=known))
    return Session("t", "autoresearch/t", experiments=tuple(placed), setup=SETUP, best=best)


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
        later = LATER
        trial = staticmethod(trial)
        experiment = staticmethod(experiment)
        session = staticmethod(session)

    return Lab
