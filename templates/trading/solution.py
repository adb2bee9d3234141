"""Holds positions in many markets, decided again each day from prices so far. `positions` is called once a day."""

import numpy as np

LOOKBACK = 3  # days over which a trend is seen [2, 90]
THRESHOLD = 0.0  # trend, in standard deviations of its noise, below which nothing changes [0, 3]
TARGET = (
    0.0  # how far positions shrink where prices move much: 0 not at all, 1 in proportion [0, 1]
)

history: list[np.ndarray] = []
held: np.ndarray | None = None


def positions(day: int, prices: np.ndarray) -> np.ndarray:
    """Return the position in each market until tomorrow, from -1 (all sold) to 1 (all bought).

    Args:
        day: 0 for the first; then what was remembered is forgotten.
        prices: Today's closing prices, one for each market.
    """
    global held  # noqa: PLW0603 - state lives between calls
    if day == 0:
        history.clear()
        held = np.zeros(len(prices))
    history.append(np.log(prices))
    assert held is not None
    if len(history) <= LOOKBACK:
        return held
    recent = np.diff(np.array(history[-max(LOOKBACK, 20) - 1 :]), axis=0)
    spread = recent.std(axis=0) + 1e-9
    trend = (history[-1] - history[-1 - LOOKBACK]) / (spread * np.sqrt(LOOKBACK))
    size = (0.01 / spread) ** TARGET
    held = np.where(np.abs(trend) > THRESHOLD, np.clip(np.sign(trend) * size, -1, 1), held)
    return held
