"""A partition by the nearest mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

from pymc_multimodal.target.circle import unroll

if TYPE_CHECKING:
    from pymc_multimodal.status import Status
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["NearestMode", "nearest_mode"]

# Largest weight of the covariance's diagonal when few draws leave the other entries uncertain.
# Measured: examples/benchmarks/constants.py
MAX_SHRINKAGE = 0.9
# Relative size of what is added to each variance, so that the covariance has a factor: small beside
# any sampling error. Conventional.
JITTER = 1e-9
# Least variance, for coordinates that never vary: its inverse is finite. Conventional.
MIN_VARIANCE = 1e-300


class NearestMode:
    """Region of the mode with the largest Gaussian density at the point.

    Parameters
    ----------
    centres : array of shape (K, d)
    scale : array of shape (K, d, d)
        Lower-triangular factors of the covariances.
    period : array of shape (d,)
        Periods of circular coordinates, ``inf`` elsewhere.
    """

    def __init__(self, centres: np.ndarray, scale: np.ndarray, period: np.ndarray) -> None:
        self.centres, self.scale, self.period = centres, scale, period
        self.n_regions = len(centres)
        self.statuses: tuple[Status, ...] = ()
        self._log_det = np.log(np.diagonal(scale, axis1=1, axis2=2)).sum(axis=1)
        self._inverse = np.stack([solve_triangular(s, np.eye(len(s)), lower=True) for s in scale])

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Log Gaussian density up to a constant, shape (n, K)."""
        out = np.empty((len(x), self.n_regions))
        for k in range(self.n_regions):
            step = unroll(x - self.centres[k], 0.0, self.period)
            z = step @ self._inverse[k].T
            out[:, k] = -0.5 * np.einsum("ni,ni->n", z, z) - self._log_det[k]
        return out

    def label(self, x: np.ndarray) -> np.ndarray:
        """Region of each row, shape (n,)."""
        if self.n_regions == 1:
            return np.zeros(len(x), dtype=int)
        return np.argmax(self.scores(x), axis=1)


def nearest_mode(target: LogDensity, draws: np.ndarray) -> NearestMode:
    """Return the nearest-mode partition with the means and covariances of draws.

    Parameters
    ----------
    target : LogDensity
        For the periods of its coordinates.
    draws : array of shape (K, m, d)

    Returns
    -------
    NearestMode
    """
    centres, scales = [], []
    for own in draws:
        first = own[0]
        step = target.unroll(own, first) - first
        mean = step.mean(axis=0)
        covariance = np.atleast_2d(np.cov(step.T))
        variance = np.maximum(np.diag(covariance), MIN_VARIANCE)
        # Short chains do not fill many dimensions: shrinkage towards the diagonal by d / m.
        weight = min(MAX_SHRINKAGE, own.shape[1] / len(own))
        covariance = (1 - weight) * covariance + weight * np.diag(variance)
        centres.append(target.wrap(first + mean))
        scales.append(np.linalg.cholesky(covariance + JITTER * np.diag(variance)))
    return NearestMode(np.array(centres), np.array(scales), target.period)
