"""Empirical Bayes over true effects: what the trials of a session say about who is better.

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

from autoresearch.decision.effect import Effect, effect_posterior
from autoresearch.decision.prior import NoiseGrid, Prior, log_sum, normalise
from autoresearch.util.stats import Floats, log_density

DRIFT = 4.0
"""Standard deviations from which the incumbent's own new trial means that the machine drifted."""
LEASH = 2.0
"""Standard deviations by which discarded candidates may move the incumbent's level."""
FLAT_VARIANCE = 0.01
"""Variance of a level of which one score is known, about that score; in bpb^2, beside 100 times the noise's."""


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
    anchor: Floats
    """Level as the incumbent's own trials had it, (..., J, K)."""
    anchor_sd: Floats

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
            scores: bpb, (..., n).
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
        return _anchored(known)

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

    def effect(self, scores: Floats, seeds: tuple[int, ...], audit_variance: Floats) -> Effect:
        """Return what trials of a candidate say of its effect on the incumbent's level."""
        residual, inverse, _ = _innovation(self, scores, seeds, audit_variance)
        precision = np.sum(inverse, axis=(-2, -1))
        measured = np.sum((inverse @ residual[..., None])[..., 0], axis=-1) / precision
        effect = effect_posterior(measured, 1 / precision, self.prior, self.log_weight)
        if len(seeds) == 1:
            return effect
        apart = residual - measured[..., None]
        fit = np.sum(apart * (inverse @ apart[..., None])[..., 0], axis=-1)
        _, log_det = np.linalg.slogdet(inverse)
        n = len(seeds)
        logs = 0.5 * (log_det - fit - np.log(precision) - (n - 1) * math.log(2 * math.pi))
        first = self.effect(scores[..., :1], seeds[:1], audit_variance[..., :1]).log_first
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

        A discarded one teaches the level too: many ideas that do nothing and measure lower than the
        incumbent say that it was lucky. But if ideas fail alike, that is told from luck by the prior's shape
        alone, so they may move the level only `LEASH` standard deviations from what its own trials said.
        """
        residual, _, gain = _innovation(self, scores, seeds, audit_variance)
        kept = np.asarray(is_kept, float)[..., None, None]
        lean = -np.sum(gain, axis=-1)  # (..., J, K, D): how the state leans on the effect
        lean[..., 0] += kept
        mean = self.mean + (gain @ residual[..., None])[..., 0]
        mean = mean + lean * effect.node_mean[..., None]
        cov = self.cov - gain @ (_design(self, seeds) @ self.cov)
        cov = cov + effect.node_variance[..., None, None] * lean[..., :, None] * lean[..., None, :]
        reach = LEASH * self.anchor_sd
        held = np.clip(mean[..., 0], self.anchor - reach, self.anchor + reach)
        mean[..., 0] = np.where(kept > 0, mean[..., 0], held)
        known = replace(
            self,
            mean=mean,
            cov=_symmetric(cov),
            log_prior=self.log_prior + effect.log_first,
            anchor=np.where(kept > 0, mean[..., 0], self.anchor),
            anchor_sd=np.where(kept > 0, np.sqrt(cov[..., 0, 0]), self.anchor_sd),
        )
        return _learn_noise(known, effect.log_repeats) if len(seeds) > 1 else known

    def forget_level(self, guess: float) -> "Knowledge":
        """Return the same knowledge of seeds and prior with nothing known of the level."""
        mean, cov = self.mean.copy(), self.cov.copy()
        mean[..., 0] = guess
        cov[..., 0, :] = 0.0
        cov[..., :, 0] = 0.0
        cov[..., 0, 0] = _flat_variance(self.grid)
        return _anchored(replace(self, mean=mean, cov=cov))


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


def _anchored(known: Knowledge) -> Knowledge:
    return replace(known, anchor=known.mean[..., 0].copy(), anchor_sd=np.sqrt(known.cov[..., 0, 0]))


def _flat_variance(grid: NoiseGrid) -> Floats:
    return FLAT_VARIANCE + 100 * grid.sigma[..., None] ** 2


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
        anchor=mean[..., 0].copy(),
        anchor_sd=np.sqrt(cov[..., 0, 0]),
    )
