"""Fits of elliptical densities to draws; held-out draws choose among them."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from pymc_multimodal.moves.adaptation import fit_metric
from pymc_multimodal.proposals.elliptical import (
    LEAST_VARIANCE,
    RELATIVE_RIDGE,
    EllipticalMixture,
    factor,
)
from pymc_multimodal.proposals.mixture import MixtureError, fit_em

__all__ = ["fit_gaussian", "fit_mixture", "shrunk_factor"]

# Draws that expectation maximisation works on at most: its cost grows in proportion to the draws.
# Measured: examples/benchmarks/constants.py
MAX_EM_DRAWS = 4000
# Iterations of EM for a Student-t and for a mixture. EM gains most in the first ones, and held-out
# draws judge what it came to. Measured: examples/benchmarks/constants.py
STUDENT_ITERATIONS, MIXTURE_ITERATIONS = 15, 100
# Floor of a mixture's variances, relative to those of the region: components of a hundredth of the
# region's width are the narrowest that a few thousand draws can tell from single draws.
# Measured: examples/benchmarks/constants.py
MIXTURE_FLOOR = 1e-4
# Fewest draws for each free parameter of a component's mean and covariance factor, per dimension.
# Measured: examples/benchmarks/constants.py
DRAWS_PER_COMPONENT = 4
# Kurtosis relative to a Gaussian's (Mardia 1970) from which Student-t densities are tried, and
# their degrees of freedom. Measured: examples/benchmarks/constants.py
HEAVY_KURTOSIS = 1.15
STUDENT_DFS = (1.0, 3.0, 5.0, 12.0)
# Largest share of the diagonal in a covariance of fewer draws than dimensions; conventional.
MAX_SHRINKAGE = 0.5


def shrunk_factor(x: np.ndarray, least_variance: np.ndarray | float) -> np.ndarray:
    """Factor of the covariance of draws, with off-diagonals shrunk where draws are few.

    The share ``d / (2 n)``, at most `MAX_SHRINKAGE`, of the covariance is replaced by its diagonal:
    the sample covariance of fewer draws than dimensions is singular.

    Parameters
    ----------
    x : array of shape (n, d)
    least_variance : array of shape (d,) or float
        Variances on the diagonal are at least this.
    """
    n, d = x.shape
    covariance = np.atleast_2d(np.cov(x.T)) if n > 1 else np.eye(d)
    variance = np.diag(np.maximum(np.diag(covariance), least_variance))
    share = min(MAX_SHRINKAGE, d / (2.0 * n))
    return np.linalg.cholesky((1 - share) * covariance + (share + RELATIVE_RIDGE) * variance)


def fit_gaussian(
    x: np.ndarray,
    grad: np.ndarray | None,
    held_out: np.ndarray,
    period: np.ndarray,
    centre: np.ndarray,
) -> EllipticalMixture:
    """Fit one elliptical density to draws and their gradients; held-out draws choose how.

    Candidates are the sample covariance, the fit by Fisher divergence (the geometric mean of the
    covariance of the draws and the inverse of that of the gradients; exact for a Gaussian from as
    many draws as dimensions), and Student-t densities where the draws are heavy-tailed.

    Parameters
    ----------
    x, grad : arrays of shape (n, d)
        Unrolled draws and gradients there; grad may be None.
    held_out : array of shape (m, d)
        Unrolled draws of other chains.
    period, centre : arrays of shape (d,)

    Returns
    -------
    EllipticalMixture
        The candidate of the largest mean log density of the held-out draws.
    """
    d = x.shape[1]
    mean, sample = x.mean(axis=0), shrunk_factor(x, LEAST_VARIANCE)
    candidates = [EllipticalMixture.single(mean, sample, np.inf, period, centre)]
    if grad is not None and len(x) > d:
        fisher = fit_metric(x, grad, sample)
        shifted = mean + fisher @ (fisher.T @ grad.mean(axis=0))
        candidates.append(EllipticalMixture.single(shifted, fisher, np.inf, period, centre))
    z = np.linalg.solve(sample, (x - mean).T)
    r2 = np.einsum("in,in->n", z, z)
    # A Gaussian's E r^4 is d (d + 2) (E r^2 / d)^2.
    if np.mean(r2**2) > HEAVY_KURTOSIS * d * (d + 2) * (np.mean(r2) / d) ** 2:
        candidates += [
            EllipticalMixture.single(*_student(x, mean, sample, df), df, period, centre)
            for df in STUDENT_DFS
        ]
    scores = [float(np.mean(c.log_density(held_out))) for c in candidates]
    return candidates[int(np.argmax(scores))]


def _student(
    x: np.ndarray, mean: np.ndarray, scale: np.ndarray, df: float
) -> tuple[np.ndarray, np.ndarray]:
    """Location and scale of a multivariate t of given df, by EM (Liu and Rubin 1995)."""
    d = x.shape[1]
    x = _thinned(x)
    for _ in range(STUDENT_ITERATIONS):
        z = solve_triangular(scale, (x - mean).T, lower=True)
        u = (df + d) / (df + np.einsum("in,in->n", z, z))
        mean = u @ x / u.sum()
        step = (x - mean) * np.sqrt(u)[:, None]
        scale = factor(step.T @ step / len(x))
    return mean, scale


def fit_mixture(
    x: np.ndarray,
    held_out: np.ndarray,
    base: EllipticalMixture,
    rng: np.random.Generator,
    max_components: int,
) -> EllipticalMixture | None:
    """Fit Gaussian mixtures of 2, 4, 8, ... components while held-out draws gain.

    Parameters
    ----------
    x, held_out : arrays of shape (n, d) and (m, d)
        Unrolled draws of different chains.
    base : EllipticalMixture
        The single density; its scale whitens the draws.
    rng : numpy.random.Generator
    max_components : int

    Returns
    -------
    EllipticalMixture or None
        None if no mixture is better than the single density on held-out draws, or there are too
        few draws for one.
    """
    x, held_out = _thinned(x), _thinned(held_out)
    n, d = x.shape
    mean, scale = base.means[0], base.scales[0]
    z = solve_triangular(scale, (x - mean).T, lower=True).T
    best, j = None, 2
    best_score = float(np.mean(base.log_density(held_out)))
    while j <= max_components and n >= DRAWS_PER_COMPONENT * j * (d + 1):
        try:
            fitted = fit_em(
                z, j, floor=MIXTURE_FLOOR, init="k-means++", iterations=MIXTURE_ITERATIONS, rng=rng
            )
        except MixtureError:
            break
        trial = EllipticalMixture(
            fitted.affine_image(mean, scale), np.full(j, np.inf), base.period, base.centre
        )
        score = float(np.mean(trial.log_density(held_out)))
        if score <= best_score:
            break
        best, best_score, j = trial, score, 2 * j
    return best


def _thinned(x: np.ndarray) -> np.ndarray:
    """Evenly spaced rows, `MAX_EM_DRAWS` to twice as many at most."""
    return x[:: max(1, len(x) // MAX_EM_DRAWS)]
