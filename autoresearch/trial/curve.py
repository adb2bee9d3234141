"""The curve of one training, from the numbers a child logs: they steer views and end what is hopeless, no more."""

import math
from collections.abc import Mapping
from typing import Any

from autoresearch.trial.telemetry import one_line
from autoresearch.types import CurvePoint

_MAX_POINTS = 600
_MAX_VALUES = 16
_NUM_NAN = 3
_NUM_LOSSES = 5


class HopelessError(Exception):
    """The loss says that nothing will come of this training.

    Args:
        reason: `nan` or `diverged`.
        detail: One sentence.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Curve:
    """Keeps at most 600 points, evenly thinned.

    Args:
        budget_seconds: Of the training.
        divergence_loss: Loss in nats above which, after a tenth of the budget, a training has diverged; None never.
    """

    def __init__(self, budget_seconds: float, divergence_loss: float | None) -> None:
        self.points: list[CurvePoint] = []
        self._budget_seconds = budget_seconds
        self._divergence_loss = divergence_loss
        self._losses: list[float] = []
        self._num_nan = 0
        self._num_logged = 0
        self._keep_every = 1

    @property
    def ends_in_nan(self) -> bool:
        """Whether the last logged loss was not finite."""
        return self._num_nan > 0

    def add(self, values: Mapping[str, Any], seconds: float, num_tokens: int) -> None:
        """Take what was logged `seconds` into the training; what is no number is passed over.

        Raises:
            HopelessError: the loss has been NaN, or far too high, for several in a row.
        """
        numbers: dict[str, float] = {}
        for name, value in list(values.items())[:_MAX_VALUES]:
            number = _number(value)
            if number is not None:
                numbers[one_line(str(name), 40)] = number
        loss = numbers.pop("loss", None)
        if loss is not None:
            self._look_at(loss, seconds / self._budget_seconds)
        self._num_logged += 1
        if self._num_logged % self._keep_every:
            return
        finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
        kept = loss if loss is not None and math.isfinite(loss) else None
        self.points.append(CurvePoint(round(seconds, 3), num_tokens, kept, finite))
        if len(self.points) >= _MAX_POINTS:
            del self.points[::2]
            self._keep_every *= 2

    def _look_at(self, loss: float, spent: float) -> None:
        if not math.isfinite(loss):
            self._num_nan += 1
            if self._num_nan >= _NUM_NAN:
                raise HopelessError("nan", f"the loss became {loss}")
            return
        self._num_nan = 0
        self._losses.append(loss)
        del self._losses[:-_NUM_LOSSES]
        limit = self._divergence_loss
        if limit is not None and spent > 0.1 and len(self._losses) == _NUM_LOSSES:
            median = sorted(self._losses)[_NUM_LOSSES // 2]
            if median > limit:
                raise HopelessError(
                    "diverged",
                    f"the loss was {median:.3g} after {spent:.0%} of the budget, above {limit:.3g}",
                )


def _number(value: object) -> float | None:
    """Return a logged value as a float, None if it is no number; JSON has integers that no float holds."""
    if isinstance(value, bool) or not (
        isinstance(value, int | float) or value in ("nan", "inf", "-inf")
    ):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
