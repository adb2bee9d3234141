"""Empirical Bayes over true effects: what the trials of a session say about who is better.

The model. A trial of experiment e on seed s scores

    y = level[e] + luck[s] + own luck + audit error,

luck[s] ~ N(0, rho * sigma^2) shared by all trials on that seed, own luck ~ N(0, (1 - rho) * sigma^2), the
audit error with the variance the judge states. A candidate's level is its incumbent's plus an effect drawn
from a prior of four parts: a gain (exponential), nothing (exactly 0), a harm (exponential) and a disaster
(so flat that how bad it was teaches nothing). Its scale and shares are not known: a grid of them is carried
along and weighed by how well each predicted the candidates so far, so the prior learns in the session. The
noise sigma is a second grid, weighed only by repeats of the same code (never by candidates, whose spread is
no luck).

What is known of the incumbent's level and of the seeds' luck is a normal distribution per grid node, updated
by its own trials exactly, and by matching two moments when a candidate, whose effect is not normal, takes
its place: the candidate's *posterior* becomes the new level. A lucky draw is taken over shrunk, so luck does
not ratchet.

All arrays may carry leading axes: one session here, thousands side by side in `bench/keep_rule.py`.

Trade-offs: one noise for all experiments of a session; moments instead of the exact mixture.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from autoresearch.lab.normal import Floats, log_cdf, log_density, truncated_moments

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
FLAT_VARIANCE = 1.0
"""Variance of a level nothing is known of, in bpb^2."""


@dataclass(frozen=True)
class NoiseGrid:
    """Posterior of the noise on nodes; all arrays (..., J)."""

    sigma: Floats
    log_weight: Floats
    """Normalised: the weights sum to 1."""
    correlation: Floats
    """Share of the variance that trials on one seed have in common, (...,)."""

    @property
    def sd(self) -> Floats:
        """Geometric mean of the noise, (...,)."""
        logs: Floats = np.sum(np.exp(self.log_weight) * np.log(self.sigma), axis=-1)
        return np.exp(logs)

    def quantiles(self, p: float) -> Floats:
        """Return the node at or above which a share `p` of the weight lies below, (...,)."""
        cumulated = np.cumsum(np.exp(self.log_weight), axis=-1)
        index = np.argmax(cumulated >= p - 1e-12, axis=-1)
        return np.take_along_axis(self.sigma, index[..., None], axis=-1)[..., 0]


def _log_noise_posterior(log_sigma: Floats, squares: Floats, degrees: Floats) -> Floats:
    prior = -0.5 * ((log_sigma - math.log(NOISE_MEDIAN)) / NOISE_SPREAD) ** 2
    return prior - degrees * log_sigma - 0.5 * squares * np.exp(-2 * log_sigma)


def noise_grid(squares: Floats, degrees: Floats, correlation: Floats) -> NoiseGrid:
    """Place the nodes where the posterior of the noise is.

    Args:
        squares: Sum of squared residuals of repeats about their own means, (...,).
        degrees: Their degrees of freedom, (...,).
        correlation: Of trials on the same seed, (...,).
    """
    squares, degrees = np.asarray(squares, float)[..., None], np.asarray(degrees, float)[..., None]
    fine = np.linspace(math.log(1e-6), math.log(1.0), 300)
    weight = _normalise(_log_noise_posterior(fine, squares, degrees))
    weight = np.exp(weight)
    mean = np.sum(weight * fine, axis=-1, keepdims=True)
    spread = np.sqrt(np.sum(weight * (fine - mean) ** 2, axis=-1, keepdims=True) + 1e-6)
    nodes = mean + spread * np.linspace(-2.2, 2.2, NUM_NOISE_NODES)
    grid = NoiseGrid(np.exp(nodes), np.zeros_like(nodes), np.asarray(correlation, float))
    return reweigh(grid, squares[..., 0], degrees[..., 0])


def reweigh(grid: NoiseGrid, squares: Floats, degrees: Floats) -> NoiseGrid:
    """Return the same nodes with the weights that these residuals give."""
    squares, degrees = np.asarray(squares, float)[..., None], np.asarray(degrees, float)[..., None]
    logs = _log_noise_posterior(np.log(grid.sigma), squares, degrees)
    return replace(grid, log_weight=_normalise(logs))


def _normalise(logs: Floats) -> Floats:
    top = np.max(logs, axis=-1, keepdims=True)
    total: Floats = top + np.log(np.sum(np.exp(logs - top), axis=-1, keepdims=True))
    return logs - total


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
    unit = np.maximum(1.0, grid.sd / PRIOR_NOISE)[..., None, None]
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
    log_evidence: Floats
    """How well each node predicted the candidate, (..., J, K)."""

    @property
    def mean(self) -> Floats:
        """Posterior mean, (...,)."""
        weight = sum(self.weights[1:], self.weights[0])
        return np.asarray(np.sum(weight * self.node_mean, axis=(-2, -1)))

    def below(self, x: float | Floats) -> Floats:
        """Return P(effect < x), (...,); what is exactly 0 is not below 0."""
        x = np.asarray(x, float)[..., None, None]
        sd = np.sqrt(self.variance)
        gain, null, harm, disaster = self.weights
        total = np.where(
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
        for _ in range(60):
            middle = 0.5 * (low + high)
            if float(self.below(middle)) < p:
                low = middle
            else:
                high = middle
        # A share of exactly 0 is a step: what lies within rounding of it is it.
        edge = 0.5 * (low + high)
        return 0.0 if abs(edge) < 1e-12 else edge


@dataclass(frozen=True)
class Knowledge:
    """What is known: the incumbent's level and the luck of each seed, on a grid of noise and prior.

    Axes: leading ones (sessions), J noise nodes, K prior nodes; D = 1 + number of seeds.
    """

    grid: NoiseGrid
    prior: Prior
    mean: Floats
    """(..., J, K, D): level, then luck of seeds 0, 1, ..."""
    cov: Floats
    """(..., J, K, D, D)."""
    log_prior_weight: Floats
    """Of the prior nodes, learned from candidates; not normalised, (..., J, K)."""

    @property
    def log_weight(self) -> Floats:
        """Log weight of each node: noise from repeats, prior given noise from candidates; (..., J, K)."""
        return self.grid.log_weight[..., None] + _normalise(self.log_prior_weight)

    @property
    def level(self) -> Floats:
        """Posterior mean of the incumbent's true level, (...,)."""
        return np.asarray(np.sum(np.exp(self.log_weight) * self.mean[..., 0], axis=(-2, -1)))

    @property
    def level_sd(self) -> Floats:
        """Posterior standard deviation of the incumbent's level, (...,)."""
        weight = np.exp(self.log_weight)
        second = self.cov[..., 0, 0] + self.mean[..., 0] ** 2
        centre = self.level
        variance = np.sum(weight * second, axis=(-2, -1)) - centre**2
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)))

    def _design(self, seeds: tuple[int, ...]) -> Floats:
        design = np.zeros((len(seeds), self.mean.shape[-1]))
        design[:, 0] = 1
        for row, seed in enumerate(seeds):
            if seed >= 0:
                design[row, 1 + seed] = 1
        return design

    def _innovation(
        self, scores: Floats, seeds: tuple[int, ...], audit_variance: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """Return residuals (..., J, K, n), their inverse covariance and the gain (..., D, n)."""
        design = self._design(seeds)
        residual = scores[..., None, None, :] - self.mean @ design.T
        rho = self.grid.correlation[..., None]
        own = (1 - rho) * self.grid.sigma**2  # (..., J)
        fresh = np.array([seed < 0 for seed in seeds]) * (rho * self.grid.sigma**2)[..., None]
        noise = (own[..., None] + fresh)[..., None, :] + audit_variance[..., None, None, :]
        spread: Floats = self.cov @ design.T  # (..., J, K, D, n)
        total = design @ spread + noise[..., None] * np.eye(len(seeds))
        inverse: Floats = 1 / total if len(seeds) == 1 else np.asarray(np.linalg.inv(total))
        return residual, inverse, spread @ inverse

    def observe(
        self, scores: Floats, seeds: tuple[int, ...], audit_variance: Floats
    ) -> "Knowledge":
        """Learn from trials of the incumbent itself.

        Args:
            scores: bpb, (..., n).
            seeds: Index of each trial's seed, -1 for one that no other trial shares.
            audit_variance: Variance the audit adds, (..., n).
        """
        residual, _, gain = self._innovation(scores, seeds, audit_variance)
        mean = self.mean + (gain @ residual[..., None])[..., 0]
        cov = self.cov - gain @ (self._design(seeds) @ self.cov)
        return replace(self, mean=mean, cov=_symmetric(cov))

    def effect(self, scores: Floats, seeds: tuple[int, ...], audit_variance: Floats) -> Effect:
        """Return what trials of a candidate say of its effect on the incumbent's level."""
        residual, inverse, _ = self._innovation(scores, seeds, audit_variance)
        precision = np.sum(inverse, axis=(-2, -1))
        measured = np.sum((inverse @ residual[..., None])[..., 0], axis=-1) / precision
        return effect_posterior(measured, 1 / precision, self.prior, self.log_weight)

    def absorb(
        self,
        scores: Floats,
        seeds: tuple[int, ...],
        audit_variance: Floats,
        effect: Effect,
        is_kept: bool | Floats,
    ) -> "Knowledge":
        """Learn from a judged candidate; where `is_kept`, its level becomes the incumbent's.

        A discarded one teaches the prior only. It could teach the level too, but then a row of ideas that
        are all a little worse makes the incumbent look lucky, and their kind of harm becomes a gain.
        """
        kept = np.asarray(is_kept, float)[..., None, None]
        weight = self.log_prior_weight + effect.log_evidence
        if not np.any(kept):
            return replace(self, log_prior_weight=weight)
        residual, _, gain = self._innovation(scores, seeds, audit_variance)
        lean = -np.sum(gain, axis=-1)  # (..., J, K, D): how the state leans on the effect
        lean[..., 0] += 1.0
        mean = self.mean + (gain @ residual[..., None])[..., 0]
        mean = mean + lean * effect.node_mean[..., None]
        cov = self.cov - gain @ (self._design(seeds) @ self.cov)
        cov = cov + effect.node_variance[..., None, None] * lean[..., :, None] * lean[..., None, :]
        return replace(
            self,
            mean=np.where(kept[..., None] > 0, mean, self.mean),
            cov=np.where(kept[..., None, None] > 0, _symmetric(cov), self.cov),
            log_prior_weight=weight,
        )

    def forget_level(self, guess: float) -> "Knowledge":
        """Return the same knowledge of seeds and prior with nothing known of the level."""
        mean, cov = self.mean.copy(), self.cov.copy()
        mean[..., 0] = guess
        cov[..., 0, :] = 0.0
        cov[..., :, 0] = 0.0
        cov[..., 0, 0] = FLAT_VARIANCE
        return replace(self, mean=mean, cov=cov)


def _symmetric(cov: Floats) -> Floats:
    return 0.5 * (cov + np.swapaxes(cov, -1, -2))


def start(grid: NoiseGrid, prior: Prior, guess: Floats, num_seeds: int) -> Knowledge:
    """Return what is known before the first trial; `guess` (...,) only centres the numbers."""
    num_prior = prior.log_weight.shape[-1]
    shape = (*grid.sigma.shape, num_prior)
    mean = np.zeros((*shape, 1 + num_seeds))
    mean[..., 0] = np.asarray(guess, float)[..., None, None]
    cov = np.zeros((*shape, 1 + num_seeds, 1 + num_seeds))
    cov[..., 0, 0] = FLAT_VARIANCE
    luck = (grid.correlation[..., None] * grid.sigma**2)[..., None]
    for seed in range(num_seeds):
        cov[..., 1 + seed, 1 + seed] = luck
    return Knowledge(grid, prior, mean, cov, np.broadcast_to(prior.log_weight, shape).copy())


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
        tail = log_cdf(towards / sd)
        logs.append(
            log_share - np.log(scale) + 0.5 * variance / scale**2 - sign * measured / scale + tail
        )
        shift, spread = truncated_moments(towards / sd)
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
        log_evidence=np.asarray(top + np.log(total)),
    )
