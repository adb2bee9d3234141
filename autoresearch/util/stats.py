"""The normal and Student distributions as far as the keep rule needs them; numpy and math only.

The normal tail functions are read from tables made once with `math.erfc`, so that they work on whole
arrays without SciPy: linear interpolation on a step of 0.004 is good to 1e-5 relative, far below what noise that is
known from a handful of trials can resolve. Left of the table the asymptotic series takes over.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LOW, _HIGH, _STEP = -30.0, 10.0, 0.004
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def _tail_series(x: float) -> float:
    """Return the ratio Phi(x) * -x / phi(x) for x far below zero."""
    q = 1.0 / (x * x)
    return 1 - q * (1 - 3 * q * (1 - 5 * q * (1 - 7 * q)))


def _tables() -> tuple[Floats, Floats, Floats, Floats]:
    grid = np.arange(_LOW, _HIGH + _STEP / 2, _STEP)
    log_cdf, shift, spread = np.empty_like(grid), np.empty_like(grid), np.empty_like(grid)
    for i, x in enumerate(grid.tolist()):
        if x > -25:
            log_cdf[i] = math.log(0.5 * math.erfc(-x / math.sqrt(2)))
        else:
            log_cdf[i] = -0.5 * x * x - _HALF_LOG_2PI - math.log(-x) + math.log(_tail_series(x))
        ratio = math.exp(-0.5 * x * x - _HALF_LOG_2PI - log_cdf[i])
        shift[i] = ratio
        spread[i] = _tail_variance(x) if x < -12 else 1 - ratio * (ratio + x)
    return grid, log_cdf, shift, spread


def _tail_variance(x: float) -> float:
    q = 1.0 / (x * x)
    return q * (1 - 6 * q + 50 * q * q)


_, _LOG_CDF, _SHIFT, _SPREAD = _tables()


def _place(x: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Return the node of the tables at or below `x` and how far beyond it `x` is, 0 to 1."""
    at = np.clip((x - _LOW) / _STEP, 0.0, len(_LOG_CDF) - 1.001)
    node = at.astype(np.intp)
    return node, at - node


def _read(table: Floats, node: NDArray[np.intp], beyond: Floats) -> Floats:
    left: Floats = table[node]
    return left + beyond * (table[node + 1] - left)


def log_cdf(x: Floats) -> Floats:
    """Return log Phi(x) of the standard normal."""
    found = _read(_LOG_CDF, *_place(x))
    if np.min(x, initial=0.0) >= _LOW:
        return found
    far = np.minimum(x, _LOW)
    return np.where(x < _LOW, -0.5 * far * far - _HALF_LOG_2PI - np.log(-far), found)


def cut_normal(x: Floats) -> tuple[Floats, Floats, Floats]:
    """Describe a standard normal cut to values below `x`.

    Returns:
        The log of what is left of it, log Phi(x); the distance of its mean below 0, phi(x) / Phi(x); its variance.
    """
    node, beyond = _place(x)
    found = (_read(table, node, beyond) for table in (_LOG_CDF, _SHIFT, _SPREAD))
    if np.min(x, initial=0.0) >= _LOW:
        log_left, shift, spread = found
        return log_left, shift, spread
    far = np.minimum(x, _LOW)
    tails = (-0.5 * far * far - _HALF_LOG_2PI - np.log(-far), -far - 1 / far, 1 / (far * far))
    log_left, shift, spread = (np.where(x < _LOW, t, f) for t, f in zip(tails, found, strict=True))
    return log_left, shift, spread


def log_density(x: Floats, variance: Floats) -> Floats:
    """Return the log density at `x` of a normal with mean 0."""
    return -0.5 * x * x / variance - 0.5 * np.log(variance) - _HALF_LOG_2PI


def student_cdf(t: float, degrees: float) -> float:
    """Return P(T <= t) of Student's distribution."""
    if math.isinf(t):
        return 0.0 if t < 0 else 1.0
    tail = 0.5 * _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t))
    return tail if t < 0 else 1 - tail


def student_quantile(p: float, degrees: float) -> float:
    """Return t with P(T <= t) = p, for 0 < p < 1."""
    if p < 0.5:
        return -student_quantile(1 - p, degrees)
    low, high = 0.0, 1.0
    while student_cdf(high, degrees) < p:
        high *= 2
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if student_cdf(middle, degrees) < p else (low, middle)
    return 0.5 * (low + high)


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function by its continued fraction (Lentz)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    tiny = 1e-300
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > tiny else tiny)
    total = d
    for m in range(1, 500):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for term in (even, odd):
            d = 1 + term * d
            d = 1 / (d if abs(d) > tiny else tiny)
            c = 1 + term / c
            c = c if abs(c) > tiny else tiny
            change = d * c
            total *= change
        if abs(change - 1) < 1e-14:
            break
    return front * total / a
