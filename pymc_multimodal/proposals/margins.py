"""Independent coordinates, each with a density on the line that is known at points."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import CubicSpline

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymc_multimodal.proposals.triangular import TriangularMap

__all__ = ["MAX_RISE", "Margins", "falling_range"]

# Points of the piecewise linear log density for each interval between two given points: it is off
# by less than 0.001 where the spline is a parabola. Conventional.
FINER = 8
# Exponents a of the tails |z|^-(a + 1), which are read off the outermost two points. Conventional:
# with a = 0.5 the tails are heavier than those of a Cauchy distribution, with a = 20 a tail of six
# standard deviations, which holds 1e-9, is wider than a normal one.
MIN_EXPONENT, MAX_EXPONENT = 0.5, 20.0
# Nats below the highest point from which on no point counts but the first, which is no lower than
# twice as much. Conventional: what lies there holds nothing.
LOWEST = 60.0
# How far a peak may lie above the points next to it (nats). Conventional: a parabola through points
# a tenth of a nat below it.
MAX_PEAK = 0.3
# Rise on the way outwards (nats) from which on a point belongs to another mode, so that it and all
# points beyond are left out. Conventional: half the least barrier between modes.
MAX_RISE = 0.5


@dataclass(frozen=True, eq=False)
class Margins:
    r"""The distribution of :math:`U y`, U orthogonal, y with coordinates of simple dependence.

    The coordinates of y are independent, or y is the image of such coordinates z under a triangular
    map. The log density of a coordinate of z is linear between knots, and its tails are those of a
    power of the distance from zero.

    Attributes
    ----------
    rotation : array of shape (d, d)
        The matrix U.
    knots, log_heights : tuples of d arrays of shape (m_i,)
        Knots of each coordinate, in increasing order, of both signs; log densities there.
    exponents : array of shape (d, 2)
        The density is proportional to ``|z| ** -(a + 1)`` below the first knot, and beyond the last
        one.
    triangular : TriangularMap, optional
        From z to y; without it they are the same.
    """

    rotation: np.ndarray
    knots: tuple[np.ndarray, ...]
    log_heights: tuple[np.ndarray, ...]
    exponents: np.ndarray
    triangular: TriangularMap | None = None

    @classmethod
    def through(
        cls,
        knots: np.ndarray,
        values: np.ndarray,
        rotation: np.ndarray,
        triangular: TriangularMap | None = None,
    ) -> Margins:
        """Return the margins whose log densities are given at points, but for constants.

        Parameters
        ----------
        knots : array of shape (m,)
            In increasing order; zero, where the values are highest or nearly so, is one of them.
        values : array of shape (d, m)
            Where they are not finite, or rise again on the way outwards, they are left out.
        rotation : array of shape (d, d)
        triangular : TriangularMap, optional
            From the independent coordinates to those along the columns of `rotation`.
        """
        known = [_finer(knots, row) for row in values]
        exponents = np.array([_exponents(z, log_f) for z, log_f in known])
        margins = cls(
            rotation, tuple(z for z, _ in known), tuple(log_f for _, log_f in known), exponents
        )
        heights = tuple(
            log_f - np.log(mass.sum())
            for log_f, mass in zip(margins.log_heights, margins._masses, strict=True)
        )
        return cls(rotation, margins.knots, heights, exponents, triangular)

    @property
    def dim(self) -> int:
        """Number d of coordinates."""
        return len(self.knots)

    @cached_property
    def _masses(self) -> list[np.ndarray]:
        """Masses of the lower tail, of each interval, and of the upper tail, shape (m_i + 1,)."""
        out = []
        for z, log_f, a in zip(self.knots, self.log_heights, self.exponents, strict=True):
            inner = np.diff(z) * np.exp(log_f[:-1]) * _mean_exponential(np.diff(log_f))
            tails = np.abs(z[[0, -1]]) * np.exp(log_f[[0, -1]]) / a
            out.append(np.concatenate([tails[:1], inner, tails[1:]]))
        return out

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density at points of shape (n, d), shape (n,)."""
        z, out = x @ self.rotation, np.zeros(len(x))
        if self.triangular is not None:
            z, stretch = self.triangular.inverse(z)
            out -= stretch
        for i, column in enumerate(z.T):
            out += self._log_margin(i, column)
        return out

    def score(self, x: np.ndarray) -> np.ndarray:
        """Gradient of `log_density` at points of shape (n, d), shape (n, d)."""
        y, mapped = x @ self.rotation, self.triangular
        slope = self._slopes(y) if mapped is None else mapped.pull_back(y, self._slopes)
        out: np.ndarray = slope @ self.rotation.T
        return out

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Independent draws, shape (n, d)."""
        u = rng.random((self.dim, n))
        z = np.stack([self._quantile(i, row) for i, row in enumerate(u)], axis=1)
        y = z if self.triangular is None else self.triangular.forward(z)
        out: np.ndarray = y @ self.rotation.T
        return out

    def _log_margin(self, i: int, z: np.ndarray) -> np.ndarray:
        knots, log_f, (low, high) = self.knots[i], self.log_heights[i], self.exponents[i]
        out: np.ndarray = np.interp(z, knots, log_f)
        below, above = z < knots[0], z > knots[-1]
        out[below] -= (low + 1.0) * np.log(z[below] / knots[0])
        out[above] -= (high + 1.0) * np.log(z[above] / knots[-1])
        return out

    def _slopes(self, z: np.ndarray) -> np.ndarray:
        """Return the derivatives of the log densities of the coordinates, shape (n, d)."""
        return np.stack([self._slope(i, column) for i, column in enumerate(z.T)], axis=1)

    def _slope(self, i: int, z: np.ndarray) -> np.ndarray:
        knots, log_f, (low, high) = self.knots[i], self.log_heights[i], self.exponents[i]
        slopes = np.concatenate([[0.0], np.diff(log_f) / np.diff(knots), [0.0]])
        out: np.ndarray = slopes[np.searchsorted(knots, z)]
        below, above = z < knots[0], z > knots[-1]
        out[below] = -(low + 1.0) / z[below]
        out[above] = -(high + 1.0) / z[above]
        return out

    def _quantile(self, i: int, u: np.ndarray) -> np.ndarray:
        """Points below which the parts u of coordinate i's mass lie."""
        knots, log_f, mass = self.knots[i], self.log_heights[i], self._masses[i]
        share = mass / mass.sum()
        ends = np.cumsum(share)
        piece = np.minimum(np.searchsorted(ends, u), len(mass) - 1)
        # Part of the piece's own mass that lies below.
        part = np.clip((u - ends[piece] + share[piece]) / share[piece], 1e-16, 1.0 - 1e-16)
        out = np.empty_like(u)
        lower, upper = piece == 0, piece == len(mass) - 1
        low, high = self.exponents[i]
        out[lower] = knots[0] * part[lower] ** (-1.0 / low)
        out[upper] = knots[-1] * (1.0 - part[upper]) ** (-1.0 / high)
        inner = ~lower & ~upper
        j, t = piece[inner] - 1, part[inner]
        rise = np.diff(log_f)[j]
        with np.errstate(invalid="ignore", divide="ignore"):
            along = np.where(np.abs(rise) < 1e-8, t, np.log1p(t * np.expm1(rise)) / rise)
        out[inner] = knots[j] + np.diff(knots)[j] * along
        return out


