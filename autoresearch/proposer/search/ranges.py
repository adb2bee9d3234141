"""Where the value of a constant may go: a range and a scale, from its comment, its name and its value.

A comment may say it: `[0.01, 0.1]`, `0.01..0.1`, `0.01 to 0.1`, `one of 1, 2, 4`, `at least 1`, `at most 8`,
`multiple of 64`, `divides N_EMBD`, `power of two`, `fixed`. Else rates move on a log scale, sizes by powers of two,
counts by whole steps, shares between 0 and 1, and numbers just below 1 (momenta) by their distance from 1. A
stated range is a limit, not a place to draw from: the search stays near the present value and moves with it.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from autoresearch.proposer.search.constants import Constant, Number

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Scale = Literal["log", "linear", "soft", "octaves", "steps", "momentum", "choices"]
_LOG_SCALES = ("log", "momentum", "soft")

_NUMBER = r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?:\s*\*\*\s*\d+)?"
_PAIR = (
    re.compile(rf"[\[(]\s*({_NUMBER})\s*,\s*({_NUMBER})\s*[\])]"),
    re.compile(rf"({_NUMBER})\s*\.\.\.?\s*({_NUMBER})"),
    re.compile(rf"(?:range|between|from)?:?\s*({_NUMBER})\s*(?:to|and)\s*({_NUMBER})"),
)
_CHOICES = (
    re.compile(rf"(?:one of|choices?:?|try)\s*((?:{_NUMBER}\s*(?:,|\bor\b)\s*)+{_NUMBER})"),
    re.compile(rf"\{{\s*((?:{_NUMBER}\s*,\s*)+{_NUMBER})\s*\}}"),
)
_LEAST = re.compile(rf"(?:at least|>=|minimum|min)\s*({_NUMBER})")
_MOST = re.compile(rf"(?:at most|<=|maximum|max)\s*({_NUMBER})")
_MOST_NAMED = re.compile(r"(?:at most|<=|up to)\s*`?([a-z][a-z0-9_.]*)")
_STEP = re.compile(r"(?:multiples? of|divisible by)\s+(\d[\d_]*)")
_FIXED = re.compile(
    r"\b(?:fixed|do not (?:change|touch|tune)|not searched|must match|must stay)\b", re.IGNORECASE
)
_POWER = re.compile(r"\bpowers? of (?:two|2)\b", re.IGNORECASE)
_SHARE = re.compile(r"\b(?:fraction|share|ratio of the|probability|portion)\b", re.IGNORECASE)

_SHARE_NAME = re.compile(
    r"(?:FRAC|FRACTION|RATIO|SHARE|PROB|DROPOUT|WARMUP|WARMDOWN|COOLDOWN|DECAY_FROM)"
)
_SIZE_NAME = re.compile(
    r"(?:BATCH|ACCUM|DIM|SIZE|EMBD|WIDTH|HIDDEN|CONTEXT|LEN|TOKENS|WINDOW|ROWS|CHANNELS)"
)
_RATE_NAME = re.compile(r"(?:^|_)(?:LR|LRS|RATE)(?:_|$|\[)")
_SEED_NAME = re.compile(r"(?:^|_)SEED(?:_|$|\[)")
_FIXED_NAME = re.compile(
    r"(?:^|_)(?:VOCAB|VERSION|MAX_SEQ_LEN|BUDGET|DEVICE_ID|LOG|PRINT|EPS|EPSILON)(?:_|$)"
)

_FACTOR = 4.0
"""How far a value may go from where it is, on either side, in one proposal."""
_REACH = 0.35
"""The same for linear scales, as a share of the stated range."""


@dataclass(frozen=True)
class Range:
    """Values a constant may take, as one of Optuna's distributions over a parameter that stands for the value."""

    constant: Constant
    scale: Scale
    low: float
    """In values, inclusive."""
    high: float
    step: int = 1
    choices: tuple[Number, ...] = ()

    @property
    def distribution(self) -> "BaseDistribution":
        """Optuna's distribution of the parameter."""
        from optuna import distributions as optuna

        if self.scale == "choices":
            return optuna.CategoricalDistribution(self.choices)
        low, high = sorted((self._parameter(self.low), self._parameter(self.high)))
        if self.scale in ("octaves", "steps"):
            return optuna.IntDistribution(round(low), round(high), step=self.step)
        return optuna.FloatDistribution(low, high, log=self.scale in _LOG_SCALES)

    def _parameter(self, value: float) -> float:
        match self.scale:
            case "octaves":
                return math.log2(value / self.constant.value)
            case "momentum":
                return 1 - value
            case "soft":
                return value + self.constant.value / 2
        return value

    def encode(self, value: float) -> Number | None:
        """Return the parameter that stands for a value, None for a value outside the range."""
        if self.scale == "choices":
            return next((choice for choice in self.choices if choice == value), None)
        margin = 1e-9 * max(1.0, abs(self.low), abs(self.high))
        if not self.low - margin <= value <= self.high + margin:
            return None
        parameter = self._parameter(min(max(value, self.low), self.high))
        if self.scale not in ("octaves", "steps"):
            return parameter
        whole = round(parameter)
        is_exact = abs(parameter - whole) < 1e-6 and (whole - round(self.low)) % self.step == 0
        return whole if is_exact or self.scale == "octaves" else None

    def decode(self, parameter: Number) -> Number:
        """Return the allowed value a parameter stands for, rounded as you would write it."""
        present = self.constant.value
        if self.scale == "choices":
            return parameter
        if self.scale == "octaves":
            value: Number = round(present * 2.0 ** round(parameter))
            return int(min(max(value, self.low), self.high))
        if self.scale == "steps":
            whole = round(parameter / self.step) * self.step
            return int(min(max(whole, math.ceil(self.low)), math.floor(self.high)))
        if self.scale == "momentum":
            gap = min(max(parameter, 1 - self.high), 1 - self.low)
            return float(round(1 - _rounded(gap), 9))
        value = parameter - present / 2 if self.scale == "soft" else parameter
        value = min(max(_rounded(value), self.low), self.high)
        return max(1, round(value)) if self.constant.is_int else value

    @property
    def notch(self) -> float:
        """A first step worth trying: in powers of two on a log scale, else in parameters."""
        if self.scale in _LOG_SCALES:
            ratio = self._parameter(self.high) / self._parameter(self.low)
            return min(1.0, abs(math.log2(ratio)) / 2)
        if self.scale == "steps":
            return max(float(self.step), round(0.15 * (self.high - self.low)))
        return 0.2 * (self.high - self.low) if self.scale == "linear" else 1.0

    def moved(self, notches: float) -> Number:
        """Return the allowed value so many notches from the present one."""
        present = self.constant.value
        if self.scale == "choices":
            place = self.choices.index(present) + round(notches)
            return self.choices[min(max(place, 0), len(self.choices) - 1)]
        if self.scale in _LOG_SCALES:
            sign = -1 if self.scale == "momentum" else 1
            return self.decode(self._parameter(present) * 2.0 ** (sign * notches * self.notch))
        return self.decode(self._parameter(present) + notches * self.notch)


