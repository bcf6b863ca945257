"""The partition: every point of R^d gets one region, so that evidences add up exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.linalg import solve_triangular

from pymc_multimodal.regions.svc import SupportVectors
from pymc_multimodal.status import Status
from pymc_multimodal.target.circle import unroll

if TYPE_CHECKING:
    from pymc_multimodal.regions.settings import Regions
    from pymc_multimodal.status import Status
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["NearestMode", "Partition", "segment"]


class Partition(Protocol):
    """A labelling of R^d by disjoint regions that cover it."""

    n_regions: int
    statuses: tuple[Status, ...]

    def label(self, x: np.ndarray) -> np.ndarray:
        """Region of each row: (n, d) -> int array of shape (n,)."""
        ...


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
        """Region of each row."""
        if self.n_regions == 1:
            return np.zeros(len(x), dtype=int)
        return np.argmax(self.scores(x), axis=1)


def segment(
    density: LogDensity,
    draws: np.ndarray,
    extra_points: np.ndarray,
    extra_labels: np.ndarray,
    config: Regions,
    corrections: tuple[np.ndarray, np.ndarray],
) -> Partition:
    """Cut R^d into one region per mode.

    Parameters
    ----------
    density : LogDensity
        For the periods of its coordinates.
    draws : array of shape (K, m, d)
        Draws of short unrestricted chains, by the mode they began in.
    extra_points, extra_labels : arrays of shape (p, d) and (p,)
        Starts and points on the optimisers' paths, with their modes.
    config : Regions
    corrections : arrays of shape (c, d) and (c,)
        Points that an earlier partition put into the wrong region, with their modes.

    Returns
    -------
    Partition
    """
    k, m, d = draws.shape
    if k == 1 or config.method == "nearest" or k > config.max_svc_modes:
        return nearest_mode(density, draws)
    # Chains say more about where a region is than starts do: starts are thinned to a fraction.
    chosen: list[int] = []
    for mode in range(k):
        rows = np.flatnonzero(extra_labels == mode)
        chosen += list(rows[:: max(1, len(rows) // max(m // 4, 1))][: m // 4])
    some = _plausible(density, draws, extra_points, extra_labels, np.array(chosen, dtype=int))
    known = corrections[1] >= 0
    points = np.concatenate([draws.reshape(-1, d), extra_points[some], corrections[0][known]])
    labels = np.concatenate([np.repeat(np.arange(k), m), extra_labels[some], corrections[1][known]])
    return SupportVectors(points, labels, density.period, config, judged=k * m)


def _plausible(
    density: LogDensity, draws: np.ndarray, points: np.ndarray, labels: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Keep the rows of points that hold mass: a border bent to suit others cuts through it."""
    level = density.logp(draws[:, ::16].reshape(-1, draws.shape[2]))
    level = level.reshape(len(draws), -1).max(axis=1)
    floor = level[labels[rows]] - 20.0 - draws.shape[2]
    return rows[density.logp(points[rows]) > floor] if len(rows) else rows


def nearest_mode(density: LogDensity, draws: np.ndarray) -> NearestMode:
    """Nearest-mode partition with the centres and covariances of draws, shape (K, m, d)."""
    centres, scales = [], []
    for own in draws:
        centre = own[0]
        step = density.unroll(own, centre) - centre
        mean = step.mean(axis=0)
        covariance = np.atleast_2d(np.cov(step.T))
        variance = np.maximum(np.diag(covariance), 1e-300)
        # Shrinkage towards the diagonal: short chains do not fill high dimensions.
        weight = min(0.9, own.shape[1] / len(own))
        covariance = (1 - weight) * covariance + weight * np.diag(variance)
        centres.append(density.wrap(centre + mean))
        scales.append(np.linalg.cholesky(covariance + 1e-9 * np.diag(variance)))
    return NearestMode(np.array(centres), np.array(scales), density.period)


class PermutedPartition:
    """A partition with its regions renumbered.

    Parameters
    ----------
    base : Partition
    order : array of int, shape (K,)
        ``order[i]`` is the old number of the new region i.
    """

    def __init__(self, base: Partition, order: np.ndarray) -> None:
        self.base = base
        self.n_regions = base.n_regions
        self._rank = np.argsort(order)
        self.statuses = base.statuses

    def label(self, x: np.ndarray) -> np.ndarray:
        """Region of each row."""
        return self._rank[self.base.label(x)]


def mixing_groups(density: LogDensity, draws: np.ndarray) -> np.ndarray:
    """Group modes whose unrestricted chains mix.

    Parameters
    ----------
    density : LogDensity
    draws : array of shape (K, chains, moves, d)

    Returns
    -------
    array of int, shape (K,)
        Group of each mode, numbered from 0 in order of first appearance.
    """
    k, _, moves, d = draws.shape
    group = np.arange(k)
    if k == 1:
        return group
    late = draws[:, :, -max(1, moves // 4) :].reshape(k, -1, d)
    partition = nearest_mode(density, late)
    stay = np.zeros((k, k))
    for a in range(k):
        stay[a] = np.bincount(partition.label(late[a]), minlength=k) / late.shape[1]
    # A mode that half of its own chains have left is no mode; two that exchange a third of
    # theirs within these few moves are one for any longer run.
    joined = (stay > 0.5) | (stay.T > 0.5) | ((stay > 0.3) & (stay.T > 0.3))
    for a, b in np.argwhere(np.triu(joined, k=1)):
        group[group == group[b]] = group[a]
    return np.unique(group, return_inverse=True)[1]
