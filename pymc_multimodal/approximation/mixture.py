"""The proposal of a first answer: one density for each mode, and a wide one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from pymc_multimodal.proposals import (
    EllipticalMixture,
    GaussianMixture,
    WeightedDensities,
    factor,
    joined,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.proposals import Terms
    from pymc_multimodal.search import Modes, OptimumSet, StartDistribution

__all__ = [
    "LeftOut",
    "ModeMixture",
    "first_mixture",
    "heavy_tailed",
    "region_mixture",
    "wide_density",
    "with_densities",
]

# Shares of the fitted component of a mode and of two with heavier tails, the second of them wider:
# both bound the importance ratios where the fit is too light or too narrow. Measured:
# examples/benchmarks/exits.py
FITTED_SHARE, TAIL_SHARE, WIDE_SHARE = 0.9, 0.05, 0.05
TAIL_DF, TAIL_WIDTH = 5.0, 1.6
# Least degrees of freedom of the first guess of a mode: as many as dimensions, so that its tails
# are about twice as wide as a normal's. Conventional.
FIRST_DF = 8.0
# Share of the wide density, as wide as the starts, which sees mass away from all modes.
# Conventional: a few per cent of the evaluations.
STARTS_SHARE = 0.03
# Share in the wide density of the modes that are left out, if there are any. Conventional: half.
LEFT_OUT_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Modes that hold next to no mass: the wide density of a mixture covers them.

    Attributes
    ----------
    locations : array of shape (J, d)
    scale : array of shape (J, d, d)
        Lower-triangular factors of their covariances.
    log_mass : array of shape (J,)
        Laplace's approximation.
    """

    locations: np.ndarray
    scale: np.ndarray
    log_mass: np.ndarray

    @classmethod
    def of(cls, optima: OptimumSet) -> LeftOut:
        """Take the modes that a sample has shown to hold next to no mass."""
        rows = optima.summits_left_out()
        return cls(optima.x[rows], optima.scale[rows], optima.log_mass[rows])

    def __len__(self) -> int:
        return len(self.locations)

    def density(self, period: np.ndarray, centre: np.ndarray) -> EllipticalMixture:
        """Return the mixture of Laplace's approximations; there must be a mode.

        Half of the shares are by Laplace's masses, half are equal.

        Parameters
        ----------
        period, centre : arrays of shape (d,)
            Periods of circular coordinates, ``inf`` elsewhere, and the middle of their window.
        """
        j, d = self.locations.shape
        mass = np.exp(self.log_mass - logsumexp(self.log_mass))
        inner = GaussianMixture(0.5 * (mass + 1.0 / j), self.locations, self.scale)
        return EllipticalMixture(inner, np.full(j, max(FIRST_DF, float(d))), period, centre)


