"""How large an audit is, where it looks, and what it catches: against simulated leaks."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from autoresearch.tasks.gpt.judge import audit, score
from autoresearch.tasks.gpt.judge.audit import Spread, catch_probability, plan
from autoresearch.tasks.gpt.judge.score import InvalidClaimError, Text

ROWS, CONTEXT = 1200, 128
TOLERANCE = 0.25


@pytest.fixture(scope="module")
def text() -> Text:
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, 8, 400)
    lengths[399] = 0
    return Text.make(rng.integers(0, 400, (ROWS, CONTEXT + 1)), lengths)


@pytest.fixture(scope="module")
def honest(text) -> np.ndarray:
    """Return nats of a model without a leak."""
    return np.random.default_rng(2).gamma(0.9, 3.3, text.num_bytes.shape).astype(np.float32)


@pytest.fixture(scope="module")
def reference(honest) -> np.ndarray:
    noise = np.random.default_rng(3).normal(0, 0.35, honest.shape)
    return np.maximum(honest + noise, 0.01).astype(np.float16)


def leaking(honest: np.ndarray, text: Text, leak: float, gain: float, rng) -> np.ndarray:
    """Return claimed nats that are `leak` too good on average, `gain` at each position that leaks."""
    possible = np.flatnonzero((honest >= gain) & text.counts)
    num = round(leak / gain * int(text.counts.sum()))
    claimed = honest.copy().ravel()
    claimed[rng.choice(possible, num, replace=False)] -= gain
    return claimed.reshape(honest.shape)


def is_caught(honest, claimed, reference, text, leak, rng, minimum=256) -> tuple[bool, audit.Plan]:
    gains = audit.gains_on(-claimed, reference, text)
    spread = audit.measure_spread(
        gains, reference, text, tolerance=TOLERANCE, noise=0.0, leak_nats=leak
    )
    planned = plan(ROWS, minimum, spread, leak)
    uniform = score.draw_positions(text, planned.num_uniform, rng)
    targeted = audit.draw_targeted(text, gains, uniform.rows, planned.num_targeted, rng)
    both = uniform.joined(targeted)
    assert len(set(both.rows)) == len(both.rows)
    assert text.counts[both.rows, both.columns].all()
    d = (honest - claimed)[both.rows, both.columns]
    if len(score.off_positions(d, TOLERANCE)):
        return True, planned
    try:
        score.check_bias(d[: planned.num_uniform], uniform.weights)
    except InvalidClaimError:
        return True, planned
    return False, planned


@pytest.mark.parametrize("gain", [0.05, 0.24, 0.4, 2.0, 8.0])
def test_the_smallest_leak_promised_is_caught_however_it_is_spread(
    text, honest, reference, gain
) -> None:
    rng = np.random.default_rng(7)
    leak = 0.02
    tries = [
        is_caught(honest, leaking(honest, text, leak, gain, rng), reference, text, leak, rng)
        for _ in range(40)
    ]
    assert all(planned.power >= audit.POWER for _, planned in tries)
    assert sum(caught for caught, _ in tries) >= 39


def test_honest_claims_pass(text, honest, reference) -> None:
    rng = np.random.default_rng(8)
    assert not any(is_caught(honest, honest, reference, text, 0.02, rng)[0] for _ in range(20))


def test_the_targeted_part_finds_what_the_uniform_one_would_miss(text, honest, reference) -> None:
    rng = np.random.default_rng(9)
    claimed = leaking(honest, text, 0.002, 9.0, rng)
    gains = audit.gains_on(-claimed, reference, text)
    leaks = (honest - claimed) > 1
    found = {"uniform": 0, "targeted": 0}
    for _ in range(50):
        uniform = score.draw_positions(text, 100, rng)
        targeted = audit.draw_targeted(text, gains, uniform.rows, 100, rng)
        found["uniform"] += bool(leaks[uniform.rows, uniform.columns].any())
        found["targeted"] += bool(leaks[targeted.rows, targeted.columns].any())
    assert found["uniform"] < 20
    assert found["targeted"] == 50


def test_audits_grow_as_the_noise_shrinks_and_say_what_they_reach() -> None:
    spread = Spread()
    plans = [plan(10_240, 512, spread, leak) for leak in (0.1, 0.01, 0.003, 0.0005)]
    sizes = [p.num_positions for p in plans]
    assert sizes == sorted(sizes)
    assert sizes[0] == 512
    assert sizes[-1] == 10_240
    assert all(p.power >= 0.99 for p in plans[:3])
    assert plans[3].power < 0.99
    assert 0.0005 < plans[3].smallest_leak < 0.003
    unknown = plan(10_240, 512, spread)
    assert unknown.num_positions == 512
    assert unknown.power is None
    assert plan(100, 512, spread, 0.001).num_positions == 100


def test_power_falls_with_every_thing_that_hides_a_leak() -> None:
    base = catch_probability(1000, 300, 0.01, Spread())
    assert 0.0 < base < 1.0
    assert catch_probability(2000, 300, 0.01, Spread()) > base
    assert catch_probability(1000, 300, 0.02, Spread()) > base
    assert catch_probability(1000, 300, 0.01, Spread(noise=0.1)) < base
    assert catch_probability(1000, 300, 0.01, Spread(tolerance=0.5)) < base
    assert catch_probability(1000, 300, 0.0, Spread()) == 0.0


def test_before_there_is_a_baseline_frequencies_are_the_reference(text, honest) -> None:
    reference = audit.frequency_reference(text)
    counts = np.bincount(text.rows[:, 1:][text.counts], minlength=400)
    assert abs(float(reference[0, 0]) - -np.log(counts[text.rows[0, 1]] / counts.sum())) < 0.05
    gains = audit.gains_on(-honest, reference, text)
    assert (gains >= 0).all()
    assert not gains[~text.counts].any()


def test_what_the_presets_reach_is_documented() -> None:
    """docs/safety.md has the table that bench/audit.py makes."""
    root = Path(__file__).resolve().parents[4]
    spec = importlib.util.spec_from_file_location("bench_audit", root / "bench" / "audit.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    found = list(bench.lines())
    text = (root / "docs" / "safety.md").read_text(encoding="utf-8")
    assert "\n".join(bench.markdown(found)) in text, "run `python bench/audit.py --markdown`"
    # All but the demo catch what is promised. What costs more than a twentieth of the budget is named there.
    assert [f.preset for f in found if f.power < audit.POWER] == ["demo"]
    dear = [f.preset for f in found if f.claim_share > 0.05]
    assert f"takes more than a twentieth of the budget on {', '.join(dear)}" in text.replace(
        "\n", " "
    )
    audited = [f.preset for f in found if f.share > 0.05]
    assert f"with an audit on {', '.join(audited)}." in text.replace("\n", " ")
    assert {f.preset for f in found} - set(audited) >= {"cpu", "mps", "turing", "rocm"}


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, "not finite"), (-np.inf, "not finite"), (0.01, "above 1, up to exp(0.01)")],
)
def test_a_claim_that_is_no_probability_is_bad_where_it_counts(text, honest, value, words) -> None:
    claimed = -honest
    claimed[~text.counts] = value
    score.check_claim(claimed, text)
    row, column = np.argwhere(text.counts)[7]
    claimed[row, column] = value
    with pytest.raises(InvalidClaimError) as caught:
        score.check_claim(claimed, text)
    assert caught.value.reason == "bad_claim"
    assert caught.value.detail.startswith("1 of ")
    assert words in caught.value.detail
