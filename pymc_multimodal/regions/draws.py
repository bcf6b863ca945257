"""Draws inside the regions, and the diagnostics of the chains that made them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal._diagnostics import rank_diagnostics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.status import Status

__all__ = [
    "ChainDiagnostics",
    "RegionDraws",
    "convergence",
    "convergences",
    "watched_columns",
]

# Coordinates that R-hat and ESS are computed of, beside the log density, which bounds the cost of
# the checks. They are evenly spaced: of a variable of shape (48, 2) they are the first components
# only. Measured: examples/benchmarks/constants.py
MAX_WATCHED = 48

# Values of watched quantities that are ranked at a time: 16 MB of float64. Conventional.
MAX_NUMBERS = 2_000_000


@dataclass(frozen=True)
class RegionDraws:
    """Draws inside each region, from chains, resampled, or given.

    Attributes
    ----------
    x, logp, grad : tuples of K arrays of shape (chains, draws, d), (chains, draws), ...
        Circular coordinates wrapped; gradients have a last axis of length 0 without gradient.
    centre : array of shape (K, d)
        A point of each region about which circular coordinates are unrolled.
    ess : array of shape (K,)
        Smallest effective sample size of a watched quantity.
    """

    x: tuple[np.ndarray, ...]
    logp: tuple[np.ndarray, ...]
    grad: tuple[np.ndarray, ...]
    centre: np.ndarray
    ess: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: np.ndarray) -> RegionDraws:
        """Return some regions, in the order of `rows`: new region i is old region ``rows[i]``."""
        x, logp, grad = (tuple(part[i] for i in rows) for part in (self.x, self.logp, self.grad))
        return RegionDraws(x, logp, grad, self.centre[rows], self.ess[rows])


@dataclass(frozen=True)
class ChainDiagnostics:
    """How the chains of each region ran.

    Attributes
    ----------
    r_hat, acceptance, crossings : arrays of shape (K,)
        Largest R-hat of a watched quantity, mean acceptance of the local moves, and share of the
        local moves that were rejected because they ended outside of the region.
    regime : array of int, shape (K,)
        0: local moves; 1: varied step sizes, and jumps from a fitted density as well; 2: longer
        trajectories, too.
    statuses : tuple of Status
    """

    r_hat: np.ndarray
    acceptance: np.ndarray
    crossings: np.ndarray
    regime: np.ndarray
    statuses: tuple[Status, ...] = ()

    def take(self, rows: np.ndarray) -> ChainDiagnostics:
        """Return some regions, in the order of `rows`; statuses keep their numbers."""
        r_hat, acceptance, crossings = (
            part[rows] for part in (self.r_hat, self.acceptance, self.crossings)
        )
        return ChainDiagnostics(r_hat, acceptance, crossings, self.regime[rows], self.statuses)


def watched_columns(d: int) -> np.ndarray:
    """Return the watched ones of d coordinates, evenly spaced: int array."""
    return np.unique(np.linspace(0, d - 1, min(d, MAX_WATCHED)).astype(int))


def convergence(watched: np.ndarray) -> tuple[float, float]:
    """Compute the largest R-hat and the smallest ESS of some quantities.

    Parameters
    ----------
    watched : array of shape (chains, draws, quantities)

    Returns
    -------
    r_hat : float
        Rank-normalised split R-hat (Vehtari et al. 2021); infinite for a quantity that never
        moved, which has certainly not converged.
    ess : float
        Bulk ESS of the same paper; 0 where it cannot be computed.
    """
    r_hat, size = convergences([watched])
    return float(r_hat[0]), float(size[0])


def convergences(watched: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Compute what `convergence` does for several regions at once.

    Parameters
    ----------
    watched : sequence of arrays of shape (chains, draws, quantities)
        One for each region; the number of draws may differ.

    Returns
    -------
    r_hat, ess : arrays, one entry for each region
    """
    r_hat, ess = np.full(len(watched), np.inf), np.zeros(len(watched))
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i, values in enumerate(watched):
        by_shape.setdefault(values.shape, []).append(i)
    for shape, regions in by_shape.items():
        size = max(1, MAX_NUMBERS // int(np.prod(shape)))
        for first in range(0, len(regions), size):
            own = regions[first : first + size]
            found = rank_diagnostics(np.concatenate([watched[i] for i in own], axis=2))
            each_r_hat, each_ess = (part.reshape(len(own), -1) for part in found)
            r_hat[own] = np.where(np.isfinite(each_r_hat), each_r_hat, np.inf).max(axis=1)
            ess[own] = np.where(np.isfinite(each_ess), each_ess, 0.0).min(axis=1)
    return r_hat, ess
