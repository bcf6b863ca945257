"""Normals that describe particles, and the regions that they form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.special import logsumexp

from pymc_multimodal.target.circle import unroll, wrap

if TYPE_CHECKING:
    from pymc_multimodal.status import Status

__all__ = ["ClusterPartition", "Clusters", "cluster"]

# Normals at most, and particles for each parameter of one. Conventional.
MAX_NORMALS, PER_PARAMETER = 12, 1
# Two normals are one region if their mixture has no valley between them that is deeper than this
# (nats): as `ModeSearch.barrier`.
BARRIER = 1.0
# Points between two centres at which the mixture is looked at. Conventional.
BETWEEN = 33
# Attempts of a fit, and what is added to variances relative to those of all. Conventional.
ATTEMPTS, JITTER = 3, 1e-6


@dataclass(frozen=True, eq=False)
class Clusters:
    """A mixture of normals, and the region of each.

    Attributes
    ----------
    share : array of shape (C,)
    centre : array of shape (C, H)
    scale : array of shape (C, H, H)
        Lower-triangular factors of the covariances.
    region : array of int, shape (C,)
        Regions are numbered from 0.
    period : array of shape (H,)
    """

    share: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    region: np.ndarray
    period: np.ndarray

    def __len__(self) -> int:
        return len(self.share)

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return int(self.region.max()) + 1

    @property
    def width(self) -> np.ndarray:
        """Standard deviations within the normals, shape (H,).

        The distance between modes is no part of it: with that, the nearest of some points would
        often be one of another mode.
        """
        variance = np.einsum("cij,cij->ci", self.scale, self.scale)
        out: np.ndarray = np.sqrt(self.share @ variance / self.share.sum())
        return out

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n points, shape (n, H)."""
        which = rng.choice(len(self), size=n, p=self.share / self.share.sum())
        noise = rng.standard_normal((n, self.centre.shape[1]))
        step = np.einsum("nij,nj->ni", self.scale[which], noise)
        return wrap(self.centre[which] + step, self.period)

    def log_parts(self, g: np.ndarray) -> np.ndarray:
        """Log of share times density of each normal at points (n, H), shape (n, C)."""
        out = np.empty((len(g), len(self)))
        for c in range(len(self)):
            step = unroll(g - self.centre[c], 0.0, self.period)
            r = np.linalg.solve(self.scale[c], step.T)
            log_det = np.log(np.diag(self.scale[c])).sum()
            out[:, c] = np.log(self.share[c]) - log_det - 0.5 * np.einsum("hn,hn->n", r, r)
        return out


class ClusterPartition:
    """The regions of clusters: of hubs, or of points by some of their coordinates.

    Parameters
    ----------
    clusters : Clusters or None
        None: there is one region.
    columns : array of int, optional
        Coordinates of points that are hubs; by default points are hubs.
    """

    def __init__(self, clusters: Clusters | None, columns: np.ndarray | None = None) -> None:
        self.clusters, self.columns = clusters, columns
        self.n_regions = 1 if clusters is None else clusters.n_regions
        self.statuses: tuple[Status, ...] = ()

    def of_points(self, columns: np.ndarray) -> ClusterPartition:
        """Return the partition of points whose given coordinates are the hubs."""
        return ClusterPartition(self.clusters, columns)

    def label(self, x: np.ndarray) -> np.ndarray:
        """Region of each row, shape (n,)."""
        if self.clusters is None or self.n_regions == 1:
            return np.zeros(len(x), dtype=int)
        parts = self.clusters.log_parts(x if self.columns is None else x[:, self.columns])
        by_region = [
            logsumexp(parts[:, self.clusters.region == r], axis=1) for r in range(self.n_regions)
        ]
        out: np.ndarray = np.argmax(by_region, axis=0)
        return out


def cluster(g: np.ndarray, period: np.ndarray, rng: np.random.Generator) -> Clusters:
    """Fit normals to particles, as many as Schwarz's criterion (BIC) asks for.

    Parameters
    ----------
    g : array of shape (P, H)
    period : array of shape (H,)
        Periods of circular coordinates, ``inf`` elsewhere.
    rng : numpy.random.Generator

    Returns
    -------
    Clusters
        The largest region first.
    """
    # It is imported where it is needed: that takes a second.
    from sklearn.mixture import GaussianMixture as SklearnMixture

    n, h = g.shape
    around = g[rng.integers(n)]
    x = unroll(g, around, period)
    centre, unit = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-300)
    most = min(MAX_NORMALS, max(1, n // (PER_PARAMETER * (h + 1) * (h + 2) // 2)))
    best = None
    for k in range(1, most + 1):
        fit = SklearnMixture(
            k, reg_covar=JITTER, n_init=ATTEMPTS, random_state=int(rng.integers(2**31))
        ).fit((x - centre) / unit)
        bic = fit.bic((x - centre) / unit)
        if best is not None and bic > best[0]:
            break
        best = (bic, fit)
    assert best is not None
    fit = best[1]
    scale = np.linalg.cholesky(fit.covariances_) * unit[:, None]
    order = np.argsort(-fit.weights_)
    found = Clusters(
        fit.weights_[order],
        wrap(centre + unit * fit.means_[order], period),
        scale[order],
        np.zeros(len(order), dtype=int),
        period,
    )
    return Clusters(found.share, found.centre, found.scale, _regions(found), period)


def _regions(found: Clusters) -> np.ndarray:
    """Join normals between which the mixture has no valley; the largest region is the first."""
    c = len(found)
    joined = np.eye(c, dtype=bool)
    t = np.linspace(0.0, 1.0, BETWEEN)[:, None]
    for i in range(c):
        for j in range(i):
            step = unroll(found.centre[j] - found.centre[i], 0.0, found.period)
            height = logsumexp(found.log_parts(found.centre[i] + t * step), axis=1)
            joined[i, j] = height.min() > min(height[0], height[-1]) - BARRIER
    _, label = connected_components(joined, directed=False)
    mass = np.bincount(label, found.share)
    rank = np.argsort(np.argsort(-mass))
    out: np.ndarray = rank[label]
    return out
