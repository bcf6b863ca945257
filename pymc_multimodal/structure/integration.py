"""Weights and evidence by importance sampling of the hubs, with the units summed out."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.structure.extended import NEWTON_STEPS

if TYPE_CHECKING:
    from pymc_multimodal.structure.extended import UnitProposals
    from pymc_multimodal.target.density import Density

__all__ = [
    "MOST_POINTS",
    "UnbiasedMarginal",
    "UnitSample",
    "choose_points",
    "draw_units",
    "grouped",
]

# Numbers of points that are tried. Conventional.
TRIED_POINTS = (4, 6, 8, 12, 16, 24, 32, 48, 64)
MOST_POINTS = TRIED_POINTS[-1]
# Variance of the log marginal density below which no more points are tried. Conventional: a tenth
# of the effective size.
LOW_VARIANCE = 0.1
# Loss by the variance (nats): that of effective size, and as much for tails of the estimate that
# are heavier than those of a lognormal one. Conventional.
VARIANCE_FACTOR = 2.0
# Two quantiles of the square of a standard normal variable, by which the variance is estimated: the
# larger estimate counts.
QUANTILES, SQUARES = (0.5, 0.9), (0.4549, 2.7055)
# Evaluations that take as long as one point, whose density has to be found, too. Measured:
# examples/benchmarks/structure.py
EVALUATIONS_PER_POINT = 2.0


class UnbiasedMarginal:
    """Unbiased estimates of the marginal density of the hubs: a new one in each call.

    Parameters
    ----------
    density : Density
    proposals : UnitProposals
    rng : numpy.random.Generator
    """

    def __init__(
        self, density: Density, proposals: UnitProposals, rng: np.random.Generator
    ) -> None:
        self.density, self.proposals, self.rng = density, proposals, rng

    def __call__(self, g: np.ndarray) -> tuple[np.ndarray, None]:
        """Estimate the log density of hubs (n, H), shape (n,)."""
        return self.proposals.draw(self.density, g, self.rng).log_marginal, None


@dataclass(frozen=True, eq=False)
class UnitSample:
    """What a sample of extended draws says, without its points.

    Attributes
    ----------
    x : array of shape (n, d)
        One draw for each of the hubs, chosen by the units' weights.
    logp : array of shape (n,)
        Log density of the draws.
    log_marginal : array of shape (n,)
    log_mean : array of shape (n, N)
        Log mean weight of each unit.
    share : array of float32, shape (n, N, K)
        Share of each explanation in its unit's weight.
    doubt : array of float32, shape (n, N)
        Share of which the explanation is not clear: `Extended.doubt`.
    """

    x: np.ndarray
    logp: np.ndarray
    log_marginal: np.ndarray
    log_mean: np.ndarray
    share: np.ndarray
    doubt: np.ndarray

    def __len__(self) -> int:
        return len(self.logp)

    @classmethod
    def joined(cls, parts: list[UnitSample]) -> UnitSample:
        """Join samples."""
        names = cls._names()
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))

    def take(self, rows: np.ndarray) -> UnitSample:
        """Return some of the draws."""
        return UnitSample(*(getattr(self, name)[rows] for name in self._names()))

    @classmethod
    def _names(cls) -> list[str]:
        return [f.name for f in fields(cls)]


def draw_units(
    density: Density, proposals: UnitProposals, g: np.ndarray, rng: np.random.Generator
) -> UnitSample:
    """Draw and weigh units at hubs (n, H)."""
    parts, group = [], proposals.mixtures.anchors.group
    for first in range(0, len(g), proposals.rows):
        own = proposals.draw(density, g[first : first + proposals.rows], rng)
        z, logp = own.chosen(rng)
        parts.append(
            UnitSample(
                proposals.units.scatter(own.g, z),
                logp,
                own.log_marginal,
                own.log_mean,
                grouped(own.mass(), group).astype(np.float32),
                own.doubt(group).astype(np.float32),
            )
        )
    return UnitSample.joined(parts)


def grouped(mass: np.ndarray, group: np.ndarray | None) -> np.ndarray:
    """Add the shares (n, N, K) of places that are one explanation, at the first of these."""
    if group is None:
        return mass
    out = np.zeros_like(mass)
    unit = np.arange(len(group))
    for place in range(group.shape[1]):
        out[:, unit, group[:, place]] += mass[:, :, place]
    return out


def choose_points(
    density: Density, proposals: UnitProposals, g: np.ndarray, rng: np.random.Generator
) -> tuple[int, int]:
    r"""Return how many points of each unit give the largest effective size for their cost.

    Estimates of the marginal density whose logarithm has the variance :math:`\sigma^2` reduce the
    effective size by :math:`e^{-\sigma^2}`.

    Parameters
    ----------
    density : Density
    proposals : UnitProposals
    g : array of shape (n, H)
        Typical hubs.
    rng : numpy.random.Generator

    Returns
    -------
    points, steps : int
        Points, and Newton steps before they are drawn.
    """
    best, least = (TRIED_POINTS[0], NEWTON_STEPS), np.inf
    for steps in (0, NEWTON_STEPS) if proposals.units.n_hubs else (NEWTON_STEPS,):
        for points in TRIED_POINTS:
            tried = replace(proposals, points=points, steps=steps)
            cost = points + tried.evaluations / EVALUATIONS_PER_POINT
            if np.log(cost) >= least:
                break
            variance = _variance(density, tried, g, rng)
            loss = np.log(cost) + VARIANCE_FACTOR * variance
            if loss < least:
                best, least = (points, steps), loss
            if variance < LOW_VARIANCE:
                break
    return best


def _variance(
    density: Density, proposals: UnitProposals, g: np.ndarray, rng: np.random.Generator
) -> float:
    """Estimate the variance of the log marginal density, by two estimates at each of the hubs."""
    first, second = (proposals.draw(density, g, rng).log_marginal for _ in range(2))
    with np.errstate(invalid="ignore"):
        square = 0.5 * np.square(first - second)
    square = square[np.isfinite(square)]
    if not len(square):
        return np.inf
    return float(np.max(np.quantile(square, QUANTILES) / SQUARES))
