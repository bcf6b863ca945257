"""A normalised density fitted to draws of any sampler: its modes need not be known."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular
from threadpoolctl import threadpool_limits

from pymc_multimodal.proposals.elliptical import (
    DEFENSIVE_DF,
    DEFENSIVE_SHARE,
    DEFENSIVE_WIDTH,
    EllipticalMixture,
    defensive_mixture,
)
from pymc_multimodal.proposals.elliptical_fit import fit_gaussian, fit_mixture
from pymc_multimodal.proposals.mixture import GaussianMixture, MixtureError, fit_em
from pymc_multimodal.target.circle import is_circular, unroll, wrap

__all__ = ["fit_stored"]

# Part of each chain, its end, by which densities are compared. Conventional.
HELD_OUT_SHARE = 0.25
# Most components of a mixture. Conventional, as in `RegionalFamilies`.
MAX_COMPONENTS = 16
# Iterations of a fit that starts from a good mixture, and floor of its variances relative to those
# of all draws: modes that are 1e-4 of the whole in size. Those of proposals/lrds/mixture_fit.py.
REFINING_ITERATIONS, REFINING_FLOOR = 20, 1e-9
# Share of each component that becomes a Student-t density, and its degrees of freedom and width:
# the ratios are then bounded in the tails of each mode, not only in those of all together.
# Conventional, near the values of approximation/mixture.py.
TAIL_SHARE, TAIL_DF, TAIL_WIDTH = 0.1, 5.0, 1.3


def fit_stored(x: np.ndarray, period: np.ndarray, rng: np.random.Generator) -> EllipticalMixture:
    """Fit a heavy-tailed mixture of Gaussian or Student-t densities to draws.

    The last quarter of each chain chooses between one density and mixtures of 2, 4, 8 or 16.

    Parameters
    ----------
    x : array of shape (chains, n, d)
        Draws of several modes, or one.
    period : array of shape (d,)
        Periods of circular coordinates, ``inf`` elsewhere.
    rng : numpy.random.Generator

    Returns
    -------
    EllipticalMixture
        With components of heavier tails, so that it is positive everywhere inside the window.
    """
    d = x.shape[2]
    centre = _window_centre(x.reshape(-1, d), period)
    x = unroll(x, centre, period)
    first = x.shape[1] - max(1, round(HELD_OUT_SHARE * x.shape[1]))
    fitted, held_out = x[:, :first].reshape(-1, d), x[:, first:].reshape(-1, d)
    # On matrices this small, more threads of the linear algebra only wait for one another.
    with threadpool_limits(1, user_api="blas"):
        density = fit_gaussian(fitted, None, held_out, period, centre)
        mixture = fit_mixture(fitted, held_out, density, rng, MAX_COMPONENTS)
        if mixture is not None:
            density = _refined(mixture, density, fitted, held_out, rng)
    return defensive_mixture(_heavy_tailed(density), DEFENSIVE_SHARE, DEFENSIVE_DF, DEFENSIVE_WIDTH)


def _window_centre(x: np.ndarray, period: np.ndarray) -> np.ndarray:
    """Return the middle of the window, shape (d,): a circle is cut in the widest gap of its draws.

    On a line it is the mean.
    """
    centre = x.mean(axis=0)
    for i in np.flatnonzero(is_circular(period)):
        angle = np.sort(wrap(x[:, i : i + 1], period[i : i + 1])[:, 0])
        gap = np.diff(angle, append=angle[0] + period[i])
        widest = int(np.argmax(gap))
        centre[i] = angle[widest] + 0.5 * (gap[widest] + period[i])
    return wrap(centre, period)


def _refined(
    mixture: EllipticalMixture,
    base: EllipticalMixture,
    x: np.ndarray,
    held_out: np.ndarray,
    rng: np.random.Generator,
) -> EllipticalMixture:
    """Let narrow components become as narrow as they are, if held-out draws gain by it."""
    mean, scale = base.means[0], base.scales[0]
    z = solve_triangular(scale, (x - mean).T, lower=True).T
    try:
        fitted = fit_em(
            z,
            mixture.gaussian.n_components,
            floor=REFINING_FLOOR,
            init=mixture.gaussian.in_coordinates(mean, scale),
            iterations=REFINING_ITERATIONS,
            rng=rng,
        )
    except MixtureError:
        # A component lost its draws.
        return mixture
    narrow = EllipticalMixture(
        fitted.affine_image(mean, scale), mixture.df, mixture.period, mixture.centre
    )
    gain = np.mean(narrow.log_density(held_out)) - np.mean(mixture.log_density(held_out))
    return narrow if gain > 0 else mixture


def _heavy_tailed(density: EllipticalMixture) -> EllipticalMixture:
    """Turn a share of each component into a wider Student-t density."""
    inner = density.gaussian
    gaussian = GaussianMixture(
        np.concatenate([(1.0 - TAIL_SHARE) * inner.weights, TAIL_SHARE * inner.weights]),
        np.concatenate([inner.means, inner.means]),
        np.concatenate([inner.factors, TAIL_WIDTH * inner.factors]),
    )
    df = np.concatenate([density.df, np.minimum(density.df, TAIL_DF)])
    return EllipticalMixture(gaussian, df, density.period, density.centre)
