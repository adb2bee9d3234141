"""Trades made-up markets, 64 at once, for 200 days, one answer a day before the next price exists.

A case is one market. Its score is the yearly Sharpe ratio of its daily returns after costs of 0.1 % of what is
bought or sold. Markets have stretches of trend, of calm and of turmoil, of unknown length, and jumps.

Hidden:
In test markets trends are weaker and shorter, turmoil is longer, and costs are 0.15 %.
"""

import numpy as np

from autoresearch.task import Candidate, Score, WrongAnswerError

MARKETS, DAYS = 64, 200


def markets(draw: np.random.Generator, split: str) -> np.ndarray:
    """Return daily log returns (days, markets)."""
    is_test = split == "test"
    stay = 0.97 if is_test else 0.98
    drift = np.zeros(MARKETS)
    wild = np.zeros(MARKETS, bool)
    rows = []
    for _ in range(DAYS):
        changes = draw.random(MARKETS) > stay
        size = 0.0020 if is_test else 0.0026
        drift = np.where(changes, size * draw.choice((-1.0, 0.0, 1.0), MARKETS), drift)
        wild ^= draw.random(MARKETS) < np.where(wild, 0.03 if is_test else 0.05, 0.02)
        noise = draw.standard_t(4, MARKETS) * np.where(wild, 0.018, 0.007)
        rows.append(drift + noise)
    return np.array(rows)


def evaluate(candidate: Candidate, seed: int, split: str) -> Score:
    """Return the Sharpe ratio of each market."""
    draw = np.random.default_rng([seed, split == "test"])
    returns = markets(draw, split)
    cost = 0.0015 if split == "test" else 0.001
    prices, held = np.full(MARKETS, 100.0), np.zeros(MARKETS)
    earned = np.zeros((DAYS, MARKETS))
    for day in range(DAYS):
        wanted = candidate.call("positions", day, prices)
        if (
            not isinstance(wanted, np.ndarray)
            or wanted.shape != (MARKETS,)
            or np.abs(wanted).max() > 1
        ):
            raise WrongAnswerError("a position from -1 to 1 of each market is wanted")
        earned[day] = wanted * np.expm1(returns[day]) - cost * np.abs(wanted - held)
        prices, held = prices * np.exp(returns[day]), wanted.astype(float)
    sharpe = np.sqrt(250) * earned.mean(axis=0) / (earned.std(axis=0) + 1e-4)
    return Score(sharpe.tolist())
