"""Gaussian mixtures that a reference is made of, fitted to the draws of all regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaincinv

from pymc_multimodal.proposals.elliptical import EllipticalMixture, factor
from pymc_multimodal.proposals.lrds.affine import AffineMap
from pymc_multimodal.proposals.mixture import GaussianMixture, MixtureError, fit_em

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.proposals.base import RegionDensity
    from pymc_multimodal.proposals.lrds.pool import PooledDraws, SplitDraws

__all__ = ["fit_pooled_mixture", "gaussian_per_region", "join_region_mixtures", "refine_mixture"]

# Draws that expectation maximisation works on. Conventional; the number bounds the time.
EM_DRAWS = 20_000
# Most iterations of a fit from clusters, and of one that starts from a good mixture. Conventional.
EM_ITERATIONS, REFINING_ITERATIONS = 300, 20
# Ridges of these two fits, in units of the variance of the pooled draws. A fit from clusters may
# put a component on few draws; a good mixture may have modes that are 1e-4 of the whole in size.
# Measured: examples/benchmarks/constants.py
EM_FLOOR, REFINING_FLOOR = 1e-6, 1e-9
# Most numbers in the covariances of a mixture for which refining takes seconds. Conventional.
MAX_COVARIANCE_NUMBERS = 50_000
# Fewest draws per parameter of a location (d + 1) and component for refining; as in
# `elliptical.fit_mixture`. Conventional.
MIN_DRAWS_PER_PARAMETER = 4
# Nats of mean held-out log density that refining has to gain.
# Measured: examples/benchmarks/constants.py
MIN_GAIN = 0.01
# Gaussians that stand for one Student-t component.
# Measured: examples/benchmarks/constants.py
STUDENT_LAYERS = 4


def join_region_mixtures(
    densities: Sequence[RegionDensity], weights: np.ndarray
) -> GaussianMixture:
    """Join the mixtures of the regions, each with its weight.

    A Student-t component is a mixture of Gaussians over chi-squared scales. It becomes
    `STUDENT_LAYERS` Gaussians of the same shape, at the quantiles of these scales.

    Parameters
    ----------
    densities : sequence of RegionDensity
        Elliptical mixtures, whose sizes held-out draws chose, and defensive components.
    weights : array of shape (K,)
        Weights of the regions; positive.

    Returns
    -------
    GaussianMixture
    """
    shares, means, factors = [], [], []
    for weight, density in zip(weights, densities, strict=True):
        undefended = density.undefended
        assert isinstance(undefended, EllipticalMixture)
        gaussian = undefended.gaussian
        for share, mean, scale, df in zip(
            gaussian.weights, gaussian.means, gaussian.factors, undefended.df, strict=True
        ):
            sizes = np.ones(1)
            if np.isfinite(df):
                quantiles = (np.arange(STUDENT_LAYERS) + 0.5) / STUDENT_LAYERS
                sizes = np.sqrt(0.5 * df / gammaincinv(0.5 * df, quantiles))
            for size in sizes:
                shares.append(weight * share / len(sizes))
                means.append(mean)
                factors.append(size * scale)
    return GaussianMixture(np.array(shares) / np.sum(shares), np.array(means), np.array(factors))


def gaussian_per_region(draws: PooledDraws) -> GaussianMixture:
    """One Gaussian for each region, with the moments of its draws."""
    weights, means, factors = [], [], []
    for k in np.unique(draws.region):
        rows = draws.region == k
        weights.append(draws.probability[rows].sum())
        means.append(draws.x[rows].mean(axis=0))
        factors.append(factor(np.atleast_2d(np.cov(draws.x[rows].T))))
    return GaussianMixture(np.array(weights), np.stack(means), np.stack(factors))


def fit_pooled_mixture(
    draws: PooledDraws, components: int, rng: np.random.Generator
) -> GaussianMixture:
    """Fit a mixture of a given number of components to draws chosen by probability."""
    x = draws.x[draws.choose_rows(EM_DRAWS, rng)]
    whitening = _whitening(x)
    fitted = fit_em(
        whitening.to_z(x),
        components,
        floor=EM_FLOOR,
        init="kmeans",
        iterations=EM_ITERATIONS,
        rng=rng,
    )
    return fitted.affine_image(whitening.origin, whitening.factor)


def refine_mixture(
    mixture: GaussianMixture, draws: SplitDraws, rng: np.random.Generator
) -> GaussianMixture:
    """Improve a mixture by expectation maximisation on the draws of all regions.

    Components that were fitted region by region do not know of the other regions. Where modes
    overlap, the border between two regions cuts through both modes.

    Parameters
    ----------
    mixture : GaussianMixture
    draws : SplitDraws
    rng : numpy.random.Generator

    Returns
    -------
    GaussianMixture
        The same one where held-out draws gain less than `MIN_GAIN` nats, where there are too few
        draws for its components, or where it is too large.
    """
    x = draws.training.x[draws.training.choose_rows(EM_DRAWS, rng)]
    j, d = mixture.n_components, x.shape[1]
    if j * d**2 > MAX_COVARIANCE_NUMBERS or EM_DRAWS < MIN_DRAWS_PER_PARAMETER * j * (d + 1):
        return mixture
    whitening = _whitening(x)
    try:
        fitted = fit_em(
            whitening.to_z(x),
            j,
            floor=REFINING_FLOOR,
            init=mixture.in_coordinates(whitening.origin, whitening.factor),
            iterations=REFINING_ITERATIONS,
            rng=rng,
        )
    except MixtureError:
        # A component lost its draws.
        return mixture
    refined = fitted.affine_image(whitening.origin, whitening.factor)
    held_out = draws.held_out
    test = held_out.x[held_out.choose_rows(len(held_out.x), rng)]
    gain = np.mean(refined.log_density(test) - mixture.log_density(test))
    return refined if gain > MIN_GAIN else mixture


def _whitening(x: np.ndarray) -> AffineMap:
    """Coordinates in which draws have unit covariance."""
    return AffineMap(x.mean(axis=0), factor(np.atleast_2d(np.cov(x.T))))
