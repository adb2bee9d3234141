"""TIME_BUDGET as a script of upstream's shape sees it: a number of seconds, and the lab's clock."""

import itertools
import math
import statistics
import time
from typing import Any

from autoresearch.trial.child.compat.lab import Lab

_UNCOUNTED_STEPS = 12
"""One more than the steps that a script of upstream's shape does not time."""

_SPARE_STEPS = 1.5


def spent() -> float:
    """Return the share of the budget that is spent; 1 while one and a half steps still fit."""
    elapsed = time.monotonic() - Lab.started_at
    times = list(Lab.steps)
    seconds = [b - a for a, b in itertools.pairwise(times)]
    reserve = _SPARE_STEPS * statistics.median(seconds) if seconds else 0.0
    return max(0.0, elapsed) / max(Lab.budget_seconds - reserve, 1e-9)


_UNITS = (1 / 60, 1 / 3600, 1e3, 1e6, 1e9)
"""Factors that make minutes, hours, milliseconds and less of TIME_BUDGET; by others it becomes a part of itself."""


class Budget(float):
    """TIME_BUDGET: seconds, and the lab's clock where a script's own is divided by it or compared with it.

    Upstream's clock leaves out eleven steps, others start before the warm-up: a number of seconds that may be such a
    clock is taken for the lab's, any other is what it is. So it is with a part of it, in minutes, and with the time of
    day at which it ends.

    Attributes:
        unit: Seconds in what it counts.
        origin: What the script's clock shows at the beginning, in that unit.
    """

    unit = 1.0
    origin = 0.0

    def _like(self, value: float, unit: float, origin: float) -> "Budget":
        found = Budget(value)
        found.unit, found.origin = unit, origin
        return found

    def _on_lab_clock(self, reading: Any) -> Any:
        elapsed = time.monotonic() - Lab.started_at
        if not isinstance(reading, int | float) or isinstance(reading, Budget) or elapsed < 0:
            return reading
        behind = elapsed - (reading - self.origin) * self.unit
        startup = Lab.started_at - Lab.joined_at
        uncounted = elapsed if Lab.num_steps < _UNCOUNTED_STEPS else 0.0
        if -startup - 0.5 <= behind <= uncounted + Lab.slack + 0.1 * Lab.budget_seconds:
            return self.origin + spent() * Lab.budget_seconds / self.unit
        return reading

    def __mul__(self, factor: Any) -> Any:
        if not isinstance(factor, int | float):
            return NotImplemented
        unit = self.unit / factor if factor in _UNITS else self.unit
        return self._like(float(self) * factor, unit, self.origin * factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Any:
        if not isinstance(divisor, int | float):
            return NotImplemented
        part = self * (1 / divisor)
        return self._like(float(self) / divisor, part.unit, part.origin)

    def __add__(self, seconds: Any) -> Any:
        if not isinstance(seconds, int | float):
            return NotImplemented
        return self._like(float(self) + seconds, self.unit, self.origin + seconds)

    __radd__ = __add__

    def __rtruediv__(self, seconds: Any) -> Any:
        return self._on_lab_clock(seconds) / float(self)

    def __rsub__(self, seconds: Any) -> Any:
        return self._on_lab_clock(seconds) - float(self)

    def __sub__(self, seconds: Any) -> Any:
        return float(self) - self._on_lab_clock(seconds)

    def __le__(self, seconds: Any) -> bool:
        return bool(float(self) <= self._on_lab_clock(seconds))

    def __lt__(self, seconds: Any) -> bool:
        return bool(float(self) < self._on_lab_clock(seconds))

    def __ge__(self, seconds: Any) -> bool:
        return bool(float(self) >= self._on_lab_clock(seconds))

    def __gt__(self, seconds: Any) -> bool:
        return bool(float(self) > self._on_lab_clock(seconds))


def count_step(optimizer: object, *_: Any) -> None:
    """Note that an optimizer made a step; a hook of all optimizers."""
    if Lab.counted is None:
        Lab.counted = optimizer
    if optimizer is not Lab.counted or math.isinf(Lab.started_at):
        return
    Lab.num_steps += 1
    Lab.steps.append(time.monotonic())
    if Lab.num_steps == _UNCOUNTED_STEPS:
        Lab.slack += Lab.steps[-1] - Lab.started_at
