"""Empirical Bayes over true effects: the prior, the rows, and the posterior of each experiment.

The model. A trial of commit c on seed s scores

    y = level[c] + luck[s] + machine + slope * pace + own luck + audit error,

luck[s] ~ N(0, rho * sigma^2) shared by all trials on that seed, own luck ~ N(0, (1 - rho) * sigma^2), the
audit error with the variance the judge states. A candidate's level is its parent's plus an effect drawn
from a prior of four parts: a gain (exponential), nothing (exactly 0), a harm (exponential) and a disaster
(so flat that how bad it was teaches nothing). Its scale and shares are not known: a grid of them is carried
along and weighed by how well each predicted the candidates so far, so the prior learns in the session. The
noise (sigma, and rho) is a second grid, weighed only by repeats of the same code: the spread of candidates is no
luck, and a prior of the wrong shape would make it look like some.

All that a row adds up is a column of one state, normal per grid node; which columns there are is the caller's
(`decision/belief.py`), a row says how much of each it holds. Trials of measured code update it exactly, candidates,
whose effect is not normal, by matching two moments. When a candidate is kept, its *posterior* is the new level: a
lucky draw is taken over shrunk, so luck does not ratchet.

All arrays may carry leading axes: one session here, thousands side by side in `bench/keep_rule.py`.

Trade-offs: one noise for all experiments of a session; moments instead of the exact mixture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoresearch.decision.normal import Floats, cut_normal, log_cdf, log_density

NOISE_SHARE = 0.0006
"""Noise to expect before any repeat, as a share of the score: public runs report 0.0003 to 0.00076."""
NOISE_SPREAD = 1.5
"""Standard deviation of log noise before any repeat."""
NUM_NOISE_NODES = 7
NODE_REACH = 2.2
"""Nodes of the noise lie within so many standard deviations of its mean, on the log scale."""
CORRELATIONS = ((0.0, 0.8), (0.5, 0.2))
"""Share of the luck that belongs to the seed, with its weight before any repeat: nothing, until it is shown."""

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
    """Nodes for the unknown noise, placed where repeats say it is, once for each correlation."""

    sigma: Floats
    """In units of the metric, (..., J)."""
    correlation: Floats
    """Share of the variance that trials on one seed have in common, (J,)."""
    centre: Floats
    """Geometric mean of the noise given the repeats it was placed by, (...,)."""
    log_expected: Floats
    """Log of the noise to expect before any repeat, (...,)."""
    log_share: Floats
    """Log of the weight of each correlation before any repeat, (J,)."""

    @property
    def log_prior(self) -> Floats:
        """Log prior of the nodes, normalised, (..., J)."""
        return normalise(_log_noise_prior(np.log(self.sigma), self.log_expected) + self.log_share)


def _log_noise_prior(log_sigma: Floats, log_expected: Floats) -> Floats:
    return np.asarray(-0.5 * ((log_sigma - log_expected[..., None]) / NOISE_SPREAD) ** 2)


def noise_grid(
    squares: Floats,
    degrees: Floats,
    score: Floats,
    correlations: tuple[tuple[float, float], ...] = CORRELATIONS,
) -> NoiseGrid:
    """Place the nodes where the posterior of the noise is.

    Args:
        squares: Sum of squared residuals of repeats about their own means, (...,).
        degrees: Their degrees of freedom, (...,).
        score: Any score of the session, for its magnitude alone, (...,).
        correlations: Of trials on the same seed, with their weights.
    """
    magnitude = np.abs(np.asarray(score, float))
    log_expected = np.log(NOISE_SHARE * np.where(magnitude > 0, magnitude, 1.0))
    squares, degrees = np.asarray(squares, float)[..., None], np.asarray(degrees, float)[..., None]
    fine = log_expected[..., None] + np.linspace(-9.0, 9.0, 400)
    logs = _log_noise_prior(fine, log_expected) - degrees * fine - 0.5 * squares * np.exp(-2 * fine)
    weight = np.exp(normalise(logs))
    mean = np.sum(weight * fine, axis=-1)
    spread = np.sqrt(np.sum(weight * (fine - mean[..., None]) ** 2, axis=-1) + 1e-6)
    return _grid(mean, spread, log_expected, correlations)


def _grid(
    mean: Floats,
    spread: Floats,
    log_expected: Floats,
    correlations: tuple[tuple[float, float], ...],
) -> NoiseGrid:
    reach = NODE_REACH * np.linspace(-1, 1, NUM_NOISE_NODES)
    nodes = np.asarray(mean)[..., None] + np.asarray(spread)[..., None] * reach
    rho, share = np.array(correlations).T
    return NoiseGrid(
        sigma=np.exp(np.tile(nodes, len(rho))),
        correlation=np.repeat(rho, NUM_NOISE_NODES),
        centre=np.exp(mean),
        log_expected=log_expected,
        log_share=np.log(np.repeat(share, NUM_NOISE_NODES)),
    )


def log_sum(logs: Floats) -> Floats:
    """Return log(sum(exp(logs))) over the last axis."""
    top = np.max(logs, axis=-1, keepdims=True)
    total: Floats = top + np.log(np.sum(np.exp(logs - top), axis=-1, keepdims=True))
    return total[..., 0]


def _over_nodes(logs: Floats) -> Floats:
    return log_sum(logs.reshape(*logs.shape[:-2], -1))


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

    log_evidence: Floats
    """How well all nodes together predicted all trials, (...,)."""

    @property
    def mean(self) -> Floats:
        """Posterior mean, (...,)."""
        weight = sum(self.weights[1:], self.weights[0])
        return np.asarray(np.sum(weight * self.node_mean, axis=(-2, -1)))

    @property
    def best(self) -> Floats:
        """Best estimate without the prior of effects, (...,)."""
        weight = sum(self.weights[1:], self.weights[0])
        return np.asarray(np.sum(weight * self.measured, axis=(-2, -1)))

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
        log_evidence=_over_nodes(log_weight + top + np.log(total)),
    )


class Rows(NamedTuple):
    """Trials of one program in the form the posterior takes."""

    scores: Floats
    """In units of the metric, (..., n)."""
    design: Floats
    """How much of each column of the state a score holds, (..., n, D)."""
    is_paired: NDArray[np.bool_]
    """Whether the luck of its seed is a column, (n,)."""
    variance: Floats
    """What the audit and anything else known adds to the luck, (..., n)."""
    is_by_cases: bool = False
    """Each score is a mean over cases, which differ from trial to trial."""


@dataclass(frozen=True)
class Knowledge:
    """What is known of the columns of the state, on a grid of noise and prior.

    Axes: leading ones (sessions), J noise nodes, K prior nodes, D columns: levels, luck of seeds, the machine, ...
    """

    grid: NoiseGrid
    prior: Prior
    mean: Floats
    """(..., J, K, D)."""
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
        weight = np.exp(normalise(self.log_noise)).reshape(-1, NUM_NOISE_NODES).sum(axis=0)
        middle = np.cumsum(weight) - 0.5 * weight
        return float(np.exp(np.interp(p, middle, np.log(self.grid.sigma[:NUM_NOISE_NODES]))))

    def moments(self, column: int) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of a column over all nodes, (...,) each."""
        mean, variance = self.mean[..., column], self.cov[..., column, column]
        return _mixed(np.exp(self.log_weight), mean, variance)

    def square(self, design: Floats) -> Floats:
        """Return the mean square of what some columns add to each row, (..., n), for a design of theirs alone."""
        part = design[..., None, None, :, :]
        mean = (part @ self.mean[..., None])[..., 0]
        variance = np.sum((part @ self.cov) * part, axis=-1)
        weight = np.exp(self.log_weight)[..., None]
        return np.asarray(np.sum(weight * (variance + mean**2), axis=(-3, -2)))

    def expected(self, rows: Rows) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of each row's score, luck included, (n,) each; for one session only."""
        residual, inverse, _ = _innovation(self, rows)
        variance = np.diagonal(np.linalg.inv(inverse), axis1=-2, axis2=-1)
        weight = np.exp(self.log_weight)
        found = [
            _mixed(weight, score - residual[..., i], variance[..., i])
            for i, score in enumerate(rows.scores)
        ]
        mean, sd = np.array(found).T
        return mean, sd

    def added(self, mean: float | Floats, variance: Floats) -> "Knowledge":
        """Return the same with one more column, independent of the others; `variance` of (..., J, K) or less."""
        size = self.mean.shape[-1]
        means = np.zeros((*self.mean.shape[:-1], size + 1))
        cov = np.zeros((*means.shape, size + 1))
        means[..., :size], cov[..., :size, :size] = self.mean, self.cov
        means[..., size], cov[..., size, size] = mean, variance
        return replace(self, mean=means, cov=cov)

    def taken(self, columns: Sequence[int]) -> "Knowledge":
        """Return the same with these columns alone, in this order; one that is named twice is copied."""
        at = np.asarray(columns)
        return replace(self, mean=self.mean[..., at], cov=self.cov[..., at[:, None], at])

    def flat(self) -> Floats:
        """Return the variance of a level of which nothing is known: one for all nodes, else the guess weighs them."""
        return (FLAT_SD * self.grid.centre[..., None, None]) ** 2

    def observe(self, rows: Rows, *, is_repeat: bool = True) -> "Knowledge":
        """Learn from trials of measured code; of the noise only where they are repeats on the same machine."""
        known = self
        for i in range(len(rows.is_paired)):  # one at a time: no inverse of what is almost singular
            one = _rows(rows, slice(i, i + 1))
            residual, inverse, gain = _innovation(known, one)
            mean = known.mean + (gain @ residual[..., None])[..., 0]
            cov = known.cov - gain @ (_design(one) @ known.cov)
            after = replace(known, mean=mean, cov=_symmetric(cov))
            logs = log_density(residual[..., 0], 1 / inverse[..., 0, 0])
            known = _learn_noise(after, logs) if is_repeat else after
        return known

    def loosened(
        self, column: int, rows: Rows, drift: float
    ) -> tuple["Knowledge", NDArray[np.bool_]]:
        """Return the same with a column free to explain a trial that is more than `drift` standard deviations off.

        Returns:
            The knowledge; and where it was so far off, (...,).
        """
        residual, inverse, _ = _innovation(self, rows)
        square, expected = residual[..., 0] ** 2, 1 / inverse[..., 0, 0]
        ratio = np.sum(np.exp(self.log_weight) * square / expected, axis=(-2, -1))
        is_off = np.asarray(ratio > drift**2)
        cov = self.cov.copy()
        freed = np.where(is_off[..., None, None], np.maximum(square - expected, 0.0), 0.0)
        cov[..., column, column] += freed
        return replace(self, cov=cov), is_off

    def effect(self, rows: Rows) -> Effect:
        """Return what trials of a candidate say of its effect on the level that their design holds.

        Where scores are means over cases, effects are expected in units of what such a mean errs by: trials of one
        code may not differ at all there, and a change is then as large as the cases are unlike.
        """
        residual, inverse, _ = _innovation(self, rows)
        precision = np.sum(inverse, axis=(-2, -1))
        measured = np.sum((inverse @ residual[..., None])[..., 0], axis=-1) / precision
        own = float(np.mean(rows.variance)) if rows.is_by_cases else 0.0
        prior = self.prior.times(math.sqrt(1 + own / float(np.mean(self.grid.centre)) ** 2))
        effect = effect_posterior(measured, 1 / precision, prior, self.log_weight)
        n = len(rows.is_paired)
        if n == 1:
            return effect
        apart = residual - measured[..., None]
        fit = np.sum(apart * (inverse @ apart[..., None])[..., 0], axis=-1)
        _, log_det = np.linalg.slogdet(inverse)
        logs = 0.5 * (log_det - fit - np.log(precision) - (n - 1) * math.log(2 * math.pi))
        first = self.effect(_rows(rows, slice(0, 1))).log_first
        found = logs + effect.log_first
        evidence = _over_nodes(self.log_weight + found)
        return replace(effect, log_first=first, log_repeats=found - first, log_evidence=evidence)

    def absorb(
        self, rows: Rows, effect: Effect, is_kept: bool | Floats, column: int = 0
    ) -> "Knowledge":
        """Learn from a judged candidate; where `is_kept`, its level is put in `column`, which holds its parent's.

        A discarded one informs the levels too: many ideas that do nothing and measure lower than their parent
        suggest that its own trials were unlucky.
        """
        residual, _, gain = _innovation(self, rows)
        kept = np.asarray(is_kept, float)[..., None, None]
        lean = -np.sum(gain, axis=-1)  # (..., J, K, D): how the state leans on the effect
        lean[..., column] += kept
        mean = self.mean + (gain @ residual[..., None])[..., 0]
        mean = mean + lean * effect.node_mean[..., None]
        cov = self.cov - gain @ (_design(rows) @ self.cov)
        cov = cov + effect.node_variance[..., None, None] * lean[..., :, None] * lean[..., None, :]
        known = replace(
            self,
            mean=mean,
            cov=_symmetric(cov),
            log_prior=self.log_prior + effect.log_first,
        )
        return _learn_noise(known, effect.log_repeats) if len(rows.is_paired) > 1 else known

    def replaced(self) -> "Knowledge":
        """Return the same on nodes of the noise where its posterior is now; for one session only.

        What repeats said of it has a closed form, -n log(sigma) - S / (2 sigma^2), which is fitted and read at the new
        nodes; the rest is interpolated, variances in units of the noise.
        """
        grid, nodes = self.grid, NUM_NOISE_NODES
        old = np.log(grid.sigma[:nodes])
        weight = np.exp(normalise(self.log_noise)).reshape(-1, nodes)
        mean = float((weight * old).sum())
        spread = math.sqrt(float((weight * (old - mean) ** 2).sum()) + 1e-6)
        middle, reach = 0.5 * (old[0] + old[-1]), 0.5 * (old[-1] - old[0])
        if abs(mean - middle) < 0.4 * reach and spread > 0.33 * reach:
            return self
        correlations = zip(grid.correlation[::nodes], np.exp(grid.log_share[::nodes]), strict=True)
        found = _grid(np.array(mean), np.array(spread), grid.log_expected, tuple(correlations))
        new = np.log(found.sigma[:nodes])
        between = np.stack([np.interp(new, old, row) for row in np.eye(nodes)], axis=-1)
        said = (self.log_noise - grid.log_prior).reshape(-1, nodes)
        logs = []
        for evidence, chance in zip(said, weight, strict=True):
            root = np.sqrt(chance / chance.max() + 1e-4)
            terms = np.stack([old, np.exp(-2 * (old - middle)), np.ones(nodes)], axis=-1)
            fit = np.linalg.lstsq(terms * root[:, None], evidence * root, rcond=None)[0]
            logs.append(fit[0] * new + fit[1] * np.exp(-2 * (new - middle)) + fit[2])

        def moved(values: Floats) -> Floats:
            parts = values.reshape(-1, nodes, *values.shape[1:])
            mixed = np.einsum("ij,rj...->ri...", between, parts)
            return np.asarray(mixed.reshape(values.shape))

        own, wanted = (g.sigma[:, None, None, None] ** 2 for g in (grid, found))
        return replace(
            self,
            grid=replace(found, centre=grid.centre),
            mean=moved(self.mean),
            cov=wanted * moved(self.cov / own),
            log_noise=found.log_prior + np.concatenate(logs),
            log_prior=moved(normalise(self.log_prior)),
        )


