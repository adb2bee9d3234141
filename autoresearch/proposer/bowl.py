"""What a step of one constant can be expected to gain, from the few steps of it that were tried.

Around the present value the loss is taken to be a bowl over the constant's coordinate, f(x) = w ((x - b)^2 - b^2), of
which neither the bottom b nor the width w is known. A prior for both is drawn once; the recorded steps weigh the draws;
the expected gain of a step is the weighted mean of what is below the incumbent (Mockus 1978, expected improvement).

Trade-offs: a bowl is wrong far away and for choices without an order; a wide error for large effects keeps a cliff or
a crash from deciding what the near side looks like.
"""

from collections.abc import Sequence

import numpy as np

_NUM_DRAWS = 2000
_BOTTOM_SD = 0.8
"""Of the bottom about the present value, in notches: half of the bottoms are within half a notch."""
_WIDTH_SPREAD = 1.2
"""Standard deviation of the logarithm of the width."""
_LARGE_SHARE = 0.3
"""Error of an effect as a share of it, beside the noise."""


class Bowls:
    """Draws of the prior, shared by all constants of a program.

    Args:
        scale: Typical effect of a step of one notch, in bpb.
        noise: Standard deviation between trials of the same code, in bpb.
        rng: Where the draws come from.
    """

    def __init__(self, scale: float, noise: float, rng: np.random.Generator) -> None:
        self._noise = noise
        bottom = rng.normal(0.0, _BOTTOM_SD, _NUM_DRAWS // 2)
        width = scale * np.exp(rng.normal(0.0, _WIDTH_SPREAD, _NUM_DRAWS // 2))
        self._bottom = np.concatenate([bottom, -bottom])  # Neither side is favoured.
        self._width = np.concatenate([width, width])

    def gains(self, tried: Sequence[tuple[float, float]], steps: Sequence[float]) -> np.ndarray:
        """Return the expected gain of each step in bpb, what is within the noise not counted.

        Args:
            tried: (step in notches, measured effect in bpb) of the present value's neighbours.
            steps: Steps in notches.
        """
        log_weight = np.zeros(_NUM_DRAWS)
        for step, effect in tried:
            error = np.hypot(1.5 * self._noise, _LARGE_SHARE * abs(effect)) + 1e-12
            log_weight -= np.log1p(((self._at(step) - effect) / error) ** 2)  # heavy tails
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        return np.array([weight @ np.maximum(0.0, -self._at(s) - self._noise) for s in steps])

    def _at(self, step: float) -> np.ndarray:
        """The effect of a step under each draw."""
        effect: np.ndarray = self._width * step * (step - 2.0 * self._bottom)
        return effect
