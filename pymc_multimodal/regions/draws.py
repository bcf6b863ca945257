"""Draws inside the regions, and the diagnostics of the chains that made them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal._diagnostics import rank_diagnostics
from pymc_multimodal._text import span
from pymc_multimodal.status import counted

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

# Coordinates that R-hat and ESS are computed of in any case, beside the log density. An exact R-hat
# costs 4 ms for a coordinate, which is too much for all of a thousand. Measured:
# examples/benchmarks/constants.py
MAX_WATCHED = 48
# Fractional part of the golden ratio. Its multiples modulo 1 follow no period.
GOLDEN = 0.5 * (5.0**0.5 - 1.0)
# Plain R-hat from which on any other coordinate is watched as well: that from which on a region is
# flagged by default. Among a thousand coordinates of independent draws the largest is 1.012.
# And the most of them that are watched, those with the largest R-hat. Conventional.
SUSPECT_R_HAT, MAX_SUSPECTS = 1.02, 16

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

    def __repr__(self) -> str:
        """Say how many there are; the arrays are in the attributes."""
        sizes = np.array([x.shape[0] * x.shape[1] for x in self.x])
        return (
            f"<RegionDraws of {counted(len(self), 'region')}: {span(sizes, 'd')} draws each in "
            f"{counted(self.centre.shape[1], 'coordinate')}, ESS {span(self.ess, '.0f')}>"
        )

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

    def __repr__(self) -> str:
        """Say how the chains ran; the arrays are in the attributes."""
        regions = counted(len(self.r_hat), "region")
        if np.isnan(self.r_hat).all():
            return f"<ChainDiagnostics of {regions}: no chains were run>"
        return (
            f"<ChainDiagnostics of {regions}: R-hat {span(self.r_hat, '.3f')}, acceptance "
            f"{span(self.acceptance, '.2f')}, crossings {span(self.crossings, '.2f')}>"
        )

    @classmethod
    def unknown(cls, k: int) -> ChainDiagnostics:
        """Return those of k regions in which no chains ran."""
        nothing = np.full(k, np.nan)
        return cls(nothing, nothing, nothing, np.zeros(k, dtype=int))

    def take(self, rows: np.ndarray) -> ChainDiagnostics:
        """Return some regions, in the order of `rows`; statuses keep their numbers."""
        r_hat, acceptance, crossings = (
            part[rows] for part in (self.r_hat, self.acceptance, self.crossings)
        )
        return ChainDiagnostics(r_hat, acceptance, crossings, self.regime[rows], self.statuses)


def watched_columns(x: np.ndarray) -> np.ndarray:
    """Choose the coordinates of draws whose convergence is checked.

    Of up to 48 coordinates all are watched. Of more, one of each of 48 blocks is watched, at a
    place that follows no period, and any other coordinate whose chains differ in their means, or in
    their mean squared deviations, more than chains that have converged do.

    Parameters
    ----------
    x : array of shape (chains, draws, d)
        Unrolled draws.

    Returns
    -------
    array of int
        Columns in increasing order.
    """
    d = x.shape[2]
    if d <= MAX_WATCHED:
        return np.arange(d)
    block = np.arange(MAX_WATCHED)
    spaced = ((block + GOLDEN * block % 1.0) * d / MAX_WATCHED).astype(int)
    squares = (x - x.mean(axis=(0, 1))) ** 2
    largest = np.maximum(_plain_r_hat(x), _plain_r_hat(squares))
    suspects = np.argsort(-largest, kind="stable")[:MAX_SUSPECTS]
    return np.unique(np.concatenate([spaced, suspects[largest[suspects] > SUSPECT_R_HAT]]))


def _plain_r_hat(x: np.ndarray) -> np.ndarray:
    """Return the split R-hat of each quantity without ranks (Gelman et al. 2013), shape (d,).

    It is infinite where no chain moves, though chains differ, and 1 where nothing varies.
    """
    half = x.shape[1] // 2
    if half < 2:
        return np.ones(x.shape[2])
    halves = np.concatenate([x[:, :half], x[:, -half:]])
    within = halves.var(axis=1, ddof=1).mean(axis=0)
    between = halves.mean(axis=1).var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt((half - 1) / half + between / within)
    return np.where(np.isnan(ratio), 1.0, ratio)


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
