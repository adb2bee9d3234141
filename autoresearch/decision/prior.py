"""What is believed before the first trial: how large the noise may be, and what effects ideas have.

Both are grids of values with weights, so that a session learns which of them it lives in; see `decision/posterior.py`.
"""

import math
from dataclasses import dataclass

import numpy as np

from autoresearch.util.stats import Floats

NOISE_MEDIAN = 0.0006
"""bpb; middle of the noise reported for runs of five minutes on one GPU (0.0003 to 0.00076)."""
NOISE_SPREAD = 1.5
"""Standard deviation of log noise before any repeat: a factor of 4.5 either way, so CPU runs fit."""
NUM_NOISE_NODES = 7

GAIN_MEAN, HARM_MEAN, DISASTER_MEAN = 0.001, 0.0012, 10.0
"""bpb; fitted to the effects of a public log of 125 experiments."""
DISASTER_SHARE = 0.02
PRIOR_NOISE = 0.0005
"""Noise for which the scale of effects was fitted; on a noisier machine effects are taken as larger."""
SCALES = (0.5, 1.0, 2.0, 4.0, 16.0)
SCALE_SPREAD = 0.8
"""Standard deviation of the log of the scale before any candidate."""
SHARES = ((0.10, 0.20), (0.03, 0.20), (0.25, 0.20), (0.03, 0.70))
"""(share of gains, share of no effect) of each node; the rest harms."""
SHARE_WEIGHTS = (0.5, 0.2, 0.2, 0.1)


@dataclass(frozen=True)
class NoiseGrid:
    """Nodes for the unknown noise, placed where repeats say it is."""

    sigma: Floats
    """bpb, (..., J)."""
    centre: Floats
    """Geometric mean of the noise given the repeats it was placed by, (...,)."""
    correlation: Floats
    """Share of the variance that trials on one seed have in common, (...,)."""

    @property
    def log_prior(self) -> Floats:
        """Log prior of the nodes, normalised, (..., J)."""
        return normalise(_log_noise_prior(np.log(self.sigma)))


def _log_noise_prior(log_sigma: Floats) -> Floats:
    return np.asarray(-0.5 * ((log_sigma - math.log(NOISE_MEDIAN)) / NOISE_SPREAD) ** 2)


def noise_grid(squares: Floats, degrees: Floats, correlation: Floats) -> NoiseGrid:
    """Place the nodes where the posterior of the noise is.

    Args:
        squares: Sum of squared residuals of repeats about their own means, (...,).
        degrees: Their degrees of freedom, (...,).
        correlation: Of trials on the same seed, (...,).
    """
    squares, degrees = np.asarray(squares, float)[..., None], np.asarray(degrees, float)[..., None]
    fine = np.linspace(math.log(1e-6), math.log(1.0), 300)
    logs = _log_noise_prior(fine) - degrees * fine - 0.5 * squares * np.exp(-2 * fine)
    weight = np.exp(normalise(logs))
    mean = np.sum(weight * fine, axis=-1, keepdims=True)
    spread = np.sqrt(np.sum(weight * (fine - mean) ** 2, axis=-1, keepdims=True) + 1e-6)
    nodes = mean + spread * np.linspace(-2.2, 2.2, NUM_NOISE_NODES)
    return NoiseGrid(np.exp(nodes), np.exp(mean[..., 0]), np.asarray(correlation, float))


def log_sum(logs: Floats) -> Floats:
    """Return log(sum(exp(logs))) over the last axis."""
    top = np.max(logs, axis=-1, keepdims=True)
    total: Floats = top + np.log(np.sum(np.exp(logs - top), axis=-1, keepdims=True))
    return total[..., 0]


def normalise(logs: Floats) -> Floats:
    """Return logs whose exponentials sum to 1 over the last axis."""
    return logs - log_sum(logs)[..., None]


@dataclass(frozen=True)
class Prior:
    """Effects to expect: parts by their log share and their signed mean; arrays (..., J, K)."""

    log_gain: Floats
    log_null: Floats
    log_harm: Floats
    log_disaster: Floats
    gain_mean: Floats
    harm_mean: Floats
    log_weight: Floats
    """Of each node before any candidate, (K,)."""


def default_prior(grid: NoiseGrid) -> Prior:
    """Return the documented default: 10 % gains of mean 0.001, 20 % nothing, 70 % harms of 0.0012."""
    unit = np.maximum(1.0, grid.centre / PRIOR_NOISE)[..., None, None]
    scale = np.repeat(np.array(SCALES), len(SHARES))
    gain = np.tile(np.array([g for g, _ in SHARES]), len(SCALES))
    null = np.tile(np.array([n for _, n in SHARES]), len(SCALES))
    weight = np.exp(-0.5 * (np.log(scale) / SCALE_SPREAD) ** 2) * np.tile(
        SHARE_WEIGHTS, len(SCALES)
    )
    rest = 1 - DISASTER_SHARE
    return Prior(
        log_gain=np.log(gain * rest),
        log_null=np.log(null * rest),
        log_harm=np.log((1 - gain - null) * rest),
        log_disaster=np.full_like(gain, math.log(DISASTER_SHARE)),
        gain_mean=GAIN_MEAN * scale * unit,
        harm_mean=HARM_MEAN * scale * unit,
        log_weight=np.log(weight / weight.sum()),
    )
