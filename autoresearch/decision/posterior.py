"""Empirical Bayes over true effects: the prior, the observations, and the posterior of each experiment.

The model. A trial of experiment e on seed s scores

    y = level[e] + luck[s] + own luck + audit error,

luck[s] ~ N(0, rho * sigma^2) shared by all trials on that seed, own luck ~ N(0, (1 - rho) * sigma^2), the
audit error with the variance the judge states. A candidate's level is its incumbent's plus an effect drawn
from a prior of four parts: a gain (exponential), nothing (exactly 0), a harm (exponential) and a disaster
(so flat that how bad it was teaches nothing). Its scale and shares are not known: a grid of them is carried
along and weighed by how well each predicted the candidates so far, so the prior learns in the session. The
noise sigma is a second grid, weighed only by repeats of the same code: the spread of candidates is no luck,
and a prior of the wrong shape would make it look like some.

What is known of the incumbent's level and of the seeds' luck is a normal distribution per grid node, updated
by its own trials exactly, and by matching two moments for candidates, whose effect is not normal. When a
candidate is kept, its *posterior* becomes the new level: a lucky draw is taken over shrunk, so luck does not
ratchet.

All arrays may carry leading axes: one session here, thousands side by side in `bench/keep_rule.py`.

Trade-offs: one noise for all experiments of a session; moments instead of the exact mixture.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from autoresearch.decision.normal import Floats, cut_normal, log_cdf, log_density

NOISE_SHARE = 0.0006
"""Noise to expect before any repeat, as a share of the score: public runs report 0.0003 to 0.00076."""
NOISE_SPREAD = 1.5
"""Standard deviation of log noise before any repeat."""
NUM_NOISE_NODES = 7

GAIN_MEAN, HARM_MEAN, DISASTER_MEAN = 2.0, 2.4, 20_000.0
"""In units of the noise; fitted to the effects of a public log of 125 experiments with a noise of 0.0005."""
DISASTER_SHARE = 0.02
FLAT_SD = 1000.0
"""Standard deviation of a level of which only one score is known, about that score; in units of the noise."""
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
    """In units of the score, (..., J)."""
    centre: Floats
    """Geometric mean of the noise given the repeats it was placed by, (...,)."""
    correlation: Floats
    """Share of the variance that trials on one seed have in common, (...,)."""
    log_expected: Floats
    """Log of the noise to expect before any repeat, (...,)."""

    @property
    def log_prior(self) -> Floats:
        """Log prior of the nodes, normalised, (..., J)."""
        return normalise(_log_noise_prior(np.log(self.sigma), self.log_expected))


def _log_noise_prior(log_sigma: Floats, log_expected: Floats) -> Floats:
    return np.asarray(-0.5 * ((log_sigma - log_expected[..., None]) / NOISE_SPREAD) ** 2)


def noise_grid(squares: Floats, degrees: Floats, correlation: Floats, score: Floats) -> NoiseGrid:
    """Place the nodes where the posterior of the noise is.

    Args:
        squares: Sum of squared residuals of repeats about their own means, (...,).
        degrees: Their degrees of freedom, (...,).
        correlation: Of trials on the same seed, (...,).
        score: Any score of the session, for its magnitude alone, (...,).
    """
    magnitude = np.abs(np.asarray(score, float))
    log_expected = np.log(NOISE_SHARE * np.where(magnitude > 0, magnitude, 1.0))
    squares, degrees = np.asarray(squares, float)[..., None], np.asarray(degrees, float)[..., None]
    fine = log_expected[..., None] + np.linspace(-7.0, 7.0, 300)
    logs = _log_noise_prior(fine, log_expected) - degrees * fine - 0.5 * squares * np.exp(-2 * fine)
    weight = np.exp(normalise(logs))
    mean = np.sum(weight * fine, axis=-1, keepdims=True)
    spread = np.sqrt(np.sum(weight * (fine - mean) ** 2, axis=-1, keepdims=True) + 1e-6)
    nodes = mean + spread * np.linspace(-2.2, 2.2, NUM_NOISE_NODES)
    return NoiseGrid(
        np.exp(nodes), np.exp(mean[..., 0]), np.asarray(correlation, float), log_expected
    )


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
    disaster_mean: Floats
    log_weight: Floats
    """Of each node before any candidate, (K,)."""

    def times(self, factor: float) -> "Prior":
        """Return the same in a unit that is `factor` times as large."""
        if factor == 1.0:
            return self
        return replace(
            self,
            gain_mean=factor * self.gain_mean,
            harm_mean=factor * self.harm_mean,
            disaster_mean=factor * self.disaster_mean,
        )


def default_prior(grid: NoiseGrid) -> Prior:
    """Return the documented default: 10 % gains of twice the noise, 20 % nothing, 70 % harms of 2.4 times the noise."""
    unit = grid.centre[..., None, None]
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
        disaster_mean=DISASTER_MEAN * unit,
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
        (prior.log_disaster, prior.disaster_mean, 1.0),
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


DRIFT = 4.0
"""Standard deviations from which the incumbent's own new trial means that the machine drifted."""


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
    log_noise: Floats
    """Weight of the noise nodes, learned from repeats; not normalised, (..., J)."""
    log_prior: Floats
    """Weight of the prior nodes given the noise, learned from candidates; not normalised, (..., J, K)."""

    @property
    def log_weight(self) -> Floats:
        """Log weight of each node, (..., J, K); the weights sum to 1."""
        return normalise(self.log_noise)[..., None] + normalise(self.log_prior)

    @property
    def noise(self) -> Floats:
        """Geometric mean of the noise, (...,)."""
        weight = np.exp(normalise(self.log_noise))
        logs: Floats = np.sum(weight * np.log(self.grid.sigma), axis=-1)
        return np.exp(logs)

    def noise_quantile(self, p: float) -> float:
        """Return the noise below which lies a share `p` of the weight; for one session only."""
        weight = np.exp(normalise(self.log_noise))
        middle = np.cumsum(weight) - 0.5 * weight
        return float(np.exp(np.interp(p, middle, np.log(self.grid.sigma))))

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

    def observe(
        self, scores: Floats, seeds: tuple[int, ...], audit_variance: Floats
    ) -> "Knowledge":
        """Learn from trials of the incumbent itself.

        Args:
            scores: Signed so that less is better, (..., n).
            seeds: Index of each trial's seed, -1 for one that no other trial shares.
            audit_variance: Variance the audit adds, (..., n).
        """
        known = self
        for i, seed in enumerate(seeds):  # one at a time: no inverse of what is almost singular
            one = slice(i, i + 1)
            residual, inverse, gain = _innovation(
                known, scores[..., one], (seed,), audit_variance[..., one]
            )
            logs = log_density(residual[..., 0], 1 / inverse[..., 0, 0])
            mean = known.mean + (gain @ residual[..., None])[..., 0]
            cov = known.cov - gain @ (_design(known, (seed,)) @ known.cov)
            known = _learn_noise(replace(known, mean=mean, cov=_symmetric(cov)), logs)
        return known

    def observe_later(
        self, scores: Floats, seeds: tuple[int, ...], audit_variance: Floats
    ) -> "Knowledge":
        """Learn from one trial of the incumbent run long after it was kept.

        Further than `DRIFT` standard deviations from what was expected, the machine has drifted: then the level
        is taken from the new trial alone, and nothing is learned about the noise.
        """
        residual, inverse, _ = _innovation(self, scores, seeds, audit_variance)
        square = residual[..., 0] ** 2
        expected = 1 / inverse[..., 0, 0]
        weight = np.exp(self.log_weight)
        ratio = np.sum(weight * square / expected, axis=(-2, -1))
        drifted = (ratio > DRIFT**2)[..., None, None]
        cov = self.cov.copy()
        cov[..., 0, 0] += np.where(drifted, np.maximum(square - expected, 0.0), 0.0)
        known = replace(self, cov=cov).observe(scores, seeds, audit_variance)
        return replace(
            known,
            log_noise=np.where(drifted[..., 0], self.log_noise, known.log_noise),
            log_prior=np.where(drifted, self.log_prior, known.log_prior),
        )

    def effect(
        self,
        scores: Floats,
        seeds: tuple[int, ...],
        audit_variance: Floats,
        is_by_cases: bool = False,
    ) -> Effect:
        """Return what trials of a candidate say of its effect on the incumbent's level.

        Where scores are means over cases, effects are expected in units of what such a mean errs by: trials of one
        code may not differ at all there, and a change is then as large as the cases are unlike.
        """
        residual, inverse, _ = _innovation(self, scores, seeds, audit_variance)
        precision = np.sum(inverse, axis=(-2, -1))
        measured = np.sum((inverse @ residual[..., None])[..., 0], axis=-1) / precision
        own = float(np.mean(audit_variance)) if is_by_cases else 0.0
        prior = self.prior.times(math.sqrt(1 + own / float(np.mean(self.grid.centre)) ** 2))
        effect = effect_posterior(measured, 1 / precision, prior, self.log_weight)
        if len(seeds) == 1:
            return effect
        apart = residual - measured[..., None]
        fit = np.sum(apart * (inverse @ apart[..., None])[..., 0], axis=-1)
        _, log_det = np.linalg.slogdet(inverse)
        n = len(seeds)
        logs = 0.5 * (log_det - fit - np.log(precision) - (n - 1) * math.log(2 * math.pi))
        one = self.effect(scores[..., :1], seeds[:1], audit_variance[..., :1], is_by_cases)
        first = one.log_first
        return replace(effect, log_first=first, log_repeats=logs + effect.log_first - first)

    def absorb(
        self,
        scores: Floats,
        seeds: tuple[int, ...],
        audit_variance: Floats,
        effect: Effect,
        is_kept: bool | Floats,
    ) -> "Knowledge":
        """Learn from a judged candidate; where `is_kept`, its level becomes the incumbent's.

        A discarded one informs the level too: many ideas that do nothing and measure lower than the incumbent
        suggest that its own trials were unlucky.
        """
        residual, _, gain = _innovation(self, scores, seeds, audit_variance)
        kept = np.asarray(is_kept, float)[..., None, None]
        lean = -np.sum(gain, axis=-1)  # (..., J, K, D): how the state leans on the effect
        lean[..., 0] += kept
        mean = self.mean + (gain @ residual[..., None])[..., 0]
        mean = mean + lean * effect.node_mean[..., None]
        cov = self.cov - gain @ (_design(self, seeds) @ self.cov)
        cov = cov + effect.node_variance[..., None, None] * lean[..., :, None] * lean[..., None, :]
        known = replace(
            self,
            mean=mean,
            cov=_symmetric(cov),
            log_prior=self.log_prior + effect.log_first,
        )
        return _learn_noise(known, effect.log_repeats) if len(seeds) > 1 else known

    def forget_level(self, guess: float) -> "Knowledge":
        """Return the same knowledge of seeds and prior with nothing known of the level."""
        mean, cov = self.mean.copy(), self.cov.copy()
        mean[..., 0] = guess
        cov[..., 0, :] = 0.0
        cov[..., :, 0] = 0.0
        cov[..., 0, 0] = _flat_variance(self.grid)
        return replace(self, mean=mean, cov=cov)


