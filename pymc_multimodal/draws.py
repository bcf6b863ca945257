"""Draws inside the regions, and by what they are judged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal._compat import ess, rhat

if TYPE_CHECKING:
    from pymc_multimodal.status import Status
    from pymc_multimodal.trajectory import Tuning

__all__ = ["LocalDraws", "convergence", "watched_columns"]

# R-hat and ESS are watched on the log density and at most so many coordinates, one by one.
MAX_WATCHED = 48


@dataclass(frozen=True)
class LocalDraws:
    """Draws inside each region.

    Attributes
    ----------
    x, logp, grad : tuples of K arrays of shape (chains, draws, d), (chains, draws), ...
        Circular coordinates wrapped; gradients have a last axis of length 0 without gradient.
    centre : array of shape (K, d)
        A point of each region about which circular coordinates are unrolled.
    tuning : Tuning
    r_hat, ess, acceptance, crossings : arrays of shape (K,)
        Largest R-hat, smallest effective sample size, mean acceptance, share of moves that
        were rejected for leaving the region.
    gears : array of int, shape (K,)
        0: local moves; 1: jumps from a fitted density as well; 2: longer trajectories, too.
    statuses : tuple of Status
    """

    x: tuple[np.ndarray, ...]
    logp: tuple[np.ndarray, ...]
    grad: tuple[np.ndarray, ...]
    centre: np.ndarray
    tuning: Tuning
    r_hat: np.ndarray
    ess: np.ndarray
    acceptance: np.ndarray
    crossings: np.ndarray
    gears: np.ndarray
    statuses: tuple[Status, ...] = ()

    def __len__(self) -> int:
        return len(self.x)

    def permuted(self, order: np.ndarray) -> LocalDraws:
        """Renumber the regions: new region i is old region ``order[i]``."""
        changes = {}
        for name, part in vars(self).items():
            if isinstance(part, np.ndarray):
                changes[name] = part[order]
            elif name in ("x", "logp", "grad"):
                changes[name] = tuple(part[i] for i in order)
        return replace(self, tuning=self.tuning.permuted(order), **changes)


def watched_columns(d: int) -> np.ndarray:
    """Coordinates that stand for all d, evenly spaced."""
    return np.unique(np.linspace(0, d - 1, min(d, MAX_WATCHED)).astype(int))


def convergence(watched: np.ndarray) -> tuple[float, float]:
    """Largest R-hat and smallest ESS of quantities of shape (chains, n, q)."""
    r_hat = rhat(watched)
    size = ess(watched)
    # A quantity that never moved has no R-hat; it has certainly not converged.
    return (
        float(np.max(np.where(np.isfinite(r_hat), r_hat, np.inf))),
        float(np.min(np.where(np.isfinite(size), size, 0.0))),
    )
