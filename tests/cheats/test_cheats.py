"""Every train.py of the zoo gets the verdict it must get; `world.py` prints the same as a table."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from autoresearch.sandbox.select import BACKENDS, probe


def load_world() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "cheats_world", Path(__file__).with_name("world.py")
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["cheats_world"] = module
    spec.loader.exec_module(module)
    return module


WORLD = load_world()
CASES = WORLD.read_cases()
ALWAYS = ("ahead_tiny", "read_validation", "honest_plain")


@pytest.fixture(scope="module")
def world() -> Iterator[object]:
    with WORLD.make_world() as made:
        yield made


def parameters() -> Iterator[object]:
    for backend in BACKENDS:
        for case in CASES:
            is_always = case.name in ALWAYS and backend == "bubblewrap"
            marks = [] if is_always else [pytest.mark.slow]
            yield pytest.param(case, backend, marks=marks, id=f"{case.name}-{backend}")


@pytest.mark.parametrize(("case", "backend"), list(parameters()))
def test_the_verdict(case, backend, world, monkeypatch):
    sandbox = probe(backend).sandbox
    if sandbox is None:
        pytest.skip(f"{backend} does not work here")
    monkeypatch.setenv("ZOO_API_KEY", WORLD.KEY)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    row = world.run(case, sandbox)
    assert not row.problems, WORLD.show(row)


def test_the_zoo_is_complete():
    honest = [case for case in CASES if case.name.startswith("honest_")]
    assert len(CASES) - len(honest) >= 30
    assert len(honest) >= 6
    assert set(WORLD.QUICK) <= {case.name for case in CASES}


def test_a_quick_round_has_some_of_each_kind():
    quick = {case.name for case in WORLD.chosen(CASES)}
    assert {name.split("_")[0] for name in quick} == {case.name.split("_")[0] for case in CASES}
    assert quick > set(WORLD.QUICK)
    assert len(quick) <= 50
