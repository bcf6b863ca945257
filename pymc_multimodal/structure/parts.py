"""Explanations that are not normal: mixtures in the coordinates of their normal approximations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.structure.conditional import Parts

if TYPE_CHECKING:
    from pymc_multimodal.structure.conditional import Conditional
    from pymc_multimodal.structure.extended import Extended, UnitProposals
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.units import Units

__all__ = ["with_parts"]

# Relative variance of the weight of one point from which on a unit's explanations get parts: as
# many points as that are lost. Conventional; a normal has 0.1 for each coordinate.
POOR = 1.0
# That at which no further round is made. Conventional: half as much.
GOOD = 0.5
# Points of each unit at each of the hubs, and those of them, chosen by weight, that walk. The walks
# show what no point of the mixture has met. Conventional.
POINTS, WALKERS = 64, 24
# Metropolis steps of a walk, their length in the scales of the nearest part, and the power of the
# density that is walked on: proposals that are somewhat wide lose less than narrow ones.
# Conventional.
STEPS, LENGTH, POWER = 12, 1.0, 0.6
# Rounds: the parts of one round draw the points of the next. Conventional.
ROUNDS = 5
# Components of a unit, which its explanations have equal numbers of. Conventional.
COMPONENTS = 12
# Points for each component at least. Conventional.
MIN_POINTS = 5
# Least variance of a component, relative to the normal approximation. Conventional.
LEAST_VARIANCE = 1e-3
# Share that the normal approximation keeps. Conventional: as one of the components.
KEPT = 0.15


def with_parts(
    density: Density, proposals: UnitProposals, g: np.ndarray, rng: np.random.Generator
) -> UnitProposals:
    """Give parts to the explanations of units whose weights vary much.

    Parameters
    ----------
    density : Density
    proposals : UnitProposals
    g : array of shape (n, H)
        Typical hubs.
    rng : numpy.random.Generator

    Returns
    -------
    UnitProposals
        Those given where no unit needs parts, or these do no better.
    """
    drawn = replace(proposals, points=POINTS).draw(density, g, rng)
    noise = _noise(drawn)
    poor = noise > POOR
    if not poor.any():
        return proposals
    best, least, tried = proposals, noise[poor].sum(), proposals
    for _ in range(ROUNDS):
        z = _walked(density, proposals.units, drawn, rng)
        parts = _fitted(drawn.conditional, z, poor, tried.mixtures.parts, rng)
        tried = replace(tried, mixtures=replace(tried.mixtures, parts=parts))
        drawn = replace(tried, points=POINTS).draw(density, g, rng)
        now = _noise(drawn)[poor]
        if now.sum() < least:
            best, least = tried, now.sum()
        if (now < GOOD).all():
            break
    return best


def _noise(drawn: Extended) -> np.ndarray:
    """Relative variance of the weight of one point of each unit, shape (N,)."""
    square = (drawn.share**2).sum(axis=1)
    out: np.ndarray = np.mean(drawn.share.shape[1] * square - 1.0, axis=0)
    return out


def _walked(
    density: Density, units: Units, drawn: Extended, rng: np.random.Generator
) -> np.ndarray:
    """Resample points by weight, and let them walk: they spread over each unit, (n, m, N, b)."""
    (n, _, n_units, b), at = drawn.z.shape, drawn.conditional
    u = (np.arange(WALKERS)[:, None] + rng.random((n, 1, n_units))) / WALKERS
    row, unit, chosen = np.arange(n)[:, None, None], np.arange(n_units), drawn.places(u)
    z, value = drawn.z[row, chosen, unit], drawn.log_value[row, chosen, unit]
    for _ in range(STEPS):
        nearest = np.argmax(at.log_parts(z)[:-1], axis=0)
        noise = LENGTH * rng.standard_normal(z.shape)
        step = np.einsum("nmuij,nmuj->nmui", at.scale[row, unit, nearest], noise)
        trial = z + step * at.inside
        x = units.scatter(np.repeat(drawn.g, WALKERS, axis=0), trial.reshape(-1, n_units, b))
        there = units.by_unit(density.terms(x)).reshape(value.shape)
        with np.errstate(invalid="ignore"):
            better = np.log(rng.random(value.shape)) < POWER * (there - value)
        z = np.where(better[..., None], trial, z)
        value = np.where(better, there, value)
    return z


def _fitted(
    at: Conditional,
    z: np.ndarray,
    poor: np.ndarray,
    before: Parts | None,
    rng: np.random.Generator,
) -> Parts:
    """Fit parts to points (n, m, N, b) of some units; the others keep those they have."""
    at = at.explanations
    _, n_units, k, b = at.mean.shape
    there = np.isfinite(at.log_share[..., :k]).any(axis=0)
    components = COMPONENTS // np.maximum(there.sum(axis=1), 1)
    parts = Parts.none(n_units, k, b, components[poor].max() + 1) if before is None else before
    parts, label = parts.copied(), np.argmax(at.log_normals(z), axis=0)
    for i in np.flatnonzero(poor).tolist():
        inside, most = at.inside[i], max(int(components[i]), 1)
        for j in np.flatnonzero(there[i]).tolist():
            # Points in units of the explanation at their own hubs.
            apart = z[:, :, i] - at.mean[:, None, i, j]
            r = np.einsum("nij,nmj->nmi", at.inverse[:, i, j], apart)
            r = r[label[:, :, i] == j][:, inside]
            if len(r) >= MIN_POINTS * most:
                parts.put((i, j), inside, _components(r, most, rng), KEPT)
    return parts


def _components(
    r: np.ndarray, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit n normals: means (n, b), lower-triangular factors (n, b, b), shares (n,)."""
    # It is imported where it is needed: that takes half a second.
    from sklearn.mixture import GaussianMixture

    seed = int(rng.integers(2**31))
    fitted = GaussianMixture(
        n, reg_covar=LEAST_VARIANCE, max_iter=50, tol=1e-2, random_state=seed
    ).fit(r)
    return fitted.means_, np.linalg.cholesky(fitted.covariances_), fitted.weights_
