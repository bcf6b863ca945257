"""Climbs of all units at once, at given hubs, by damped Newton steps.

At given hubs g the log density is a sum over units, so that one evaluation serves a step of every
unit, and each unit has a step length of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.units import Units

__all__ = ["UnitPoints", "climb_units", "rows_at_a_time"]

# Expected gain of a further Newton step (nats) below which a climb has ended. Conventional: weights
# are asked for to a per cent.
CONVERGED = 1e-8
# The same for a climb that the number of steps has ended: its end counts. Conventional.
ENDED = 0.01
# Longest first step and longest step of all, in spreads of the starts. Conventional.
FIRST_REACH, MAX_REACH = 1.0, 4.0
# Factors of the longest step after a step that was refused, or accepted. Conventional.
SHRINK, GROW = 0.25, 2.0
# Least curvature that a step divides by, in units of the starts' spread. Conventional: steps along
# flat directions are bounded by their length.
LEAST_CURVATURE = 1e-2
# Greatest width of an explanation, in spreads of the starts: as `Modes.scale`.
MAX_WIDTH = 1.0
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
        Log of the mass of the normal approximation; -inf where a climb has not ended.
    log_hubs : array of shape (n,)
        Terms of the log density that depend on hubs alone.
    """

    z: np.ndarray
    scale: np.ndarray
    log_mass: np.ndarray
    log_hubs: np.ndarray


def climb_units(
    density: Density,
    units: Units,
    g: np.ndarray,
    z: np.ndarray,
    spread: np.ndarray,
    steps: int,
) -> UnitPoints:
    """Climb in every unit, at fixed hubs.

    Parameters
    ----------
    density : Density
        With terms.
    units : Units
    g : array of shape (n, H)
        Hubs of each row.
    z : array of shape (n, N, b)
        Where the climbs begin.
    spread : array of shape (N, b)
        Unit of length of each coordinate: the robust standard deviation of the prior.
    steps : int
        Most steps.

    Returns
    -------
    UnitPoints
    """
    n_units, b = spread.shape
    size = rows_at_a_time(n_units * b * b * (b + 1))
    parts = [
        _climb(density, units, g[first : first + size], z[first : first + size], spread, steps)
        for first in range(0, len(g), size)
    ]
    return UnitPoints(
        *(
            np.concatenate([getattr(p, name) for p in parts])
            for name in ("z", "scale", "log_mass", "log_hubs")
        )
    )


def _climb(
    density: Density,
    units: Units,
    g: np.ndarray,
    z: np.ndarray,
    spread: np.ndarray,
    steps: int,
) -> UnitPoints:
    z, log_hubs = z.copy(), np.zeros(len(z))
    reach = np.full(z.shape[:2], FIRST_REACH)
    value, log_hubs = _values(density, units, g, z)
    slope, curvature = _derivatives(density, units, g, z, spread)
    gain = _expected_gain(slope, curvature)
    for _ in range(steps):
        # A row is climbed from until all of its units have ended.
        rows = np.flatnonzero(((gain > CONVERGED) & np.isfinite(value)).any(axis=1))
        if not len(rows):
            break
        step = _newton_step(slope[rows], curvature[rows], reach[rows])
        trial = z[rows] + np.where((gain[rows] > CONVERGED)[..., None], step * spread, 0.0)
        new, _ = _values(density, units, g[rows], trial)
        better = new > value[rows]
        better |= (new == value[rows]) & np.isfinite(new)
        z[rows] = np.where(better[..., None], trial, z[rows])
        value[rows] = np.where(better, new, value[rows])
        reach[rows] = np.where(
            better, np.minimum(GROW * reach[rows], MAX_REACH), SHRINK * reach[rows]
        )
        slope[rows], curvature[rows] = _derivatives(density, units, g[rows], z[rows], spread)
        gain[rows] = _expected_gain(slope[rows], curvature[rows])
    width, log_det = _widths(curvature, units.inside)
    scale = spread[..., None] * width
    half_log_det = log_det + np.sum(np.log(spread), axis=-1, where=units.inside)
    log_mass = value + half_log_det + 0.5 * units.sizes * np.log(2 * np.pi)
    ended = np.isfinite(value) & (gain < ENDED)
    return UnitPoints(z, scale, np.where(ended, log_mass, -np.inf), log_hubs)