def _mixed(weight: Floats, mean: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of normals that are mixed over the nodes."""
    centre = np.sum(weight * mean, axis=(-2, -1))
    spread = np.sum(weight * (variance + (mean - centre[..., None, None]) ** 2), axis=(-2, -1))
    return np.asarray(centre), np.asarray(np.sqrt(spread))


def _rows(rows: Rows, which: slice) -> Rows:
    return rows._replace(
        scores=rows.scores[..., which],
        design=rows.design[..., which, :],
        is_paired=rows.is_paired[which],
        variance=rows.variance[..., which],
    )


def _design(rows: Rows) -> Floats:
    return rows.design[..., None, None, :, :]


def _innovation(known: Knowledge, rows: Rows) -> tuple[Floats, Floats, Floats]:
    """Return residuals (..., J, K, n), their inverse covariance and the gain (..., D, n)."""
    design = _design(rows)
    residual = rows.scores[..., None, None, :] - (design @ known.mean[..., None])[..., 0]
    grid = known.grid
    own = grid.sigma[..., None] ** 2 * (
        1 - rows.is_paired * grid.correlation[:, None]
    )  # (..., J, n)
    noise = own[..., None, :] + rows.variance[..., None, None, :]
    spread: Floats = known.cov @ np.swapaxes(design, -1, -2)  # (..., J, K, D, n)
    n = len(rows.is_paired)
    total = design @ spread + noise[..., None] * np.eye(n)
    inverse: Floats = 1 / total if n == 1 else np.asarray(np.linalg.inv(total))
    return residual, inverse, spread @ inverse


def _learn_noise(known: Knowledge, logs: Floats) -> Knowledge:
    """Weigh the noise nodes, and the prior nodes in each, by how well a repeat was predicted."""
    given_noise = log_sum(normalise(known.log_prior) + logs)
    return replace(known, log_noise=known.log_noise + given_noise, log_prior=known.log_prior + logs)


def _symmetric(cov: Floats) -> Floats:
    return 0.5 * (cov + np.swapaxes(cov, -1, -2))


def start(grid: NoiseGrid, prior: Prior | None = None) -> Knowledge:
    """Return what is known before the first trial: no column yet, and the default prior where none is given."""
    prior = default_prior(grid) if prior is None else prior
    shape = (*grid.sigma.shape, prior.log_weight.shape[-1])
    return Knowledge(
        grid=grid,
        prior=prior,
        mean=np.zeros((*shape, 0)),
        cov=np.zeros((*shape, 0, 0)),
        log_noise=grid.log_prior,
        log_prior=np.broadcast_to(prior.log_weight, shape).copy(),
    )
