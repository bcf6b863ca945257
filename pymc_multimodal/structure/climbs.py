"""Climbs of all units at once, at given hubs, by damped Newton steps.

At given hubs g the log density is a sum over units, so that one evaluation of its terms serves a
step of every unit, and each unit has a step length of its own. Derivatives are differences of
terms: these are cheaper than gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.target.protocol import SumOfTerms
    from pymc_multimodal.target.units import Units

__all__ = ["UnitPoints", "climb_units", "climb_within", "evaluations_of_look", "rows_at_a_time"]

# Expected gain of a further Newton step (nats) below which a climb has ended, and from which on the
# end of a climb that the number of steps has cut off is no optimum. Conventional: weights are asked
# for to a per cent.
CONVERGED, ENDED = 1e-4, 1e-2
# Longest first step and longest step of all, in spreads of the starts. Conventional.
FIRST_REACH, MAX_REACH = 1.0, 4.0
# Factors of the longest step after a step that was refused, or accepted. Conventional.
SHRINK, GROW = 0.25, 2.0
# Least curvature that a step divides by, in units of the starts' spread. Conventional: steps along
# flat directions are bounded by their length.
LEAST_CURVATURE = 1e-2
# Greatest width of an explanation, in spreads of the starts: as `Modes.scale`.
MAX_WIDTH = 1.0
# Step of the differences while climbs are under way, in widths of the explanation. Conventional:
# second differences then have an error of 1e-4 of the curvature by the fourth derivative, and by
# rounding of 1e-4 where the log density is of the order of 1e7.
FINE = 1e-2
# Step of the differences by which an explanation is described, in its widths: the normal then has
# the width at which the density has fallen to exp(-1/2), also where the optimum is a kink, and its
# centre is the middle between both sides. Conventional.
COARSE = 1.0
# Looks by which the width is found with such differences. Conventional: each brings the logarithm
# of the width at a kink twice as near to its limit.
COARSE_STEPS = 3
# Least width, in spreads of the starts: optima that are narrower are not described, since rounding
# hides their width. Conventional: a thousand times the rounding of a coordinate.
LEAST_WIDTH = 1e-12
# Steps of climbs by short steps, at most. Conventional: points are within a few widths of optima.
SHORT_STEPS = 10
# Numbers that are held at a time: 32 MB of float64. Conventional.
MAX_NUMBERS = 4_000_000


def rows_at_a_time(numbers_per_row: int) -> int:
    """Return how many rows are treated at a time, at least one."""
    return max(1, MAX_NUMBERS // max(numbers_per_row, 1))


@dataclass(frozen=True)
class UnitPoints:
    """Points of all units, each with a normal approximation around it.

    Attributes
    ----------
    z : array of shape (n, N, b)
        Zero where a unit has fewer than b coordinates.
    scale : array of shape (n, N, b, b)
        Lower-triangular factors of the inverse negative Hessians of each unit's log density.
    log_mass : array of shape (n, N)
        Log of the mass of the normal approximation; -inf outside of the support.
    ended : array of bool, shape (n, N)
        Whether a climb has reached an optimum.
    log_hubs : array of shape (n,)
        Terms of the log density that depend on hubs alone.
    """

    z: np.ndarray
    scale: np.ndarray
    log_mass: np.ndarray
    ended: np.ndarray
    log_hubs: np.ndarray


def climb_units(
    density: SumOfTerms,
    units: Units,
    g: np.ndarray,
    z: np.ndarray,
    spread: np.ndarray,
    steps: int,
    width: np.ndarray | None = None,
) -> UnitPoints:
    """Climb in every unit, at fixed hubs, and describe the optima.

    Parameters
    ----------
    density : SumOfTerms
    units : Units
    g : array of shape (n, H)
        Hubs of each row.
    z : array of shape (n, N, b)
        Where the climbs begin.
    spread : array of shape (N, b)
        Unit of length of each coordinate: the robust standard deviation of the prior.
    steps : int
        Most steps.
    width : array of shape (n, N, b), optional
        Widths of known explanations: the climbs begin near to optima, which are described anew.
        By default the climbs begin anywhere.

    Returns
    -------
    UnitPoints
    """
    known = width is not None
    n_units, b = spread.shape
    width = np.broadcast_to(spread, z.shape) if width is None else width
    size = rows_at_a_time(n_units * b * (1 + b + b * b))
    parts = []
    for first in range(0, len(g), size):
        rows = slice(first, first + size)
        difference = COARSE if known else FINE
        climb = _Climb(density, units, spread, g[rows], z[rows], width[rows] / spread, difference)
        climb.run(steps)
        if not known:
            climb.describe()
        parts.append(climb.result())
    names = ("z", "scale", "log_mass", "ended", "log_hubs")
    return UnitPoints(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def climb_within(
    density: SumOfTerms,
    units: Units,
    g: np.ndarray,
    z: np.ndarray,
    spread: np.ndarray,
    width: np.ndarray,
    chosen: np.ndarray,
) -> np.ndarray:
    """Climb in some units by steps no longer than an explanation is wide: none is passed over.

    Parameters
    ----------
    density : SumOfTerms
    units : Units
    g : array of shape (n, H)
        Hubs of each row.
    z : array of shape (n, N, b)
        Where the climbs begin.
    spread : array of shape (N, b)
        Unit of length of each coordinate.
    width : array of shape (n, N, b)
        Widths of explanations that are near.
    chosen : array of bool, shape (n, N)
        Units that are climbed in.

    Returns
    -------
    array of shape (n, N, b)
        Where the climbs have ended: the points themselves in the other units.
    """
    n_units, b = spread.shape
    out, size = z.copy(), rows_at_a_time(n_units * b * (1 + b + b * b))
    for first in range(0, len(g), size):
        rows = slice(first, first + size)
        scaled = width[rows] / spread
        climb = _Climb(density, units, spread, g[rows], z[rows], scaled, FINE)
        climb.longest = np.linalg.norm(scaled * units.inside, axis=-1)
        climb.reach = climb.longest.copy()
        climb.run(SHORT_STEPS, chosen[rows])
        out[rows] = climb.z
    return out


class _Climb:
    """Climbs under way; lengths, slopes and curvatures are in units of the spread.

    Parameters
    ----------
    density : SumOfTerms
    units : Units
    spread : array of shape (N, b)
    g : array of shape (n, H)
    z, width : arrays of shape (n, N, b)
    difference : float
        Step of the differences, in widths.
    """

    def __init__(
        self,
        density: SumOfTerms,
        units: Units,
        spread: np.ndarray,
        g: np.ndarray,
        z: np.ndarray,
        width: np.ndarray,
        difference: float,
    ) -> None:
        self.difference, self.near = difference, difference == COARSE
        self.density, self.units, self.spread, self.g = density, units, spread, g
        self.z = z.copy()
        self.width = np.clip(width, LEAST_WIDTH, 1.0)
        self.reach, self.longest = (
            np.full(z.shape[:2], FIRST_REACH),
            np.full(z.shape[:2], MAX_REACH),
        )
        self.value, self.slope, self.curvature, self.log_hubs = self._look(
            np.arange(len(g)), self.z
        )
        self.principal = _eigen(self.curvature)

    def run(self, steps: int, chosen: np.ndarray | None = None) -> None:
        """Climb, in all units or some; a row is climbed from until all of its units have ended."""
        self.gain = gain = _expected_gain(self.slope, *self.principal)
        for _ in range(steps):
            going = (gain > CONVERGED) & np.isfinite(self.value)
            going &= True if chosen is None else chosen
            rows = np.flatnonzero(going.any(axis=1))
            if not len(rows):
                break
            self._step(rows, going[rows])
            values, vectors = (part[rows] for part in self.principal)
            gain[rows] = _expected_gain(self.slope[rows], values, vectors)
        # At the bottom of a valley the slope vanishes, too. Its width would be that of the modes on
        # both sides together. A coordinate that pads a unit has no curvature.
        self.concave = (self.principal[0] > -LEAST_CURVATURE).all(axis=-1)

    def describe(self) -> None:
        """Find the widths by coarse differences."""
        self.difference, rows = COARSE, np.arange(len(self.z))
        for _ in range(COARSE_STEPS):
            self._narrow(rows)
            _, self.slope, self.curvature, _ = self._look(rows, self.z)
        self.principal = _eigen(self.curvature)

    def result(self) -> UnitPoints:
        """Return where the climbs have ended."""
        gain, units = self.gain, self.units
        width, log_det = _widths(*self.principal, units.inside)
        log_det += np.sum(np.log(self.spread), axis=-1, where=units.inside)
        log_mass = self.value + log_det + 0.5 * units.sizes * np.log(2 * np.pi)
        if self.near:
            # Coarse differences at the optimum of a skewed unit promise a gain that no step finds:
            # each refusal makes the next step, and what it may gain, smaller.
            gain = np.minimum(gain, np.linalg.norm(self.slope, axis=-1) * self.reach)
        ended = np.isfinite(self.value) & (gain < ENDED) & self.concave
        # The mass of what is narrower than the least width would be too large.
        log_mass = np.where((self.principal[0] < LEAST_WIDTH**-2).all(axis=-1), log_mass, -np.inf)
        scale = self.spread[..., None] * width
        return UnitPoints(self.z, scale, log_mass, ended, self.log_hubs)

    def _step(self, rows: np.ndarray, going: np.ndarray) -> None:
        """Make a Newton step in the units of some rows that have not ended."""
        values, vectors = (part[rows] for part in self.principal)
        step = _newton_step(self.slope[rows], values, vectors, self.reach[rows])
        trial = self.z[rows] + np.where(going[..., None], step * self.spread, 0.0)
        self._narrow(rows)
        value, slope, curvature, _ = self._look(rows, trial)
        better = going & (value >= self.value[rows])
        self.z[rows] = np.where(better[..., None], trial, self.z[rows])
        self.value[rows] = np.where(better, value, self.value[rows])
        self.slope[rows] = np.where(better[..., None], slope, self.slope[rows])
        column = better[..., None, None]
        self.curvature[rows] = np.where(column, curvature, self.curvature[rows])
        new_values, new_vectors = _eigen(curvature)
        self.principal[0][rows] = np.where(better[..., None], new_values, values)
        self.principal[1][rows] = np.where(column, new_vectors, vectors)
        reach = self.reach[rows]
        length = np.linalg.norm(step, axis=-1)
        longer, shorter = np.minimum(GROW * reach, self.longest[rows]), SHRINK * length
        self.reach[rows] = np.where(better, longer, np.where(going, shorter, reach))

    def _narrow(self, rows: np.ndarray) -> None:
        """Take the widths from the curvatures."""
        diagonal = np.abs(np.diagonal(self.curvature[rows], axis1=-2, axis2=-1))
        self.width[rows] = np.clip(1.0 / np.sqrt(np.maximum(diagonal, 1.0)), LEAST_WIDTH, 1.0)

    def _look(self, rows: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, ...]:
        """Values (n, N), slopes (n, N, b), curvatures (n, N, b, b) and the hubs' terms (n,).

        Coordinate j of all units is moved at once. A curvature is minus a second derivative.
        """
        n, n_units, b = z.shape
        moves, pairs = _stencil(b)
        m = len(moves)
        h = self.difference * self.width[rows]
        moved = (z[:, None] + moves[:, None] * (h * self.spread)[:, None]) * self.units.inside
        x = self.units.scatter(np.repeat(self.g[rows], m, axis=0), moved.reshape(-1, n_units, b))
        terms = self.density.terms(x)
        log_hubs = self.units.of_hubs(terms).reshape(n, m)[:, 0]
        value = self.units.by_unit(terms).reshape(n, m, n_units)
        here, up, down = value[:, :1], value[:, 1 : b + 1], value[:, b + 1 : 2 * b + 1]
        curvature = np.zeros((n, n_units, b, b))
        with np.errstate(invalid="ignore"):
            slope = (up - down).transpose(0, 2, 1) / (2 * h)
            second = up - 2 * here + down
            curvature[..., np.arange(b), np.arange(b)] = -second.transpose(0, 2, 1) / h**2
            for k, (i, j) in enumerate(pairs):
                both = value[:, 2 * b + 1 + 2 * k] + value[:, 2 * b + 2 + 2 * k] - 2 * here[:, 0]
                mixed = -0.5 * (both - second[:, i] - second[:, j]) / (h[..., i] * h[..., j])
                curvature[..., i, j] = curvature[..., j, i] = mixed
        # Outside of the support there is no derivative, nor along what pads a unit: the rounding of
        # differences there would move it.
        inside = self.units.inside
        slope[~(np.isfinite(slope) & inside)] = 0.0
        curvature[~(np.isfinite(curvature) & inside[:, None] & inside[..., None])] = 0.0
        return here[:, 0], slope, curvature, log_hubs


def evaluations_of_look(b: int) -> int:
    """Return how many evaluations give the derivatives in units of b coordinates."""
    return len(_stencil(b)[0])


@lru_cache
def _stencil(b: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Return moves of b coordinates for second differences, and the pairs that move together."""
    eye = np.eye(b)
    pairs = [(i, j) for i in range(b) for j in range(i)]
    together = [s * (eye[i] + eye[j]) for i, j in pairs for s in (1.0, -1.0)]
    return np.array([np.zeros(b), *eye, *-eye, *together]), pairs