@dataclass(frozen=True, eq=False)
class ModeMixture:
    """A normalised mixture of one density for each of K modes and of one that is wide.

    Attributes
    ----------
    densities : tuple of K + 1 EllipticalMixture
        Those of the modes, and then the wide one.
    shares : array of shape (K + 1,)
        Their sum is one.
    """

    densities: tuple[EllipticalMixture, ...]
    shares: np.ndarray

    @property
    def n_modes(self) -> int:
        """Number K of modes."""
        return len(self.densities) - 1

    @cached_property
    def log_shares(self) -> np.ndarray:
        """Logs of the shares, shape (K + 1,); -inf for a density that is not used."""
        with np.errstate(divide="ignore"):
            out: np.ndarray = np.log(self.shares)
        return out

    @cached_property
    def _weighted(self) -> WeightedDensities:
        return WeightedDensities(self.densities, self.log_shares)

    @cached_property
    def _weighted_modes(self) -> WeightedDensities:
        return WeightedDensities(self.densities[:-1], self.log_shares[:-1])

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density of the mixture at points of shape (n, d), shape (n,)."""
        return self._weighted.log_density(x)

    def terms(self, x: np.ndarray, left_out: float) -> Terms:
        """Share times density of members at points of shape (n, d).

        Members which are left out have together at most the share `left_out` of the density.
        """
        return self._weighted.terms(x, left_out)

    def largest(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mode with the largest share of the density at each row, and the log of its term."""
        return self._weighted_modes.largest(x)

    def label(self, x: np.ndarray) -> np.ndarray:
        """Mode whose share of the density is largest at each row, shape (n,).

        It is -1 where that of the modes that are left out is larger.
        """
        left_out = self.densities[-1].base
        out, top = self.largest(x)
        if left_out is not None:
            others = left_out.log_density(x) + np.log(LEFT_OUT_SHARE) + self.log_shares[-1]
            out = np.where(others > top, -1, out)
        return out

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Independent draws, shape (n, d); those outside of a circular window are drawn again."""
        x, _ = self.stratified(rng.multinomial(n, self.shares), rng)
        while (outside := ~np.isfinite(x).all(axis=1)).any():
            x[outside] = self.stratified(rng.multinomial(outside.sum(), self.shares), rng)[0]
        return rng.permutation(x)

    def stratified(
        self, counts: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw given numbers from the members.

        Parameters
        ----------
        counts : array of int, shape (K + 1,)
        rng : numpy.random.Generator

        Returns
        -------
        x : array of shape (n, d)
        stratum : array of int, shape (n,)
            Member that each row was drawn from.
        """
        parts = [q.sample(int(c), rng) for q, c in zip(self.densities, counts, strict=True)]
        return np.concatenate(parts), np.repeat(np.arange(len(counts)), counts)

    def stratified_by_component(
        self, counts: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw given numbers from the members, and of each its components' shares of them.

        Parameters
        ----------
        counts : array of int, shape (K + 1,)
        rng : numpy.random.Generator

        Returns
        -------
        x : array of shape (n, d)
        stratum, component : arrays of int, shape (n,)
            Member, and component of the member counted from the last, that each row was drawn
            from: 0 and 1 are the tails of a mode.
        """
        parts = [q.sample_evenly(int(c), rng) for q, c in zip(self.densities, counts, strict=True)]
        stratum = np.repeat(np.arange(len(counts)), counts)
        last = [len(q.df) - 1 - j for q, (_, j) in zip(self.densities, parts, strict=True)]
        return np.concatenate([x for x, _ in parts]), stratum, np.concatenate(last)


def first_mixture(
    modes: Modes,
    log_mass: np.ndarray,
    starts: StartDistribution,
    period: np.ndarray,
    left_out: LeftOut | None = None,
) -> ModeMixture:
    """Return the mixture of Laplace's approximations.

    Half of the shares are by `log_mass`, half are equal.

    Parameters
    ----------
    modes : Modes
    log_mass : array of shape (K,)
        Laplace's approximation of the log mass of each mode.
    starts : StartDistribution
    period : array of shape (d,)
        Periods of circular coordinates, ``inf`` elsewhere.
    left_out : LeftOut, optional
        Further modes, which get no density of their own.

    Returns
    -------
    ModeMixture
    """
    k, d = modes.locations.shape
    mass = np.exp(log_mass - logsumexp(log_mass))
    densities = [
        heavy_tailed(
            EllipticalMixture.single(x, scale, max(FIRST_DF, float(d)), period, x), x, scale
        )
        for x, scale in zip(modes.locations, modes.scale, strict=True)
    ]
    wide = wide_density(starts, period, left_out)
    shares = (1.0 - STARTS_SHARE) * 0.5 * (mass + 1.0 / k)
    return ModeMixture((*densities, wide), np.append(shares, STARTS_SHARE))


def with_densities(q: ModeMixture, known: ModeMixture, counterpart: np.ndarray) -> ModeMixture:
    """Return a mixture with the densities of an earlier one for the modes that this had.

    Their shares are those of the earlier mixture, relative to one another.

    Parameters
    ----------
    q : ModeMixture
    known : ModeMixture
        The earlier one.
    counterpart : array of int, shape (K,)
        Mode of `known` that each mode of `q` is, or -1.
    """
    old = counterpart >= 0
    if not old.any():
        return q
    densities = list(q.densities)
    for k in np.flatnonzero(old).tolist():
        densities[k] = known.densities[counterpart[k]]
    shares, own = q.shares.copy(), known.shares[counterpart[old]]
    shares[:-1][old] = own / own.sum() * shares[:-1][old].sum()
    return ModeMixture(tuple(densities), shares)


def region_mixture(
    densities: Sequence[EllipticalMixture],
    draws: Sequence[np.ndarray],
    weight: np.ndarray,
    wide: EllipticalMixture,
) -> ModeMixture:
    """Return the mixture of densities that were fitted to draws inside of the regions.

    Half of the shares are by `weight`, half are equal.

    Parameters
    ----------
    densities : sequence of K EllipticalMixture
    draws : sequence of K arrays of shape (n, d)
        Unrolled.
    weight : array of shape (K,)
        Guesses of the regions' weights.
    wide : EllipticalMixture
        The density that sees mass away from all regions.
    """
    members = []
    for q, x in zip(densities, draws, strict=True):
        mean, covariance = x.mean(axis=0), np.atleast_2d(np.cov(x.T))
        members.append(heavy_tailed(q.undefended, mean, factor(covariance)))
    shares = (1.0 - STARTS_SHARE) * 0.5 * (weight / weight.sum() + 1.0 / len(members))
    return ModeMixture((*members, wide), np.append(shares, STARTS_SHARE))


def wide_density(
    starts: StartDistribution, period: np.ndarray, left_out: LeftOut | None = None
) -> EllipticalMixture:
    """Return the density that is as wide as the starts, and covers modes that are left out.

    Parameters
    ----------
    starts : StartDistribution
    period : array of shape (d,)
        Periods of circular coordinates, ``inf`` elsewhere.
    left_out : LeftOut, optional
    """
    wide = EllipticalMixture.single(
        starts.centre, np.diag(starts.spread), TAIL_DF, period, starts.centre
    )
    if left_out is None or not len(left_out):
        return wide
    more = left_out.density(period, starts.centre)
    return joined([more, wide], [LEFT_OUT_SHARE, 1.0 - LEFT_OUT_SHARE], base=more)


def heavy_tailed(
    fitted: EllipticalMixture, mean: np.ndarray, scale: np.ndarray
) -> EllipticalMixture:
    """Add two components with heavier tails to the density of a mode.

    Parameters
    ----------
    fitted : EllipticalMixture
    mean : array of shape (d,)
    scale : array of shape (d, d)
        Lower-triangular factor of the covariance of the mode.
    """
    df = min(TAIL_DF, float(fitted.df.min()))
    tail, wide = (
        EllipticalMixture.single(mean, width * scale, df, fitted.period, fitted.centre)
        for width in (1.0, TAIL_WIDTH)
    )
    return joined([fitted, tail, wide], [FITTED_SHARE, TAIL_SHARE, WIDE_SHARE], base=fitted)
