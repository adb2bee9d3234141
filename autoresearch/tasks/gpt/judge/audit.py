"""How many positions an audit needs, where it looks, and what it would catch. numpy only.

An audit has two parts. The uniform part draws positions at random: it corrects the score and tests its mean. The
targeted part draws them where the claim is better than a reference, in proportion to the square of by how much: a
leak that is worth something must gain there. It only looks for positions that are off. The reference is the claim of
the baseline, or before there is one what token frequencies say.

What a leak of L nats a token is caught by depends on the size g it gains at a share L / g of the positions:

    g above the tolerance   one position that is off:  1 - (1 - L/g)^uniform * (1 - L g / (m + L g))^targeted
    g below it              the test of the mean, on the uniform part

where m is the mean square of what honest claims gain on the reference. `catch_probability` is the least of it over
all sizes that are possible, `plan` the smallest audit that reaches `POWER`.

Source: defensive importance sampling (Hesterberg 1995); here the two parts are kept apart, so that the correction
stays a plain mean.
"""

import math
from dataclasses import dataclass

import numpy as np

from autoresearch.tasks.gpt.judge.score import MIN_BIAS, Positions, Text, critical_value

POWER = 0.99
"""Probability with which a leak worth `LEAK_FACTOR` times the noise is to be caught."""
LEAK_FACTOR = 2.0
_SPLITS = (0.75, 0.5, 0.25)
_GROWTH = 1.1
_NUM_GAINS = 48
_SAMPLE = 1 << 20


TOLERANCE = 0.25
"""Nats by which an audited position may differ from its claim, unless the calibrated tolerance is larger."""


@dataclass(frozen=True)
class Spread:
    """What is known of honest claims, in nats.

    Attributes:
        tolerance: What one position may be off.
        mean_square: Mean over positions of the squared gain of a claim on the reference, where it is better.
        max_gain: Most that a leak can gain at one position.
        noise: Standard deviation of honest audited minus claimed.
    """

    tolerance: float = TOLERANCE
    mean_square: float = 0.2
    max_gain: float = 18.0
    noise: float = 0.0


@dataclass(frozen=True)
class Plan:
    """One audit.

    Attributes:
        num_uniform: Positions drawn uniformly.
        num_targeted: Positions drawn where the claim is surprisingly good.
        power: Probability that a leak worth twice the noise is caught; None when the noise is not known.
        smallest_leak: Nats a token of the smallest leak that is caught with probability `POWER`.
    """

    num_uniform: int
    num_targeted: int
    power: float | None
    smallest_leak: float

    @property
    def num_positions(self) -> int:
        """All positions, K."""
        return self.num_uniform + self.num_targeted


def nats_per_bpb(text: Text) -> float:
    """Return the nats a counted token that one bit per byte is on this text."""
    return math.log(2) * text.total_bytes / max(1, int(np.count_nonzero(text.counts)))


def catch_probability(
    num_uniform: int, num_targeted: int, leak_nats: float, spread: Spread
) -> float:
    """Return the probability that a leak of `leak_nats` a token is caught, however it is spread out."""
    if leak_nats <= 0.0 or num_uniform < 2:
        return 0.0
    smallest, tolerance = leak_nats, spread.tolerance
    largest = max(smallest, spread.max_gain)
    gains = np.geomspace(smallest, largest, _NUM_GAINS)
    gains = np.unique(np.concatenate([gains, [min(max(tolerance, smallest), largest)]]))
    share = leak_nats / gains
    targeted = leak_nats * gains / (spread.mean_square + leak_nats * gains)
    with np.errstate(divide="ignore"):
        log_miss = num_uniform * np.log1p(-share) + num_targeted * np.log1p(-targeted)
    by_position = -np.expm1(log_miss)
    se = np.sqrt((spread.noise**2 + share * (1 - share) * gains**2) / num_uniform)
    with np.errstate(divide="ignore"):
        z = leak_nats / se - critical_value(num_uniform - 1)
    by_mean = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z])
    if leak_nats <= MIN_BIAS:
        by_mean[:] = 0.0
    caught = np.where(gains > tolerance, np.maximum(by_position, by_mean), by_mean)
    return float(caught.min())


def smallest_leak(num_uniform: int, num_targeted: int, spread: Spread) -> float:
    """Return the nats a token of the smallest leak that is caught with probability `POWER`."""
    low, high = MIN_BIAS, 64.0
    for _ in range(40):
        middle = math.sqrt(low * high)
        is_caught = catch_probability(num_uniform, num_targeted, middle, spread) >= POWER
        low, high = (low, middle) if is_caught else (middle, high)
    return high