def _design(known: Knowledge, seeds: tuple[int, ...]) -> Floats:
    design = np.zeros((len(seeds), known.mean.shape[-1]))
    design[:, 0] = 1
    for row, seed in enumerate(seeds):
        if seed >= 0:
            design[row, 1 + seed] = 1
    return design


def _innovation(
    known: Knowledge, scores: Floats, seeds: tuple[int, ...], audit_variance: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return residuals (..., J, K, n), their inverse covariance and the gain (..., D, n)."""
    design = _design(known, seeds)
    residual = scores[..., None, None, :] - known.mean @ design.T
    rho = known.grid.correlation[..., None]
    own = (1 - rho) * known.grid.sigma**2  # (..., J)
    fresh = np.array([seed < 0 for seed in seeds]) * (rho * known.grid.sigma**2)[..., None]
    noise = (own[..., None] + fresh)[..., None, :] + audit_variance[..., None, None, :]
    spread: Floats = known.cov @ design.T  # (..., J, K, D, n)
    total = design @ spread + noise[..., None] * np.eye(len(seeds))
    inverse: Floats = 1 / total if len(seeds) == 1 else np.asarray(np.linalg.inv(total))
    return residual, inverse, spread @ inverse


def _learn_noise(known: Knowledge, logs: Floats) -> Knowledge:
    """Weigh the noise nodes, and the prior nodes in each, by how well a repeat was predicted."""
    given_noise = log_sum(normalise(known.log_prior) + logs)
    return replace(known, log_noise=known.log_noise + given_noise, log_prior=known.log_prior + logs)


def _flat_variance(grid: NoiseGrid) -> Floats:
    """Return the same for all nodes, else the guess itself would weigh them."""
    return (FLAT_SD * grid.centre[..., None, None]) ** 2


def _symmetric(cov: Floats) -> Floats:
    return 0.5 * (cov + np.swapaxes(cov, -1, -2))


def start(grid: NoiseGrid, prior: Prior, guess: Floats, num_seeds: int) -> Knowledge:
    """Return what is known before the first trial; `guess` (...,) only centres the numbers."""
    num_prior = prior.log_weight.shape[-1]
    shape = (*grid.sigma.shape, num_prior)
    mean = np.zeros((*shape, 1 + num_seeds))
    mean[..., 0] = np.asarray(guess, float)[..., None, None]
    cov = np.zeros((*shape, 1 + num_seeds, 1 + num_seeds))
    cov[..., 0, 0] = _flat_variance(grid)
    luck = (grid.correlation[..., None] * grid.sigma**2)[..., None]
    for seed in range(num_seeds):
        cov[..., 1 + seed, 1 + seed] = luck
    return Knowledge(
        grid=grid,
        prior=prior,
        mean=mean,
        cov=cov,
        log_noise=grid.log_prior,
        log_prior=np.broadcast_to(prior.log_weight, shape).copy(),
    )
