"""Evaluates small programs under each backend that this machine has."""

import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from programs import EVALUATE, settings

from autoresearch.sandbox.select import probe
from autoresearch.tasks.program.evaluation import Evaluator
from autoresearch.tasks.program.task import ProgramExecutor
from autoresearch.types import TrialResult, TrialSpec


@pytest.fixture(params=["bubblewrap", "landlock"])
def backend(request: pytest.FixtureRequest) -> str:
    if probe(request.param).sandbox is None:
        pytest.skip(f"{request.param} does not work here")
    return str(request.param)


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