def find_range(constant: Constant, known: Mapping[str, float] | None = None) -> Range | None:
    """Return where a constant may go, or None if it is not to be searched.

    Args:
        constant: The constant at its present value.
        known: Numbers of the lab a comment may name, as in `at most max_seq_len`.
    """
    name, value, comment = constant.name, constant.value, constant.comment
    if _SEED_NAME.search(name) or _FIXED_NAME.search(name) or _FIXED.search(comment):
        return None
    choices = _stated_choices(constant)
    if choices:
        return Range(constant, "choices", choices[0], choices[-1], choices=choices)
    stated = _stated_pair(constant)
    low, high = _limits(comment, stated or (-math.inf, math.inf), known or {})
    if not low <= value <= high:
        return None
    found = _whole(constant, low, high) if constant.is_int else _real(constant, low, high)
    return found if found is not None and found.low < found.high else None


def _whole(constant: Constant, low: float, high: float) -> Range | None:
    value = int(constant.value)
    step = int(match.group(1).replace("_", "")) if (match := _STEP.search(constant.comment)) else 1
    if step < 1 or value % step:
        step = 1
    is_power = value > 0 and value & (value - 1) == 0
    is_size = _POWER.search(constant.comment) or (
        is_power and (value >= 32 or _SIZE_NAME.search(constant.name))
    )
    if value > 0 and is_size:
        down = math.floor(math.log2(min(_FACTOR, value / max(low, 1))) + 1e-9)
        up = math.floor(math.log2(min(_FACTOR, high / value)) + 1e-9)
        while down > 0 and value % 2**down:
            down -= 1
        return Range(constant, "octaves", value / 2.0**down, value * 2.0**up)
    if value >= 1000 and step == 1:
        return Range(constant, "log", max(low, value / _FACTOR), min(high, value * _FACTOR))
    if value <= 0 and math.isinf(low):
        return None
    if value == 0 == low and 32 <= high < math.inf and step == 1:  # 0 means off, or no limit
        parts = tuple(int(high) // 2**n for n in range(1, 5))
        return Range(constant, "choices", 0, parts[0], choices=(0, *reversed(parts)))
    near = max(value // step // 2, 2) * step
    low = max(step if math.isinf(low) else low, value - near)
    high = min(high, value + 2 * near)
    return Range(
        constant, "steps", math.ceil(low / step) * step, math.floor(high / step) * step, step
    )


def _real(constant: Constant, low: float, high: float) -> Range | None:
    value = float(constant.value)
    is_bounded = math.isfinite(low) and math.isfinite(high)
    is_share = _SHARE_NAME.search(constant.name) or _SHARE.search(constant.comment)
    if not is_bounded and is_share and 0 <= value <= 1:
        low, high = max(low, 0.0), min(high, 0.3 if value < 0.1 else 1.0)
        is_bounded = True
    is_near_one = 0.8 <= value < 1 and not _RATE_NAME.search(constant.name)
    if is_near_one and (not is_bounded or (high <= 1 and not is_share)):
        gap = 1 - value
        return Range(
            constant,
            "momentum",
            max(low, 0.5, 1 - gap * _FACTOR),
            min(high, 1 - gap / _FACTOR),
        )
    if is_bounded and low == 0 < value < high / _FACTOR:
        return Range(constant, "soft", low, min(high, value * _FACTOR))
    if is_bounded and not (low > 0 and high / low >= 8):
        reach = _REACH * (high - low)
        return Range(constant, "linear", max(low, value - reach), min(high, value + reach))
    if value == 0:
        return Range(constant, "linear", max(low, 0.0), min(high, 0.2))
    if value < 0:
        return Range(constant, "linear", max(low, value * 2), min(high, 0.0))
    return Range(constant, "log", max(low, value / _FACTOR), min(high, value * _FACTOR))


def _stated_pair(constant: Constant) -> tuple[float, float] | None:
    for pattern in _PAIR:
        for match in pattern.finditer(constant.comment):
            low, high = _to_number(match.group(1)), _to_number(match.group(2))
            if low < high and low <= constant.value <= high:
                return low, high
    return None


def _stated_choices(constant: Constant) -> tuple[Number, ...]:
    for pattern in _CHOICES:
        match = pattern.search(constant.comment)
        if match is None:
            continue
        numbers = [_to_number(text) for text in re.findall(_NUMBER, match.group(1))]
        values = {round(n) if constant.is_int else float(n) for n in numbers}
        if constant.value in values and len(values) > 1:
            return tuple(sorted(values))
    return ()


def _limits(
    comment: str, stated: tuple[float, float], known: Mapping[str, float]
) -> tuple[float, float]:
    low, high = stated
    for match in _LEAST.finditer(comment):
        low = max(low, _to_number(match.group(1)))
    for match in _MOST.finditer(comment):
        high = min(high, _to_number(match.group(1)))
    for match in _MOST_NAMED.finditer(comment):
        high = min(high, known.get(match.group(1), math.inf))
    return low, high


def _to_number(text: str) -> float:
    base, _, exponent = text.replace("_", "").replace(" ", "").partition("**")
    return float(base) ** int(exponent) if exponent else float(base)


def _rounded(value: float) -> float:
    """Return a number with two significant digits, three where it starts with 1 or 2."""
    if value == 0:
        return 0.0
    digits = 2 if f"{abs(value):e}"[0] not in "12" else 3
    return float(f"{value:.{digits}g}")