def plan(num_rows: int, minimum: int, spread: Spread, leak_nats: float | None = None) -> Plan:
    """Return the smallest audit that catches a leak of `leak_nats` with probability `POWER`.

    Args:
        num_rows: Rows of the text: the most positions there can be.
        minimum: Fewest positions.
        spread: What is known of honest claims.
        leak_nats: The leak that matters; None takes the minimum.

    Returns:
        The best there is where the rows do not suffice; its `power` says so.
    """
    size = min(minimum, num_rows)
    while True:
        splits = [(size - round(size * share), round(size * share)) for share in _SPLITS]
        if leak_nats is None or size >= num_rows:
            break
        if max(catch_probability(*split, leak_nats, spread) for split in splits) >= POWER:
            break
        size = min(num_rows, math.ceil(size * _GROWTH))
    plans = [rate(Plan(u, t, None, 0.0), spread, leak_nats) for u, t in splits]
    return min(plans, key=lambda found: (-min(found.power or 0.0, POWER), found.smallest_leak))


def rate(planned: Plan, spread: Spread, leak_nats: float | None) -> Plan:
    """Return the same audit with what it catches among differences as `spread` has them."""
    uniform, targeted = planned.num_uniform, planned.num_targeted
    power = None if leak_nats is None else catch_probability(uniform, targeted, leak_nats, spread)
    return Plan(uniform, targeted, power, smallest_leak(uniform, targeted, spread))


def frequency_reference(text: Text) -> np.ndarray:
    """Return float16 (num_rows, context): nats of each target by the frequencies of tokens in the text."""
    targets = text.rows[:, 1:]
    counts = np.bincount(targets[text.counts], minlength=int(text.rows.max()) + 1)
    nll = -np.log((counts + 1.0) / (counts.sum() + len(counts)))
    reference: np.ndarray = nll.astype(np.float16)[targets]
    return reference


def gains_on(log_p: np.ndarray, reference: np.ndarray, text: Text) -> np.ndarray:
    """Return float32 (num_rows, context): by how many nats a claim is better than the reference, else 0."""
    gains = reference.astype(np.float32)
    gains += log_p
    np.maximum(gains, 0.0, out=gains)
    gains[~text.counts] = 0.0
    return gains


def measure_spread(
    gains: np.ndarray,
    reference: np.ndarray,
    text: Text,
    *,
    tolerance: float,
    noise: float,
    leak_nats: float | None,
) -> Spread:
    """Return the spread of honest claims as one claim and the reference show it.

    Args:
        gains: Of `gains_on`.
        reference: Nats of each target; what a leak gains at most there.
        text: The rows.
        tolerance: What one position may be off.
        noise: Standard deviation of honest differences.
        leak_nats: A leak of this size must be possible at `max_gain`; None: the largest of all.
    """
    num_counted = max(1, int(np.count_nonzero(text.counts)))
    mean_square = float(np.einsum("ij,ij->", gains, gains, dtype=np.float64)) / num_counted
    flat = reference[text.counts]
    ordered = np.sort(flat[:: max(1, flat.size // _SAMPLE)].astype(np.float32))[::-1]
    possible = ordered * np.arange(1, ordered.size + 1) / max(1, ordered.size)
    enough = np.flatnonzero(possible >= (leak_nats or 0.0))
    largest = float(ordered[enough[0]]) if enough.size else tolerance
    return Spread(tolerance, max(mean_square, 1e-6), max(largest, tolerance), noise)


def draw_targeted(
    text: Text,
    gains: np.ndarray,
    taken: np.ndarray,
    num_positions: int,
    rng: np.random.Generator,
) -> Positions:
    """Draw positions in proportion to the squared gain, in rows that are not taken, no row twice.

    Args:
        text: The rows.
        gains: float32 (num_rows, context) of `gains_on`.
        taken: Rows that the uniform part uses.
        num_positions: How many; fewer if there are fewer rows with a gain.
        rng: Secret.
    """
    totals = np.einsum("ij,ij->i", gains, gains, dtype=np.float64)
    totals[taken] = 0.0
    rows = np.flatnonzero(totals > 0.0)
    # The largest of log weight plus Gumbel noise: drawing without replacement in proportion to the weights.
    keys = np.log(totals[rows]) + rng.gumbel(size=rows.size)
    rows = rows[np.argsort(-keys)[:num_positions]]
    sums = np.cumsum(np.square(gains[rows], dtype=np.float64), axis=1)
    drawn = rng.random(rows.size) * sums[:, -1]
    columns = np.minimum((sums <= drawn[:, None]).sum(axis=1), text.rows.shape[1] - 2)
    return Positions(rows, columns, np.zeros(rows.size))
