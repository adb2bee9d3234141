"""The simulation of the keep rules: deterministic, and in the right order at a small size."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location(
        "keep_rule_bench", ROOT / "bench" / "keep_rule.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def rows(bench, world, sessions=40, noise=0.0005):
    luck = bench.draw(bench.WORLDS[world], sessions, 0.0, 3)
    return {rule: bench.row(world, noise, rule, 0.0, luck) for rule in bench.RULES}


def test_policies_stand_in_the_right_order(bench):
    found = rows(bench, "fitted")
    greedy, balanced, strict = found["greedy"], found["balanced"], found["strict"]
    assert balanced.true_gain > 0.85 * greedy.true_gain
    assert strict.false_share < balanced.false_share < 0.65 * greedy.false_share
    assert balanced.over_report < greedy.over_report
    assert abs(balanced.over_posterior) < 0.0004


def test_nothing_to_find_is_not_claimed(bench):
    found = rows(bench, "A/A")
    assert found["greedy"].claims == 1.0
    assert found["strict"].claims < found["balanced"].claims < 0.75
    assert found["balanced"].confirmed_claims <= 0.05


def test_the_same_seed_gives_the_same_numbers(bench):
    one, two = rows(bench, "pessimistic", 10), rows(bench, "pessimistic", 10)
    assert repr(one) == repr(two)
    assert "| strict |" in bench.table(list(one.values()))


def test_common_luck_on_seeds_helps(bench):
    luck = bench.draw(bench.WORLDS["fitted"], 40, 0.8, 3)
    paired = bench.row("fitted", 0.001, "balanced", 0.8, luck)
    luck = bench.draw(bench.WORLDS["fitted"], 40, 0.0, 3)
    alone = bench.row("fitted", 0.001, "balanced", 0.0, luck)
    assert paired.true_gain > alone.true_gain
