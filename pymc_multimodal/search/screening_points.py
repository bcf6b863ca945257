"""The points that are screened by their log density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.special import chndtr

from pymc_multimodal.search.surprise import FEW_DIMENSIONS, KnownModes
from pymc_multimodal.status import ModelError

if TYPE_CHECKING:
    from pymc_multimodal.search.settings import ModeSearch
    from pymc_multimodal.search.state import Search
    from pymc_multimodal.target.density import Density

__all__ = ["MOST_WIDTH", "Described", "PointSource", "distance_of_pair", "narrowest_width"]

# Parts of the points: prior draws, scaled prior draws, and draws of the known modes that are
# stretched. Measured: of the cases that any method found, prior draws alone found 0.84, and these
# parts 0.97.
PARTS = 3
# Parts of the points in more than 12 dimensions: prior draws, prior draws scaled by factors that
# are log-uniform from this one on, known modes of which some coordinates have the values of a prior
# draw, and stretched draws. Measured (two Student-t modes in 50 dimensions, one a tenth as wide; of
# 1,000 points so many lie in its basin): prior draws 0, scaled by uniform factors 4 to 14, by
# log-uniform ones 8 to 60, with some coordinates of a prior draw 20 where the modes differ in one
# coordinate, 0 where they differ in all.
PARTS_OF_MANY, LEAST_SCALE = 4, 0.02
# Prior draws that are smoothed to any number of points: PyMC takes 30 to 250 microseconds for one,
# and 0.1 to 2 for a log density. Conventional.
POOL = 2048
# Smallest and largest factor by which draws of the known modes are stretched. Measured with the
# parts.
LEAST_FACTOR, MOST_FACTOR = 0.5, 8.0
# The pair of normals by which a share of the points is told as a width: standard deviation of the
# prior, and distance of the two, in standard deviations of the wider, up to 12 dimensions. Both are
# those of examples/benchmarks/screening.py. Beyond, the distance grows as the root of the
# dimension, as that of draws from their mean does: otherwise the narrow one is higher even at the
# wide one.
PRIOR_SD, APART = 5.0, 6.0
# Nodes of the integrals over factors, and bisections of the width. Conventional: four digits.
NODES, BISECTIONS = 64, 40
LEAST_WIDTH, MOST_WIDTH = 1e-8, 0.9


class Described(Protocol):
    """A normalised density that describes the known modes."""

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density of each row: (n, d) -> (n,)."""
        ...

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n points, shape (n, d)."""
        ...


@dataclass(frozen=True)
class PointSource:
    """Draws points: in equal parts from the prior, the scaled prior, and around the known modes.

    In more than 12 dimensions the factors of the scaled prior are log-uniform, since prior draws
    are all far from the centre, and there is a fourth part: known modes of which some coordinates
    have the values of a prior draw. The number of these is log-uniform too.

    Attributes
    ----------
    density : Density
        Its prior is used. Without one all points lie around the known modes.
    search : Search
    modes : KnownModes
    known : Described
    stretch : float
        Largest factor of the scaled prior.
    pool : array of shape (m, d)
        Prior draws; none without a prior.
    """

    density: Density
    search: Search
    modes: KnownModes
    known: Described
    stretch: float
    pool: np.ndarray

    @classmethod
    def of(
        cls,
        density: Density,
        search: Search,
        known: Described,
        settings: ModeSearch,
        rng: np.random.Generator,
    ) -> PointSource:
        """Draw the pool, and return the source."""
        try:
            pool = density.prior_draws(POOL, rng)
            pool = pool[np.isfinite(pool).all(axis=1)]
        except ModelError:
            pool = np.empty((0, density.dim))
        modes = KnownModes.of(search.optima, settings.negligible)
        return cls(density, search, modes, known, settings.stretch, pool)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n points, shape (n, d), in an order that mixes the parts.

        Where the density is symmetric, each is the image that is nearest to the first optimum.
        """
        density, centre = self.density, self.search.centre
        few = density.dim <= FEW_DIMENSIONS
        parts = PARTS if few else PARTS_OF_MANY
        n_prior, n_scaled = (n + parts - 1) // parts, (n + parts - 2) // parts
        x = np.empty((0, density.dim))
        if len(self.pool):
            x = self._like_prior(n_prior + n_scaled, rng)
            scaled = x[n_prior:]
            uniform = rng.random((len(scaled), 1))
            factor = self.stretch * (uniform if few else LEAST_SCALE ** (1.0 - uniform))
            x[n_prior:] = centre + factor * (scaled - centre)
            if not few:
                x = np.concatenate([x, self._with_some_coordinates((n + 1) // parts, rng)])
        x = np.concatenate([x, self._around(n - len(x), rng)])
        x = density.wrap(rng.permutation(x))
        optima = self.search.optima
        return optima.orbits[0].fold(x)[0] if optima.orbits else x

    def _like_prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw from the pool, smoothed by differences of its draws; mean and covariance are kept.

        The draws are shrunk towards the mean, as by West (1993, J. R. Stat. Soc. B 55, 409-422);
        circular coordinates are not.
        """
        m, d = self.pool.shape
        width = m ** (-1 / (d + 4))
        x = self.pool[rng.integers(m, size=n)]
        centre, shrunk = self.pool.mean(axis=0), np.sqrt(1 - width**2)
        x = np.where(np.isfinite(self.density.period), x, centre + shrunk * (x - centre))
        noise = self.pool[rng.integers(m, size=n)] - self.pool[rng.integers(m, size=n)]
        return x + width * np.sqrt(0.5) * self.density.unroll(noise, 0.0)

    def _with_some_coordinates(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return known modes of which some coordinates have the values of a prior draw."""
        d = self.density.dim
        number = np.exp(rng.uniform(0.0, np.log(d), size=(n, 1)))
        taken = rng.random((n, d)).argsort(axis=1) < number
        location = self.modes.locations[rng.integers(len(self.modes.locations), size=n)]
        return np.where(taken, self.pool[rng.integers(len(self.pool), size=n)], location)

    def _around(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw from the known modes, and stretch each draw about the nearest of them."""
        x = np.asarray(self.known.sample(n, rng), dtype=float)
        location = self.modes.locations[self.modes.nearest(self.density, x)]
        low, high = np.log(LEAST_FACTOR), np.log(MOST_FACTOR)
        factor = np.exp(rng.uniform(low, high, size=(n, 1)))
        return location + factor * (self.density.unroll(x, location) - location)


def distance_of_pair(dim: int) -> float:
    """Return the distance of the two normals of `narrowest_width`, in units of the wider."""
    return APART * max(1.0, float(np.sqrt(dim / FEW_DIMENSIONS)))


def narrowest_width(dim: int, share: float, stretch: float) -> float:
    r"""Return the width of the narrow one of two normals whose basin has a share of the points.

    The wide normal has the standard deviation 1 and is known, the narrow one has w, and equal mass;
    c is the step between them, of the length `distance_of_pair`, and the prior ``N(0, 5^2)`` is
    centred at the wide one.
    The narrow one is the higher of the two in a ball around :math:`c / (1 - w^2)` of the radius

    .. math:: w (1 - w^2)^{-1/2} \left[|c|^2 / (1 - w^2) + 2 d \log(1 / w)\right]^{1/2}.

    Each part of the points is normal around the wide one, given its factor, so that the share of
    the ball is a noncentral chi-squared probability. In more than 12 dimensions the points that
    differ from the wide one in some coordinates only are left out of this: the two may differ in
    all.

    Parameters
    ----------
    dim : int
    share : float
        Share of the points.
    stretch : float
        See `PointSource`.

    Returns
    -------
    float
        At least 1e-8; NaN if not even a basin of 0.9 standard deviations has that share.
    """
    nodes = (np.arange(NODES) + 0.5) / NODES
    stretched = LEAST_FACTOR * (MOST_FACTOR / LEAST_FACTOR) ** nodes
    few = dim <= FEW_DIMENSIONS
    factors = stretch * (nodes if few else LEAST_SCALE ** (1.0 - nodes))
    deviations = (np.array([PRIOR_SD]), PRIOR_SD * factors, stretched)
    n_parts = PARTS if few else PARTS_OF_MANY

    apart = distance_of_pair(dim)

    def share_of(width: float) -> float:
        rest = 1 - width**2
        squared = width**2 / rest * (apart**2 / rest - 2 * dim * np.log(width))
        distance = apart / rest
        parts = [chndtr(squared / s**2, dim, (distance / s) ** 2).mean() for s in deviations]
        return float(np.nan_to_num(parts).sum() / n_parts)

    low, high = np.log(LEAST_WIDTH), np.log(MOST_WIDTH)
    if not share_of(MOST_WIDTH) >= share:
        return float("nan")
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if share_of(np.exp(middle)) >= share else (middle, high)
    return float(np.exp(high))