def _eigen(curvature: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (..., b) and eigenvectors (..., b, b) of symmetric matrices."""
    if curvature.shape[-1] == 1:
        return curvature[..., 0].copy(), np.ones_like(curvature)
    values, vectors = np.linalg.eigh(curvature)
    return values, vectors


def _expected_gain(slope: np.ndarray, values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Gain that a Newton step promises, shape (n, N); infinite at saddles and slopes."""
    along = np.einsum("...ij,...i->...j", vectors, slope)
    out: np.ndarray = np.sum(along**2 / np.maximum(np.abs(values), LEAST_CURVATURE), axis=-1)
    # Beside a saddle the slope may vanish along a direction of growth: the climb has not ended.
    return 0.5 * out


def _newton_step(
    slope: np.ndarray, values: np.ndarray, vectors: np.ndarray, reach: np.ndarray
) -> np.ndarray:
    """Newton step with the absolute values of the curvatures, not longer than `reach`."""
    along = np.einsum("...ij,...i->...j", vectors, slope)
    along /= np.maximum(np.abs(values), LEAST_CURVATURE)
    step = np.einsum("...ij,...j->...i", vectors, along)
    length = np.linalg.norm(step, axis=-1)
    return step * np.minimum(1.0, reach / np.maximum(length, 1e-300))[..., None]


def _widths(
    values: np.ndarray, vectors: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Factors of the inverse negative Hessians (n, N, b, b), and half of their log determinants."""
    width = 1.0 / np.sqrt(np.clip(values, MAX_WIDTH**-2, LEAST_WIDTH**-2))
    # With W the eigenvectors times the widths, W W' = R' R. A coordinate that pads a unit has no
    # curvature, and the width 1.
    root = vectors * width[..., None, :]
    if len(inside[0]) > 1:
        _, triangle = np.linalg.qr(root.swapaxes(-1, -2))
        sign = np.sign(np.diagonal(triangle, axis1=-2, axis2=-1))
        root = (triangle * np.where(sign == 0, 1.0, sign)[..., None]).swapaxes(-1, -2)
    diagonal = np.maximum(np.diagonal(root, axis1=-2, axis2=-1), LEAST_WIDTH)
    return root, np.log(diagonal).sum(axis=-1)
