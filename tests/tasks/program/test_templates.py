"""The templates: each gives a run directory that loads, hides its evaluator, and rewards a better idea.

The gains stated here are those of the hand-written solutions in `better/` on test cases.
"""

import importlib.util
import re
import sys
import time
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from autoresearch.bootstrap import presets
from autoresearch.bootstrap.scaffold import scaffold
from autoresearch.cli import app
from autoresearch.config import load_config
from autoresearch.paths import templates_directory
from autoresearch.proposer.search.constants import parse
from autoresearch.proposer.search.ranges import find_range
from autoresearch.record.git import Repository
from autoresearch.tasks.program.contract import public_part
from autoresearch.tasks.program.task import find_evaluator

GAINS = {
    "bidding": 0.15,
    "npc": 0.12,
    "pricing": 0.2,
    "retrieval": 0.15,
    "speed": 2.0,
    "tabular": 0.3,
    "trading": 0.5,
}
"""Least gain of the better solution on test cases, in units of the metric."""


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"loaded_{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


class Direct:
    """Calls the functions of a module, as `task.Candidate` does those of a process."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self.seconds = 0.0

    def call(self, name: str, *arguments: Any) -> Any:
        began = time.perf_counter()
        answer = getattr(self._module, name)(*arguments)
        self.seconds = time.perf_counter() - began
        return answer


def score(template: str, solution: Path, split: str) -> float:
    evaluator = load(templates_directory() / template / "evaluate.py")
    values, _ = evaluator.evaluate(Direct(load(solution)), 7, split).checked()
    return sum(values) / len(values)


def test_every_program_has_a_better_solution() -> None:
    names = {name for name in presets.templates() if presets.is_program(name)}
    assert names == {*GAINS, "program"}


@pytest.mark.parametrize("template", sorted(GAINS))
def test_a_good_idea_is_worth_something_on_hidden_cases(template: str) -> None:
    folder = templates_directory() / template
    settings = tomllib.loads((folder / "template.toml").read_text())["settings"]
    sign = 1 if settings["task"]["direction"] == "maximize" else -1
    better = Path(__file__).parent / "better" / f"{template}.py"
    gain = score(template, better, "test") - score(template, folder / "solution.py", "test")
    assert sign * gain > GAINS[template]


@pytest.mark.parametrize("template", sorted(GAINS))
def test_a_run_directory_of_a_program(template: str, tmp_path: Path) -> None:
    made = scaffold(tmp_path / "run", template=template, tag="t")
    config = load_config(made.run_directory).config
    assert config.task.kind == "program"
    assert config.task.direction
    assert config.session.experiments <= 12
    with Repository.open(made.run_directory.root) as repository:
        head = repository.ref("HEAD")
        assert head is not None
        known = set(repository.entries(head))
    assert "solution.py" in known
    assert "evaluate.py" not in known
    assert "evaluate.py" in (made.run_directory.root / ".gitignore").read_text().split()
    evaluator = find_evaluator(made.run_directory, config)
    public = public_part(evaluator.files["evaluate.py"])
    assert "case" in public
    assert "Hidden" not in public
    assert not re.search(r"\btest\b", public, re.IGNORECASE)
    constants = parse((made.run_directory.root / "solution.py").read_text(), {}).constants
    assert sum(find_range(c) is not None for c in constants) >= 2


def test_a_program_of_ones_own_is_taken_in(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    root.mkdir()
    (root / "solution.py").write_text("def mine():\n    return 1\n")
    (root / "evaluate.py").write_text("def evaluate(candidate, seed, split):\n    return 1\n")
    made = scaffold(root, template="program", tag="t")
    assert "mine" in (root / "solution.py").read_text()
    assert set(made.written) == {".gitignore", "autoresearch.toml", "program.md"}
    with Repository.open(root) as repository:
        head = repository.ref("HEAD")
        assert head is not None
        assert set(repository.entries(head)) == {*made.written, "solution.py"}
    find_evaluator(made.run_directory, load_config(made.run_directory).config)


def test_the_list_says_what_each_is() -> None:
    done = CliRunner().invoke(app, ["init", "--list"])
    assert done.exit_code == 0
    lines = [line for line in done.output.splitlines() if line]
    assert [line.split()[0] for line in lines] == list(presets.templates())
