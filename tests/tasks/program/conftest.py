"""Evaluates small programs under each backend that this machine has."""

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoresearch.config import Config
from autoresearch.sandbox.select import probe
from autoresearch.tasks.program.evaluation import Evaluator
from autoresearch.tasks.program.task import ProgramExecutor
from autoresearch.types import TrialResult, TrialSpec

EVALUATE = """
from autoresearch.task import Candidate, Score

def evaluate(candidate, seed, split):
    return Score([abs(candidate.call("square", n) - n * n) for n in (2, 3, seed % 1000)])
"""
HONEST = "def square(n):\n    return n * n\n"


@pytest.fixture(params=["bubblewrap", "landlock"])
def backend(request: pytest.FixtureRequest) -> str:
    if probe(request.param).sandbox is None:
        pytest.skip(f"{request.param} does not work here")
    return str(request.param)


def settings(**changes: Any) -> Config:
    """Return settings of a program; `changes` are of `[task]`, or of another section by `section__name`."""
    values = Config().model_dump()
    values["task"] |= {"kind": "program", "editable": ["solution.py"], "direction": "minimize"}
    values["trial"] |= {"device": "cpu", "budget_seconds": 20.0, "startup_seconds": 30.0}
    for name, value in changes.items():
        section, _, key = name.rpartition("__")
        values[section or "task"][key] = value
    return Config.model_validate(values)


@pytest.fixture
def trial(backend: str, tmp_path: Path) -> Callable[..., TrialResult]:
    """`trial(solution, evaluate, reference=..., section__name=...)` scores a program once."""
    tmp_path.chmod(0o755)

    def run(
        solution: str,
        evaluate: str = EVALUATE,
        *,
        reference: str | None = None,
        cases_seed: int | None = None,
        stop: threading.Event | None = None,
        hidden: dict[str, Path] | None = None,
        spec: dict[str, Any] | None = None,
        **changes: Any,
    ) -> TrialResult:
        sandbox = probe(backend).sandbox
        assert sandbox is not None
        evaluator = Evaluator("evaluate.py", {"evaluate.py": evaluate.encode()}, hidden or {})
        executor = ProgramExecutor(
            settings(**changes), sandbox, evaluator, scratch=tmp_path / "trials"
        )
        files = {"solution.py": solution.encode()}
        beside = None if reference is None else {"solution.py": reference.encode()}
        seed = random.randrange(10**6) if cases_seed is None else cases_seed
        budget = executor._config.trial.budget_seconds
        return executor.run(
            TrialSpec(
                files, 1, budget, label="t/1-0", reference=beside, cases_seed=seed, **(spec or {})
            ),
            stop=stop,
        )

    return run
