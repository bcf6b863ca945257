"""Local draws of all regions, pooled by the regions' weights, and mixtures fitted to them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaincinv
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from pymc_multimodal.proposals.base import split_chains
from pymc_multimodal.proposals.elliptical import EllipticalMixture, factor
from pymc_multimodal.target.circle import unroll

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.proposals.base import RegionDensity
    from pymc_multimodal.regions.draws import RegionDraws

__all__ = ["Components", "Pool", "polished", "pooled_em", "regional_components"]

# Draws kept of one region.
MAX_DRAWS = 20_000
# Gaussians that stand for one Student-t component.
LAYERS = 4
# Numbers in the covariances of a mixture that EM on all draws is quick for.
MAX_POLISHED = 50_000
# Nats of mean held-out log density that it has to gain.
MIN_GAIN = 0.01


@dataclass(frozen=True)
class Pool:
    """Draws of all regions, unrolled, with the probability that each stands for.

    Attributes
    ----------
    x : array of shape (n, d)
    logp, probability : arrays of shape (n,)
    region : int array of shape (n,)
    """

    x: np.ndarray
    logp: np.ndarray
    probability: np.ndarray
    region: np.ndarray

    @classmethod
    def of(
        cls, local: RegionDraws, weights: np.ndarray, period: np.ndarray, held_out: bool
    ) -> Pool:
        """Pool the chains reserved for choosing, or else all the others."""
        columns: list[list[np.ndarray]] = [[], [], [], []]
        weights = np.where(np.isfinite(weights), weights, 0.0)
        weights = np.maximum(weights / weights.sum(), 1e-3 / len(weights))
        for k, w in enumerate(weights / weights.sum()):
            _, choose, _ = split_chains(len(local.x[k]))
            chains = np.isin(np.arange(len(local.x[k])), np.r_[choose])
            x, logp = (a[k][chains == held_out] for a in (local.x, local.logp))
            every = max(1, int(np.ceil(logp.size / MAX_DRAWS)))
            x = unroll(x.reshape(-1, x.shape[-1]), local.centre[k], period)[::every]
            found = (
                x,
                logp.ravel()[::every],
                np.full(len(x), w / len(x)),
                np.full(len(x), k),
            )
            for column, part in zip(columns, found, strict=True):
                column.append(part)
        return cls(*(np.concatenate(column) for column in columns))

    def pick(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Rows of n draws, picked by probability."""
        return rng.choice(len(self.x), size=n, p=self.probability)

    def moments(self, within: bool) -> tuple[np.ndarray, np.ndarray]:
        """Mean of the whole, and covariance of the whole or within the regions."""
        mean = self.probability @ self.x
        step = self.x - mean
        if within:
            for k in np.unique(self.region):
                rows = self.region == k
                step[rows] = self.x[rows] - self.x[rows].mean(axis=0)
        return mean, (step * self.probability[:, None]).T @ step

    def gaussians(self) -> Components:
        """One Gaussian for each region, with the moments of its draws."""
        weights, means, factors = [], [], []
        for k in np.unique(self.region):
            rows = self.region == k
            weights.append(self.probability[rows].sum())
            means.append(self.x[rows].mean(axis=0))
            factors.append(factor(np.atleast_2d(np.cov(self.x[rows].T))))
        return Components(np.array(weights), np.stack(means), np.stack(factors))


@dataclass(frozen=True)
class Components:
    """A Gaussian mixture in x: weights (J,), means (J, d) and factors (J, d, d)."""

    weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density at points of shape (n, d), not wrapped."""
        return np.logaddexp.reduce(self.log_parts(x), axis=1)

    def log_parts(self, x: np.ndarray) -> np.ndarray:
        """Log of each component's part of the density, shape (n, J)."""
        log_det = np.log(np.diagonal(self.factors, axis1=1, axis2=2)).sum(axis=1)
        constant = np.log(self.weights) - log_det - 0.5 * x.shape[1] * np.log(2 * np.pi)
        # One after the other: all at once would take the draws' memory for each component.
        square = [
            np.sum(((x - mean) @ inverse.T) ** 2, axis=1)
            for mean, inverse in zip(self.means, np.linalg.inv(self.factors), strict=True)
        ]
        return constant - 0.5 * np.stack(square, axis=1)


def regional_components(densities: Sequence[RegionDensity], weights: np.ndarray) -> Components:
    """Join the regions' mixtures, each with its weight; held-out draws chose their sizes.

    A Student-t component becomes Gaussians of the same shape and different sizes.
    """
    weights = np.maximum(np.where(np.isfinite(weights), weights, 0.0), 1e-3 / len(weights))
    shares, means, factors = [], [], []
    for w, density in zip(weights, densities, strict=True):
        core = density.undefended
        assert isinstance(core, EllipticalMixture)
        for share, mean, scale, df in zip(
            core.weights, core.means, core.scales, core.df, strict=True
        ):
            sizes = np.ones(1)
            if np.isfinite(df):
                middle = (np.arange(LAYERS) + 0.5) / LAYERS
                sizes = np.sqrt(0.5 * df / gammaincinv(0.5 * df, middle))
            for size in sizes:
                shares.append(w * share / len(sizes))
                means.append(mean)
                factors.append(size * scale)
    return Components(np.array(shares) / np.sum(shares), np.array(means), np.array(factors))


def pooled_em(pool: Pool, components: int, rng: np.random.Generator) -> Components:
    """Fit a mixture of a given number of components to draws picked by their weights."""
    x = pool.x[pool.pick(MAX_DRAWS, rng)]
    mean, root = x.mean(axis=0), factor(np.atleast_2d(np.cov(x.T)))
    model = GaussianMixture(
        components, reg_covar=1e-6, max_iter=300, random_state=int(rng.integers(2**31))
    )
    return _fit_in(model, x, mean, root)


def polished(
    components: Components, pool: Pool, held_out: Pool, rng: np.random.Generator
) -> Components:
    """Go on from given components by EM on the pooled draws, if held-out draws gain by it.

    Components fitted region by region do not know of their neighbours: where modes overlap, a
    border cuts through them.
    """
    x = pool.x[pool.pick(MAX_DRAWS, rng)]
    j, d = len(components.weights), x.shape[1]
    if j * d**2 > MAX_POLISHED or MAX_DRAWS < 4 * j * (d + 1):
        return components
    mean, root = x.mean(axis=0), factor(np.atleast_2d(np.cov(x.T)))
    inner = np.linalg.inv(np.linalg.solve(root, components.factors))
    model = GaussianMixture(
        j,
        reg_covar=1e-9,
        max_iter=20,
        weights_init=components.weights,
        means_init=np.linalg.solve(root, (components.means - mean).T).T,
        precisions_init=inner.swapaxes(1, 2) @ inner,
        random_state=int(rng.integers(2**31)),
    )
    try:
        trial = _fit_in(model, x, mean, root)
    except ValueError:
        # A component that lost its draws.
        return components
    test = held_out.x[held_out.pick(len(held_out.x), rng)]
    gain = np.mean(trial.log_density(test) - components.log_density(test))
    return trial if gain > MIN_GAIN else components


def _fit_in(
    model: GaussianMixture, x: np.ndarray, mean: np.ndarray, root: np.ndarray
) -> Components:
    """Fit a mixture in coordinates ``x = mean + root z``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(np.linalg.solve(root, (x - mean).T).T)
    return Components(
        model.weights_,
        mean + model.means_ @ root.T,
        root @ np.linalg.cholesky(model.covariances_),
    )
