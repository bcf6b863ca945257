"""Weights and evidence by importance sampling of the hubs, with the units summed out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.structure.extended import Extended, UnitProposals
    from pymc_multimodal.target.density import Density

__all__ = ["UnbiasedMarginal", "UnitSample", "choose_points", "draw_units"]

# Variance of the log marginal density that M points of each unit leave, at most where this needs
# no more than the largest M. Measured: Doucet et al. 2015 (doi:10.1093/biomet/asu075) find values
# near 1 best for chains; importance sampling wants less.
MAX_VARIANCE = 0.5
LEAST_POINTS, MOST_POINTS = 12, 64


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
    """

    x: np.ndarray
    logp: np.ndarray
    log_marginal: np.ndarray
    log_mean: np.ndarray
    share: np.ndarray

    def __len__(self) -> int:
        return len(self.logp)

    @classmethod
    def joined(cls, parts: list[UnitSample]) -> UnitSample:
        """Join samples."""
        names = ("x", "logp", "log_marginal", "log_mean", "share")
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def draw_units(
    density: Density, proposals: UnitProposals, g: np.ndarray, rng: np.random.Generator
) -> UnitSample:
    """Draw and weigh units at hubs (n, H)."""
    parts, k = [], proposals.mixtures.n_explanations
    for first in range(0, len(g), proposals.rows):
        own = proposals.draw(density, g[first : first + proposals.rows], rng)
        z, logp = own.chosen(rng)
        parts.append(
            UnitSample(
                proposals.units.scatter(own.g, z),
                logp,
                own.log_marginal,
                own.log_mean,
                _grouped(own.mass(k), proposals.mixtures.anchors.group).astype(np.float32),
            )
        )
    return UnitSample.joined(parts)


def _grouped(mass: np.ndarray, group: np.ndarray | None) -> np.ndarray:
    """Add the shares (n, N, K) of places that are one explanation, at the first of these."""
    if group is None:
        return mass
    out = np.zeros_like(mass)
    unit = np.arange(len(group))
    for place in range(group.shape[1]):
        out[:, unit, group[:, place]] += mass[:, :, place]
    return out


def choose_points(drawn: Extended) -> int:
    """Return how many points each unit needs, by the variance of some weights.

    Parameters
    ----------
    drawn : Extended
        At typical hubs.

    Returns
    -------
    int
    """
    weight = drawn.share * drawn.z.shape[1]
    variance = np.median(weight.var(axis=1, ddof=1).sum(axis=1))
    return int(np.clip(np.ceil(variance / MAX_VARIANCE), LEAST_POINTS, MOST_POINTS))
