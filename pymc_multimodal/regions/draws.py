"""Draws inside the regions, and the diagnostics of the chains that made them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal._compat import ess, rhat

if TYPE_CHECKING:
    from pymc_multimodal.status import Status

__all__ = ["ChainDiagnostics", "RegionDraws", "convergence", "watched_columns"]

# Coordinates that R-hat and ESS are computed of, one by one, beside the log density: with more, the
# checks would cost more than the draws of a cheap density. The coordinates are evenly spaced: of a
# variable of shape (48, 2) they are the first components only.
# Measured: examples/benchmarks/constants.py
MAX_WATCHED = 48


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
    r_hat = rhat(watched)
    size = ess(watched)
    return (
        float(np.max(np.where(np.isfinite(r_hat), r_hat, np.inf))),
        float(np.min(np.where(np.isfinite(size), size, 0.0))),
    )
