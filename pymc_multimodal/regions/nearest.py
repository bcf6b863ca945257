"""A partition by the nearest mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

from pymc_multimodal.target.blocks import Blocks
from pymc_multimodal.target.circle import is_circular, unroll
from pymc_multimodal.target.radii import RadiusBounds

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
# Regions up to which all scores of a point are computed: the bounds gain nothing then.
# Conventional.
FEW_REGIONS = 16
# Scores that are held at a time: 4 MB of float64. Conventional.
MAX_SCORES = 500_000
# Share by which radii are shortened, for the rounding of distances. Conventional.
RADIUS_MARGIN = 1e-3


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
        self._bounds: RadiusBounds | None = None
        if self.n_regions > FEW_REGIONS and not is_circular(period).any():
            self._bounds = RadiusBounds(centres, scale, self._inverse)
            self._certain = _certain_radii(self._bounds, self._log_det)

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
        label = self._by_scores if self._bounds is None else self._by_bounds
        size = max(1, MAX_SCORES // self.n_regions)
        parts = [label(x[first : first + size]) for first in range(0, max(len(x), 1), size)]
        return np.concatenate(parts)

    def stays(self, x: np.ndarray, region: np.ndarray) -> np.ndarray:
        """Tell which rows lie so near to the mode of a region that no other region can have them.

        It costs one distance a row, where `label` compares all regions.

        Parameters
        ----------
        x : array of shape (n, d)
        region : array of int, shape (n,)

        Returns
        -------
        array of bool, shape (n,)
            False where it is not certain.
        """
        if self._bounds is None:
            return np.zeros(len(x), dtype=bool)
        step = self._bounds.coordinates(x) - self._bounds.y[region]
        return np.einsum("ni,ni->n", step, step) < self._certain[region] ** 2

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Region of each row, shape (n,)."""
        return self.label(x)

    def _by_scores(self, x: np.ndarray) -> np.ndarray:
        return np.argmax(self.scores(x), axis=1)

    def _by_bounds(self, x: np.ndarray) -> np.ndarray:
        """Region of each row; scores are computed where an upper bound does not exclude them."""
        assert self._bounds is not None
        bound = -0.5 * self._bounds.squared(x) - self._log_det
        best = np.argmax(bound, axis=1)
        score = self._scores_of_pairs(x, best)
        possible = bound > score[:, None]
        possible[np.arange(len(x)), best] = False
        row, region = np.nonzero(possible)
        if len(row):
            other = self._scores_of_pairs(x[row], region)
            # The first region of the largest score, as argmax has it.
            order = np.lexsort((region, -other))
            row, region, other = row[order], region[order], other[order]
            row, first = np.unique(row, return_index=True)
            region, other = region[first], other[first]
            tie = (other == score[row]) & (region < best[row])
            better = (other > score[row]) | tie
            best[row[better]] = region[better]
        return best

    def _scores_of_pairs(self, x: np.ndarray, region: np.ndarray) -> np.ndarray:
        """Score of one region at each row, shape (n,)."""
        blocks = Blocks(region, self.n_regions)
        z = blocks.times(x - self.centres[region], self._inverse.swapaxes(1, 2))
        return -0.5 * np.einsum("ni,ni->n", z, z) - self._log_det[region]


def _certain_radii(bounds: RadiusBounds, log_det: np.ndarray) -> np.ndarray:
    """Distance from each centre within which its region is certain, shape (K,).

    At distance r from centre k, and at least D - r from centre j, the score of k is at least
    ``-most[k] r^2 / 2 - log_det[k]``, that of j at most ``-least[j] (D - r)^2 / 2 - log_det[j]``.
    The two are equal at a root of a quadratic equation in r.
    """
    k = len(bounds.y)
    radius = np.empty(k)
    size = max(1, MAX_SCORES // k)
    square = np.einsum("ki,ki->k", bounds.y, bounds.y)
    for rows in np.split(np.arange(k), range(size, k, size)):
        cross = bounds.y[rows] @ bounds.y.T
        apart = np.sqrt(np.maximum(square[rows, None] + square - 2 * cross, 0.0))
        a = bounds.least - bounds.most[rows, None]
        b = -2 * bounds.least * apart
        c = bounds.least * apart**2 + 2 * (log_det - log_det[rows, None])
        # The smaller root of a r^2 + b r + c, in a form without cancellation, as b < 0.
        with np.errstate(invalid="ignore", divide="ignore"):
            root = 2 * c / (-b + np.sqrt(b**2 - 4 * a * c))
        root = np.where((c > 0) & np.isfinite(root), root, 0.0)
        root = np.minimum(root, apart)
        root[np.arange(len(rows)), rows] = np.inf
        radius[rows] = root.min(axis=1)
    return (1.0 - RADIUS_MARGIN) * radius


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
