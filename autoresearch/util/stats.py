"""Student's t distribution, with math alone: numpy would be half the start-up time of `log`."""

import math


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


def decimals(error: float | None) -> int:
    """Return how many decimals show two digits of an error: at least two, at most six, which is where it is unknown."""
    if not error or not math.isfinite(error):
        return 6
    return min(max(1 - math.floor(math.log10(abs(error))), 2), 6)