def _values(
    density: Density, units: Units, g: np.ndarray, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Log density of each unit, shape (n, N), and of the hubs alone, shape (n,)."""
    terms = density.terms(units.scatter(g, z))
    return units.by_unit(terms), units.of_hubs(terms)


def _derivatives(
    density: Density, units: Units, g: np.ndarray, z: np.ndarray, spread: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (n, N, b) and negative Hessian (n, N, b, b) of each unit, in units of the spread.

    Coordinate j of all units is moved at once.
    """
    (n, _, b), coarse = z.shape, density.resolution
    if not density.has_gradient:
        return _differences(density, units, g, z, spread)
    h = coarse ** (1 / 3)
    moved = np.repeat(z[:, None], 2 * b + 1, axis=1)
    for j in range(b):
        moved[:, 1 + 2 * j, :, j] += h * spread[:, j]
        moved[:, 2 + 2 * j, :, j] -= h * spread[:, j]
    moved *= units.inside
    x = units.scatter(np.repeat(g, 2 * b + 1, axis=0), moved.reshape(-1, *z.shape[1:]))
    _, grad = density.logp_and_grad(x)
    slopes = units.gather(grad).reshape(moved.shape) * spread
    curvature = -(slopes[:, 1::2] - slopes[:, 2::2]) / (2 * h)
    curvature = curvature.transpose(0, 2, 1, 3)
    return slopes[:, 0], 0.5 * (curvature + curvature.swapaxes(-1, -2))


def _differences(
    density: Density, units: Units, g: np.ndarray, z: np.ndarray, spread: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """As `_derivatives`, by differences of values."""
    n, n_units, b = z.shape
    h = density.resolution**0.25
    pairs = [(i, j) for i in range(b) for j in range(i)]
    moves = [np.zeros(b)]
    moves += [s * np.eye(b)[j] for j in range(b) for s in (1.0, -1.0)]
    moves += [np.eye(b)[i] + np.eye(b)[j] for i, j in pairs]
    moves += [-np.eye(b)[i] - np.eye(b)[j] for i, j in pairs]
    m = len(moves)
    moved = (z[:, None] + h * np.array(moves)[:, None] * spread) * units.inside
    value, _ = _values(density, units, np.repeat(g, m, axis=0), moved.reshape(-1, n_units, b))
    value = value.reshape(n, m, n_units)
    up, down, here = value[:, 1 : 2 * b + 1 : 2], value[:, 2 : 2 * b + 1 : 2], value[:, :1]
    with np.errstate(invalid="ignore"):
        slope = ((up - down) / (2 * h)).transpose(0, 2, 1)
        second = (up - 2 * here + down) / h**2
        curvature = np.zeros((n, n_units, b, b))
        curvature[..., np.arange(b), np.arange(b)] = -second.transpose(0, 2, 1)
        for k, (i, j) in enumerate(pairs):
            both = value[:, 2 * b + 1 + k] + value[:, 2 * b + 1 + len(pairs) + k] - 2 * here[:, 0]
            mixed = -0.5 * (both / h**2 - second[:, i] - second[:, j])
            curvature[..., i, j] = curvature[..., j, i] = mixed
    slope[~np.isfinite(slope)] = 0.0
    curvature[~np.isfinite(curvature)] = 0.0
    return slope, curvature


def _eigen(curvature: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (..., b) and eigenvectors (..., b, b) of symmetric matrices."""
    if curvature.shape[-1] == 1:
        return curvature[..., 0], np.ones_like(curvature)
    values, vectors = np.linalg.eigh(curvature)
    return values, vectors


def _expected_gain(slope: np.ndarray, curvature: np.ndarray) -> np.ndarray:
    """Gain that a Newton step promises, shape (n, N); infinite at saddles and slopes."""
    values, vectors = _eigen(curvature)
    along = np.einsum("...ij,...i->...j", vectors, slope)
    out: np.ndarray = np.sum(along**2 / np.maximum(np.abs(values), LEAST_CURVATURE), axis=-1)
    # Beside a saddle the slope may vanish along a direction of growth: the climb has not ended.
    return 0.5 * out


def _newton_step(slope: np.ndarray, curvature: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Newton step with the absolute values of the curvatures, not longer than `reach`."""
    values, vectors = _eigen(curvature)
    along = np.einsum("...ij,...i->...j", vectors, slope)
    along /= np.maximum(np.abs(values), LEAST_CURVATURE)
    step = np.einsum("...ij,...j->...i", vectors, along)
    length = np.linalg.norm(step, axis=-1)
    return step * np.minimum(1.0, reach / np.maximum(length, 1e-300))[..., None]


def _widths(curvature: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factors of the inverse negative Hessians (n, N, b, b), and half of their log determinants."""
    values, vectors = _eigen(curvature)
    variance = 1.0 / np.maximum(values, MAX_WIDTH**-2)
    covariance = (vectors * variance[..., None, :]) @ vectors.swapaxes(-1, -2)
    both = inside[:, :, None] & inside[:, None, :]
    covariance = np.where(both, covariance, np.eye(inside.shape[1]))
    scale = np.sqrt(covariance) if len(inside[0]) == 1 else np.linalg.cholesky(covariance)
    log_det = np.log(np.diagonal(scale, axis1=-2, axis2=-1)).sum(axis=-1)
    return scale, log_det
