"""Triangular maps for modes whose coordinates depend on one another: bent ridges and funnels.

Along each axis through a mode the other coordinates are moved to where the log density is highest,
and their curvature is measured there: shifts and scales as functions of the coordinate on the axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.proposals import Dependence, TriangularMap
from pymc_multimodal.proposals.margins import MAX_RISE, falling_range

if TYPE_CHECKING:
    from pymc_multimodal.target import Density

__all__ = ["AxisPoints", "most_for_map", "triangular_map"]

# Step (standard deviations of Laplace's approximation) over which gradients are compared.
# Conventional: the square root of the least step that rounding allows, within a factor of ten.
STEP = 1e-3
# Directions over which curvatures are averaged at each point. Each has the curvatures of all
# coordinates, but for those between coordinates, of random sign. Measured:
# examples/benchmarks/hard_kinds.py
DIRECTIONS = 2
# Least effect of a coordinate on another, in standard deviations, or as a change of the logarithm
# of the scale, relative to its weight at the point. Measured: examples/benchmarks/hard_kinds.py
LEAST_EFFECT = 0.1
# Nats below the mode up to which points on an axis count, unless they rise on the way outwards.
# Conventional: five and a half standard deviations of a normal.
DEPTH = 15.0
# Bounds of the curvature, relative to that at the mode. Conventional: widths from a hundredth to a
# hundred times those at the mode.
MIN_CURVATURE, MAX_CURVATURE = 1e-4, 1e4
# Largest gradient. Conventional: its square is finite.
MAX_GRADIENT = 1e100


@dataclass(frozen=True, eq=False)
class AxisPoints:
    """Points along the axes of a mode, and the log density there.

    Coordinates y are those of ``mean + axes @ y``.

    Attributes
    ----------
    density : Density
    mean : array of shape (d,)
    axes : array of shape (d, d)
        In columns.
    knots : array of shape (m,)
        Coordinates of the points along each axis; zero is one of them.
    centre, reach : arrays of shape (d,)
        Where a coordinate is farther from the centre than it reaches, nothing is evaluated.
    """

    density: Density
    mean: np.ndarray
    axes: np.ndarray
    knots: np.ndarray
    centre: np.ndarray
    reach: np.ndarray

    @property
    def dim(self) -> int:
        """Number d of coordinates."""
        return len(self.mean)

    @property
    def middle(self) -> int:
        """Index of the knot at the mode."""
        return int(np.searchsorted(self.knots, 0.0))

    @cached_property
    def own(self) -> np.ndarray:
        """Whether a coordinate is the one along the axis of the point, shape (d, 1, d)."""
        return np.eye(self.dim, dtype=bool)[:, None]

    @cached_property
    def y(self) -> np.ndarray:
        """The points on the axes, shape (d, m, d)."""
        out: np.ndarray = np.where(self.own, self.knots[:, None], 0.0)
        return out

    @cached_property
    def on_axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Log densities on the axes, and gradients by y (zero where there is none)."""
        if not self.density.has_gradient:
            return self.values(self.y), np.zeros(self.y.shape)
        return self.looked_at(self.y)

    def values(self, y: np.ndarray, asked: np.ndarray | bool = True) -> np.ndarray:
        """Log densities at points of shape (d, m, d), ``-inf`` out of reach, shape (d, m).

        They are ``-inf`` too where they are not asked for.
        """
        x, inside = self._places(y)
        inside &= asked
        out = np.full(y.shape[:2], -np.inf)
        out[inside] = self.density.logp(x[inside])
        return out

    def heights(self, triangular: TriangularMap) -> np.ndarray:
        """Log density, but for a constant, of the map's z on its axes, shape (d, m).

        It is ``-inf`` where the dependences on a coordinate are not known.
        """
        y = triangular.forward(self.y.reshape(-1, self.dim))
        stretch = triangular.inverse(y)[1].reshape(self.y.shape[:2])
        known = np.ones(stretch.shape, dtype=bool)
        for one in triangular.dependences:
            known[one.source] = (self.knots >= one.knots[0]) & (self.knots <= one.knots[-1])
        out: np.ndarray = self.values(y.reshape(self.y.shape), known) + stretch
        return out

    def looked_at(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log densities as by `values`, and gradients by y, zero out of reach."""
        x, inside = self._places(y)
        values, grad = np.full(y.shape[:2], -np.inf), np.zeros(y.shape)
        values[inside], slope = self.density.logp_and_grad(x[inside])
        with np.errstate(over="ignore", invalid="ignore"):
            along = np.nan_to_num(slope @ self.axes, posinf=0.0, neginf=0.0)
        grad[inside] = np.clip(along, -MAX_GRADIENT, MAX_GRADIENT)
        return values, grad

    def curvatures(self, y: np.ndarray, grad: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Curvatures of minus the log density along the other coordinates, shape (d, m, d)."""
        out = np.zeros(y.shape)
        for _ in range(DIRECTIONS):
            sign = np.where(self.own, 0.0, rng.choice([-1.0, 1.0], size=y.shape))
            _, there = self.looked_at(y + STEP * sign)
            out += (grad - there) * sign / (STEP * DIRECTIONS)
        return out

    def log_scales(self, curvature: np.ndarray) -> np.ndarray:
        """Logarithms of the scales that curvatures are of, relative to those at the mode."""
        known = ~self.own & (curvature > 0.0)
        bounded = np.clip(curvature, MIN_CURVATURE, MAX_CURVATURE)
        out: np.ndarray = np.where(known, -0.5 * np.log(bounded), 0.0)
        return out - out[:, self.middle, None]

    def _places(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = self.mean + y @ self.axes.T
        return x, (np.abs(x - self.centre) <= self.reach).all(axis=2)


def most_for_map(points: int, *, scales: bool) -> int:
    """Return the evaluations, besides those on the axes, that a map takes with its heights."""
    return (2 + 2 * DIRECTIONS if scales else 2) * points


def triangular_map(
    points: AxisPoints, rng: np.random.Generator, *, scales: bool
) -> TriangularMap | None:
    """Find a triangular map to coordinates that are nearly independent.

    A Newton step moves the other coordinates, with the curvature of the mode or, for `scales`, that
    at the point.

    Parameters
    ----------
    points : AxisPoints
        Along the axes of a mode, in standard deviations.
    rng : numpy.random.Generator
    scales : bool
        Whether scales depend on other coordinates, or shifts alone.

    Returns
    -------
    TriangularMap or None
        None where no coordinate depends on another.
    """
    values, grad = points.on_axes
    curvature = points.curvatures(points.y, grad, rng) if scales else np.ones(grad.shape)
    known = ~points.own & (curvature > MIN_CURVATURE)
    shift = np.where(known, grad / np.clip(curvature, MIN_CURVATURE, MAX_CURVATURE), 0.0)
    log_scale = points.log_scales(curvature)
    # What the log density is after a Newton step, if it is quadratic; zero is the mode.
    top = values[:, points.middle, None]
    profile = np.minimum(values + 0.5 * (shift * grad).sum(axis=2), top) + log_scale.sum(axis=2)
    chosen = _acyclic(_effects(points, profile, shift, log_scale))
    if not chosen.any():
        return None
    shift, log_scale = (np.where(chosen[:, None], part, 0.0) for part in (shift, log_scale))
    moved = points.y + shift
    if scales:
        there, grad = points.looked_at(moved)
        again = points.log_scales(points.curvatures(moved, grad, rng))
    else:
        there, again = points.values(moved), log_scale
    higher = (there > values)[..., None] & (points.knots != 0.0)[:, None]
    shift = np.where(higher, shift, 0.0)
    log_scale = np.where(higher & chosen[:, None], again, log_scale)
    profile = np.where(higher[..., 0], there, values) + log_scale.sum(axis=2)
    return _joined(points, chosen, profile, shift, log_scale)


def _effects(
    points: AxisPoints, profile: np.ndarray, shift: np.ndarray, log_scale: np.ndarray
) -> np.ndarray:
    """Effect of each coordinate (rows) on each other one, where its profile is not low, (d, d)."""
    out = np.zeros((points.dim, points.dim))
    for i, row in enumerate(profile):
        rows = falling_range(row, points.middle, _counts)
        near = np.exp(0.5 * (row[rows] - row[rows].max()))
        size = np.abs(shift[i, rows]) * np.exp(-log_scale[i, rows]) + np.abs(log_scale[i, rows])
        out[i] = (near[:, None] * size).max(axis=0)
    return out


def _acyclic(effect: np.ndarray) -> np.ndarray:
    """Choose the strongest dependences of which none closes a circle, shape (d, d)."""
    d = len(effect)
    # leads[i, j]: j is i, or depends on it, maybe by way of others.
    chosen, leads = np.zeros((d, d), bool), np.eye(d, dtype=bool)
    for pair in np.argsort(-effect, axis=None, kind="stable").tolist():
        i, j = divmod(pair, d)
        if effect[i, j] < LEAST_EFFECT:
            break
        if not leads[j, i]:
            chosen[i, j] = True
            leads |= np.outer(leads[:, i], leads[j])
    return chosen


def _joined(
    points: AxisPoints,
    chosen: np.ndarray,
    profile: np.ndarray,
    shift: np.ndarray,
    log_scale: np.ndarray,
) -> TriangularMap:
    """Join the dependences to a map, each source after those that it depends on."""
    left, dependences = list(range(points.dim)), []
    while left:
        i = next(i for i in left if not chosen[left, i].any())
        left.remove(i)
        if chosen[i].any():
            rows = falling_range(profile[i], points.middle, _counts)
            others = np.flatnonzero(chosen[i])
            at = shift[i, rows][:, others], log_scale[i, rows][:, others]
            dependences.append(Dependence(i, others, points.knots[rows], *at))
    return TriangularMap(points.dim, tuple(dependences))


def _counts(value: float, inner: np.ndarray) -> bool:
    """Whether a knot counts, beyond others of which the first is the mode."""
    return bool(np.isfinite(value) and inner[0] - DEPTH < value < inner[-1] + MAX_RISE)
