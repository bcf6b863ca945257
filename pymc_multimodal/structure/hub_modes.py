"""Particles of the hubs from the modes of their marginal density, where these describe it.

Tempering from the prior finds hubs of any shape, at a hundred thousand evaluations or more. Where
the hubs are nearly normal around a few modes, climbs of the marginal density and one weighted
sample give particles for a tenth of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation import ModeMixture, first_mixture, systematic_rows
from pymc_multimodal.search import Modes
from pymc_multimodal.structure.climbs import climb_units
from pymc_multimodal.structure.explanations import explain
from pymc_multimodal.structure.marginal import LaplaceMarginal
from pymc_multimodal.target.circle import unroll, wrap
from pymc_multimodal.target.units import Units

if TYPE_CHECKING:
    from pymc_multimodal.search import StartDistribution
    from pymc_multimodal.structure.explanations import Explanations
    from pymc_multimodal.target.density import Density

__all__ = ["HubModes"]

# Points that are looked at, and the distance along one hub, in spreads of its prior, below which
# two of them are one. Conventional.
MAX_POINTS, SAME_POINT = 16, 0.1
# Climbs, and their Newton steps. Conventional: the ends of climbs of all coordinates together are
# near to modes of the marginal density, or tempering does better.
MAX_CLIMBS, STEPS = 12, 4
# Width of the differences of the first look, in spreads of the prior. Conventional.
FIRST_WIDTH = 0.1
# Nats below the highest point from which on no climb begins. Conventional: as for particles.
NEGLIGIBLE = 15.0
# Squared distance from a mode, in its widths and beside the mean of 2 H for the tails, within
# which a point belongs to it. Conventional.
NEAR_MODE, NEAR_PER_HUB = 8.0, 2.0
# Particles, those of them that become anchors, and the share that is as wide as the prior, which
# tells what the modes do not describe. Conventional.
PARTICLES, ANCHORS, WIDE_SHARE = 256, 24, 0.2
# Effective size of the particles, as a share, below which the modes do not describe the hubs.
# Measured: examples/benchmarks/structure.py (0.5 for `missing`; below 0.03 for `population_20` and
# `groups_30`, whose hubs have tails that no normal has).
MIN_ESS = 0.2


class _AllHubs:
    """The hubs as the one unit of a density: what climbs in units need of it."""

    def __init__(self, marginal: LaplaceMarginal) -> None:
        self.marginal = marginal

    def terms(self, x: np.ndarray) -> np.ndarray:
        """Log marginal density of hubs (n, H), shape (n, 1)."""
        return self.marginal.values(x)[:, None]


@dataclass(frozen=True, eq=False)
class HubModes:
    """Modes of the hubs' marginal density, and a sample that tells whether they describe it.

    Attributes
    ----------
    density : Density
    units : Units
    hubs : StartDistribution
        Of the hubs.
    spread : array of shape (N, b)
    starts : array of shape (S, N, b)
        Starts of climbs in the units.
    """

    density: Density
    units: Units
    hubs: StartDistribution
    spread: np.ndarray
    starts: np.ndarray

    def particles(
        self, points: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, Explanations] | None:
        """Draw particles of the hubs from normals around modes.

        Parameters
        ----------
        points : array of shape (m, H)
            Hubs of optima of the whole density: climbs begin there.
        rng : numpy.random.Generator

        Returns
        -------
        tuple of an array of shape (P, H) and Explanations, or None
            Particles, resampled by weight, and the explanations at some of them. None where the
            modes do not describe the marginal density.
        """
        points = self._distinct(points)[:MAX_POINTS]
        if not len(points):
            return None
        known = explain(self.density, self.units, points, self.starts, self.spread)
        known = known.take(np.flatnonzero(np.isfinite(known.log_marginal)))
        if not len(known):
            return None
        modes, known = self._climbed(known)
        if not len(modes):
            return None
        mixture = self._mixture(modes)
        g = mixture.sample(PARTICLES, rng)
        there = self._marginal(known).explained(g)
        ratio = there.log_marginal - mixture.log_density(g)
        rows = np.flatnonzero(np.isfinite(ratio))
        if not len(rows):
            return None
        weight = np.zeros(PARTICLES)
        weight[rows] = np.exp(ratio[rows] - ratio[rows].max())
        if weight.sum() ** 2 < MIN_ESS * PARTICLES * (weight**2).sum():
            return None
        drawn = rng.permutation(systematic_rows(weight, PARTICLES, rng))
        anchors = there.take(np.unique(drawn[:ANCHORS]))
        return g[drawn], known.joined(anchors)

    @property
    def _period(self) -> np.ndarray:
        out: np.ndarray = self.density.period[self.units.hubs]
        return out

    def _marginal(self, known: Explanations) -> LaplaceMarginal:
        return LaplaceMarginal(self.density, self.units, known, self.hubs.spread, self.spread)

    def _distinct(self, points: np.ndarray) -> np.ndarray:
        """Leave out points that are near to an earlier one."""
        kept: list[np.ndarray] = []
        for g in wrap(points, self._period):
            apart = [unroll(g - other, 0.0, self._period) / self.hubs.spread for other in kept]
            if all(np.abs(step).max() > SAME_POINT for step in apart):
                kept.append(g)
        return np.array(kept).reshape(-1, self.units.n_hubs)

    def _climbed(self, known: Explanations) -> tuple[Modes, Explanations]:
        """Climb from the highest point that belongs to no mode, until there is none.

        Returns
        -------
        modes : Modes
            Of the marginal density.
        known : Explanations
            With those at the modes.
        """
        begun, h = known, self.units.n_hubs
        whole = Units(np.zeros(0, dtype=int), np.arange(h)[None], np.zeros(1, dtype=int), ("hubs",))
        centre, scale, log_mass = np.empty((0, h)), np.empty((0, h, h)), np.empty(0)
        left = np.argsort(-begun.log_marginal, kind="stable")
        for _ in range(MAX_CLIMBS):
            top = known.log_marginal.max()
            left = left[begun.log_marginal[left] > top - NEGLIGIBLE]
            if not len(left):
                break
            end = climb_units(
                _AllHubs(self._marginal(known)),
                whole,
                np.zeros((1, 0)),
                begun.g[left[0]][None, None],
                self.hubs.spread[None],
                STEPS,
                FIRST_WIDTH * self.hubs.spread[None, None],
            )
            at = wrap(end.z[:, 0], self._period)
            if np.isfinite(end.log_mass[0, 0]) and not self._belongs(at, centre, scale)[0]:
                centre, scale = np.concatenate([centre, at]), np.concatenate([scale, end.scale[0]])
                log_mass = np.append(log_mass, end.log_mass[0])
                known = known.joined(
                    explain(self.density, self.units, at, self.starts, self.spread)
                )
            left = left[1:]
            left = left[~self._belongs(begun.g[left], centre, scale)]
        height = log_mass - np.log(np.diagonal(scale, axis1=1, axis2=2)).sum(axis=1)
        return Modes.described(centre, height - 0.5 * h * np.log(2 * np.pi), scale), known

    def _belongs(self, g: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Whether points (n, H) are near to one of the modes, shape (n,)."""
        out, limit = np.zeros(len(g), dtype=bool), NEAR_MODE + NEAR_PER_HUB * self.units.n_hubs
        for c, s in zip(centre, scale, strict=True):
            r = np.linalg.solve(s, unroll(g - c, 0.0, self._period).T)
            out |= np.einsum("hn,hn->n", r, r) < limit
        return out

    def _mixture(self, modes: Modes) -> ModeMixture:
        """Return Laplace's approximations, and a density as wide as the prior."""
        mixture = first_mixture(modes, modes.log_mass, self.hubs, self._period)
        shares = (1.0 - WIDE_SHARE) * mixture.shares[:-1] / mixture.shares[:-1].sum()
        return ModeMixture(mixture.densities, np.append(shares, WIDE_SHARE))