def _mean_exponential(rise: np.ndarray) -> np.ndarray:
    """Mean of exp over an interval on which the exponent rises linearly from zero to `rise`."""
    small = np.abs(rise) < 1e-8
    out: np.ndarray = np.where(small, 1.0, np.expm1(rise) / np.where(small, 1.0, rise))
    return out


def _finer(knots: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return more points, and log densities there, by a spline through those that count."""
    rows = falling_range(values, int(np.searchsorted(knots, 0.0)), _falls)
    z, log_f = knots[rows], values[rows]
    high = float(np.nanmax(log_f))
    log_f = np.where(np.isfinite(log_f), np.maximum(log_f - high, -2.0 * LOWEST), -2.0 * LOWEST)
    # The knots are about evenly spaced in this coordinate.
    along, j = np.arcsinh(z), np.arange(FINER * (len(z) - 1) + 1)
    fine = np.interp(j / FINER, np.arange(len(z)), along)
    out = CubicSpline(along, log_f)(fine)
    # A spline overshoots at a jump.
    inner = np.minimum(j // FINER, len(z) - 2)
    ends = np.stack([log_f[inner], log_f[inner + 1]])
    out = np.clip(out, ends.min(axis=0), ends.max(axis=0) + MAX_PEAK)
    return np.sinh(fine), out


def falling_range(
    values: np.ndarray, middle: int, counts: Callable[[float, np.ndarray], bool]
) -> slice:
    """Return the range of values that count on both sides of a middle one.

    Parameters
    ----------
    values : array of shape (m,)
    middle : int
        Neither the first nor the last.
    counts : callable
        ``counts(value, inner)`` tells whether a value counts, beyond the middle one and those
        between, in this order, which do. The next one on each side is in the range in any case: a
        spline needs points of both signs.

    Returns
    -------
    slice
    """
    reach = []
    for side in (values[middle::-1], values[middle:]):
        n = 1
        while n < len(side) and counts(side[n], side[:n]):
            n += 1
        reach.append(max(n - 1, 1))
    return slice(middle - reach[0], middle + reach[1] + 1)


def _falls(value: float, inner: np.ndarray) -> bool:
    """Whether a value counts, and is no higher than those nearer to the mode, about."""
    lowest = np.min(inner)
    return bool(np.isfinite(value) and value <= lowest + MAX_RISE and lowest > inner.max() - LOWEST)


def _exponents(z: np.ndarray, log_f: np.ndarray) -> tuple[float, float]:
    """Exponents of the tails by the slopes at the ends."""
    slope = (np.diff(log_f) / np.diff(z))[[0, -1]]
    low, high = np.clip(-z[[0, -1]] * slope - 1.0, MIN_EXPONENT, MAX_EXPONENT)
    return float(low), float(high)
