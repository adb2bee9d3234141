"""The posterior of one candidate's true effect: what its trials measured, combined with the prior."""

from dataclasses import dataclass

import numpy as np

from autoresearch.decision.prior import DISASTER_MEAN, Prior
from autoresearch.util.stats import Floats, cut_normal, log_cdf, log_density


@dataclass(frozen=True)
class Effect:
    """Posterior of one candidate's true effect: a mixture over nodes and parts."""

    measured: Floats
    """Best estimate without the prior, (..., J, K)."""
    variance: Floats
    """Of `measured`, (..., J, K)."""
    weights: tuple[Floats, ...]
    """Posterior weight of gain, nothing, harm, disaster, over all nodes summing to 1; (..., J, K) each."""
    centres: tuple[Floats, ...]
    """Centre of the normal that is cut at zero, for each part."""
    node_mean: Floats
    """Posterior mean within each node, (..., J, K)."""
    node_variance: Floats
    log_first: Floats
    """How well each node predicted the first trial, (..., J, K)."""
    log_repeats: Floats
    """How well it predicted the further trials given the first; 0 where there is one trial."""

    @property
    def mean(self) -> Floats:
        """Posterior mean, (...,)."""
        weight = sum(self.weights[1:], self.weights[0])
        return np.asarray(np.sum(weight * self.node_mean, axis=(-2, -1)))

    def below(self, x: float | Floats) -> Floats:
        """Return P(effect < x), (...,); what is exactly 0 is not below 0."""
        if isinstance(x, float) and x == 0.0:
            return np.asarray(np.clip(np.sum(self.weights[0], axis=(-2, -1)), 0.0, 1.0))
        x = np.asarray(x, float)[..., None, None]
        sd = np.sqrt(self.variance)
        gain, null, harm, disaster = self.weights
        total: Floats = np.where(
            x < 0,
            gain
            * np.exp(
                log_cdf((np.minimum(x, 0) - self.centres[0]) / sd) - log_cdf(-self.centres[0] / sd)
            ),
            gain,
        )
        total = total + np.where(x > 0, null, 0.0)
        for weight, centre in ((harm, self.centres[2]), (disaster, self.centres[3])):
            above = np.exp(log_cdf((centre - np.maximum(x, 0)) / sd) - log_cdf(centre / sd))
            total = total + weight * np.where(x > 0, 1 - above, 0.0)
        return np.asarray(np.clip(np.sum(total, axis=(-2, -1)), 0.0, 1.0))

    def quantile(self, p: float) -> float:
        """Return the effect below which lies a share `p`; for one candidate only."""
        reach = 12 * float(np.sqrt(np.max(self.variance)))
        low = float(np.min(self.measured)) - reach
        high = float(np.max(self.measured)) + reach
        low, high = min(low, -reach), max(high, reach)
        for _ in range(5):
            grid = np.linspace(low, high, 33)
            first = int(np.searchsorted(np.maximum.accumulate(self.below(grid)), p))
            low, high = float(grid[max(first - 1, 0)]), float(grid[min(first, 32)])
        # A share of exactly 0 is a step: what lies within rounding of it is it.
        edge = 0.5 * (low + high)
        return 0.0 if abs(edge) < 2 * (high - low) + 1e-12 else edge


def effect_posterior(
    measured: Floats, variance: Floats, prior: Prior, log_weight: Floats
) -> Effect:
    """Combine a measured difference with the prior.

    Args:
        measured: Candidate minus incumbent by the trials alone, (..., J, K).
        variance: Of it, luck and the incumbent's uncertainty included, (..., J, K).
        prior: What effects to expect.
        log_weight: Of each node, (..., J, K), normalised.
    """
    sd = np.sqrt(variance)
    logs, centres, means, variances = [], [], [], []
    parts = (
        (prior.log_gain, prior.gain_mean, -1.0),
        (prior.log_harm, prior.harm_mean, 1.0),
        (prior.log_disaster, np.asarray(DISASTER_MEAN), 1.0),
    )
    for log_share, scale, sign in parts:
        # An exponential of this scale times the likelihood is a normal cut at zero.
        towards = sign * measured - variance / scale
        tail, shift, spread = cut_normal(towards / sd)
        logs.append(
            log_share - np.log(scale) + 0.5 * variance / scale**2 - sign * measured / scale + tail
        )
        centres.append(sign * towards)
        means.append(sign * (towards + sd * shift))
        variances.append(variance * spread)
    logs.insert(1, prior.log_null + log_density(measured, variance))
    centres.insert(1, np.zeros_like(measured))
    means.insert(1, np.zeros_like(measured))
    variances.insert(1, np.zeros_like(measured))

    stacked = np.stack(np.broadcast_arrays(*logs))
    top = stacked.max(axis=0)
    shares = np.exp(stacked - top)
    total = shares.sum(axis=0)
    shares /= total
    node_mean = sum(s * m for s, m in zip(shares, means, strict=True))
    node_second = sum(s * (v + m * m) for s, m, v in zip(shares, means, variances, strict=True))
    node_mean = np.asarray(node_mean)
    weight = np.exp(log_weight)
    return Effect(
        measured=measured,
        variance=variance,
        weights=tuple(weight * s for s in shares),
        centres=tuple(np.broadcast_to(c, measured.shape) for c in centres),
        node_mean=node_mean,
        node_variance=np.maximum(np.asarray(node_second) - node_mean**2, 0.0),
        log_first=np.asarray(top + np.log(total)),
        log_repeats=np.zeros_like(node_mean),
    )
