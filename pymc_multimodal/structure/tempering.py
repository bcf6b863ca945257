"""Particles of the hubs, tempered from the prior to the marginal density.

A particle has its own hubs; the explanations of the units are followed from those of the nearest
particle of the temperature before, so that they are never followed far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation import systematic_rows
from pymc_multimodal.challenge import next_beta
from pymc_multimodal.structure.explanations import Explanations, explain
from pymc_multimodal.structure.marginal import LaplaceMarginal
from pymc_multimodal.target.circle import wrap

if TYPE_CHECKING:
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.units import Units

__all__ = ["Tempering"]

# Particles at least, and for each hub. Conventional.
PARTICLES, PER_HUB = 128, 64
# Effective size of the particles at the next temperature, as a share. Conventional.
ESS_SHARE = 0.5
# Moves at each temperature, and most temperatures. Conventional.
MOVES, MAX_TEMPERATURES = 4, 60
# Degrees of freedom of the density that the particles begin with, which is fitted to prior draws.
# Conventional: heavier tails than the prior's.
FIRST_DF = 5.0
# Prior draws that it is fitted to.
FIRST_DRAWS = 512
# Hubs whose explanations the others are followed from, and starts that are tried there beside.
# Conventional.
ANCHORS, FRESH_STARTS = 48, 4
# Rounds of moves at the last temperature, and nats below the highest particle from which on one is
# left out there. Conventional.
LAST_ROUNDS, NEGLIGIBLE = 2, 15.0
# Length of a move along the difference of two particles: 2.38 / sqrt(2 H) is best for normals
# (ter Braak 2006, doi:10.1007/s11222-006-8769-1); the noise beside it keeps moves ergodic.
DIFFERENCE, NOISE = 2.38, 1e-3


@dataclass(frozen=True, eq=False)
class _Base:
    """The t density that the particles begin with."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fitted(cls, draws: np.ndarray) -> _Base:
        """Fit it to prior draws (n, H)."""
        low, mid, high = np.percentile(draws, [16, 50, 84], axis=0)
        spread = np.maximum(0.5 * (high - low), 1e-6)
        inside = np.clip(draws, mid - 5 * spread, mid + 5 * spread)
        covariance = np.atleast_2d(np.cov(inside.T)) + 1e-9 * np.diag(spread**2)
        return cls(inside.mean(axis=0), covariance)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n points, shape (n, H)."""
        step = rng.standard_normal((n, len(self.mean))) @ np.linalg.cholesky(self.scale).T
        return self.mean + step * np.sqrt(FIRST_DF / rng.chisquare(FIRST_DF, size=(n, 1)))

    def log_density(self, g: np.ndarray) -> np.ndarray:
        """Log density at points (n, H), shape (n,)."""
        # It is imported where it is needed: that takes half a second.
        from scipy.stats import multivariate_t

        return np.atleast_1d(multivariate_t.logpdf(g, self.mean, self.scale, FIRST_DF))


@dataclass(frozen=True, eq=False)
class Tempering:
    """Draws of hubs from their marginal density, by normal approximations of the units.

    Attributes
    ----------
    density : Density
    units : Units
    hub_spread : array of shape (H,)
    spread : array of shape (N, b)
    starts : array of shape (S, N, b)
        Starts of climbs in the units.
    """

    density: Density
    units: Units
    hub_spread: np.ndarray
    spread: np.ndarray
    starts: np.ndarray

    def run(
        self, points: np.ndarray, rng: np.random.Generator, *, begun: bool = False
    ) -> tuple[np.ndarray, Explanations]:
        """Temper particles from the prior, and let them move together with given points.

        Parameters
        ----------
        points : array of shape (m, H)
            Hubs that may belong to modes which the particles have lost.
        rng : numpy.random.Generator
        begun : bool
            Whether the points are particles of an earlier run, so that no others are needed.

        Returns
        -------
        g : array of shape (P, H)
            Particles; the draws depend on one another, and modes may have wrong shares.
        known : Explanations
            At some of the particles.
        """
        g = wrap(points, self._period)
        if not begun:
            particles, known = self._tempered(rng)
            if len(g):
                known = known.joined(self._explained(g, self.starts, rng))
            g = np.concatenate([particles, g])
        else:
            known = self._explained(g, self.starts, rng)
        logp = self._marginal(known).values(g)
        g = g[logp > logp.max() - NEGLIGIBLE]
        for _ in range(LAST_ROUNDS):
            marginal = self._marginal(known)
            known = self._followed(g, marginal, rng)
            marginal = self._marginal(known)
            g, _ = self._moved(g, marginal.values(g), marginal, rng)
        return g, known

    @property
    def _period(self) -> np.ndarray:
        out: np.ndarray = self.density.period[self.units.hubs]
        return out

    def _marginal(self, known: Explanations) -> LaplaceMarginal:
        return LaplaceMarginal(self.density, self.units, known, self.hub_spread, self.spread)

    def _explained(
        self, g: np.ndarray, starts: np.ndarray, rng: np.random.Generator
    ) -> Explanations:
        """Explain some of the hubs."""
        chosen = rng.permutation(len(g))[:ANCHORS]
        return _usable(explain(self.density, self.units, g[chosen], starts, self.spread))

    def _followed(
        self, g: np.ndarray, marginal: LaplaceMarginal, rng: np.random.Generator
    ) -> Explanations:
        """Explain some of the hubs from what is known near to them, and from a few starts."""
        chosen = rng.permutation(len(g))[:ANCHORS]
        fresh = self.starts[rng.integers(len(self.starts), size=FRESH_STARTS)]
        return _usable(marginal.explained(g[chosen], fresh))

    def _tempered(self, rng: np.random.Generator) -> tuple[np.ndarray, Explanations]:
        """Draw particles at the last temperature."""
        hubs, h = self.units.hubs, self.units.n_hubs
        base = _Base.fitted(self.density.prior_draws(FIRST_DRAWS, rng)[:, hubs])
        n, beta = max(PARTICLES, PER_HUB * h), 0.0
        g = wrap(base.draw(n, rng), self._period)
        known = self._explained(g, self.starts, rng)
        marginal = self._marginal(known)
        logp, log_base = marginal.values(g), base.log_density(g)
        for _ in range(MAX_TEMPERATURES):
            gain = np.where(np.isfinite(logp), logp - log_base, -np.inf)
            new = next_beta(gain, beta, ESS_SHARE)
            with np.errstate(invalid="ignore"):
                weight = np.exp((new - beta) * (gain - gain.max()))
            rows = systematic_rows(np.where(np.isfinite(gain), weight, 0.0), n, rng)
            g, beta = g[rows], new
            known = self._followed(g, marginal, rng)
            marginal = self._marginal(known)
            g, logp = self._moved(g, marginal.values(g), marginal, rng, base, beta)
            log_base = base.log_density(g)
            if beta >= 1.0:
                break
        return g, known

    def _moved(
        self,
        g: np.ndarray,
        logp: np.ndarray,
        marginal: LaplaceMarginal,
        rng: np.random.Generator,
        base: _Base | None = None,
        beta: float = 1.0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Make Metropolis moves along differences of particles."""
        log_base = np.zeros(len(g)) if base is None else base.log_density(g)
        for _ in range(MOVES):
            trial = wrap(_trial(g, self._period, self.hub_spread, rng), self._period)
            there = marginal.values(trial)
            its_base = np.zeros(len(g)) if base is None else base.log_density(trial)
            with np.errstate(invalid="ignore"):
                ratio = beta * (there - logp) + (1.0 - beta) * (its_base - log_base)
            accepted = np.log(rng.random(len(g))) < ratio
            g = np.where(accepted[:, None], trial, g)
            logp = np.where(accepted, there, logp)
            log_base = np.where(accepted, its_base, log_base)
        return g, logp


def _usable(known: Explanations) -> Explanations:
    """Leave out hubs at which a unit has no explanation, if there are others."""
    rows = np.flatnonzero(np.isfinite(known.log_marginal))
    return known.take(rows) if len(rows) else known


def _trial(
    g: np.ndarray, period: np.ndarray, hub_spread: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Move each particle along the difference of two others; one move in four is as long as it."""
    n, h = g.shape
    a, b = rng.integers(n, size=(2, n))
    length = np.where(rng.random(n) < 0.25, 1.0, DIFFERENCE / np.sqrt(2 * h))
    length *= np.exp(0.5 * rng.standard_normal(n))
    step = wrap(g[a] - g[b], period)
    return g + length[:, None] * step + NOISE * hub_spread * rng.standard_normal(g.shape)
