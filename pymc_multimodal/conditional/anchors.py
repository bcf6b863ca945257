r"""Normal densities of the rest around the modes of the hubs.

At a mode :math:`u_0` of the hubs the rest has the optimum :math:`v_0` and the negative Hessian P.
Near it the optimum, and the logarithms of the curvatures along the directions of one basis V, are
taken as quadratic in :math:`\delta = u - u_0`:

.. math:: \hat v(u) = v_0 + \varphi(\delta) J, \qquad
          P(u) \approx V^{-\top} \operatorname{diag}(e^{\varphi(\delta) S}) V^{-1}

with all monomials :math:`\varphi` of the first and second degree. V is the basis in which P and its
change along a random direction of the hubs are diagonal. P is then diagonal in it for all hubs if
its changes commute in the metric P: those by a spread of coefficients and by a noise do, however
the coefficients are correlated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cholesky, eigh, solve_triangular

from pymc_multimodal.conditional.climbs import Climbed, rest_optimum

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymc_multimodal.conditional.split import Split
    from pymc_multimodal.target.density import Density

__all__ = ["Anchor", "find_anchors"]

# Length of the differences of gradients, in spreads of the starts or in standard deviations of the
# rest, and of the hubs' differences, in spreads. Conventional: the square root of rounding for the
# first; the second is of the order of the hubs' standard deviations.
DIFFERENCE, HUB_DIFFERENCE = 1e-4, 0.05
# Length of the hubs' differences in standard deviations, once these are known, and the factor by
# which it may differ. Conventional: the quadratics then hold where the hubs are.
WIDTHS, SIMILAR = 1.5, 2.0
# Rows of one block of differences. Conventional: 64 MB for 2,000 coordinates.
ROWS = 1024
# Eigenvalues of the curvature relative to the largest that count as positive. Conventional.
LEAST_CURVATURE = 1e-12
# Logarithm by which a variance may change with the hubs, at most: linear extrapolation is not
# trusted beyond. Conventional.
MAX_CHANGE = 3.0
# Newton steps by which an optimum of the rest is polished, and followed to other hubs.
# Conventional.
POLISHING, FOLLOWING = 6, 5
# Least curvature along a direction, relative to that at the anchor. Conventional.
LEAST_PRECISION = 1e-3
# Distance of the hubs from the mode of their approximate marginal density (standard deviations)
# beyond which the normal densities are made anew there, and how often. Conventional.
FAR, REPEATS = 1.5, 3
# Newton steps of the hubs on the approximate marginal density, and the distance that ends them.
# Conventional.
HUB_STEPS, HUB_SETTLED = 20, 0.05
# First length of differences of the marginal density, in spreads of the starts. Conventional.
FIRST_LENGTH = 0.05
# Least and largest standard deviation of a hub, in spreads of the starts. Conventional.
NARROWEST, WIDEST = 1e-5, 1.0
# Climbs whose marginal density is lower than the highest by more than this (nats) are left out,
# unless there are no others. Conventional: their mass is next to nothing.
NEGLIGIBLE = 20.0
# Distinct ends of climbs at most: posteriors with more modes are left to the search for modes.
# Conventional: an anchor of 2,000 coordinates takes 64 MB and some ten seconds.
MAX_ENDS = 8
# Ends of climbs are one mode if they are nearer than this to one another (spreads of the starts) or
# to an anchor (standard deviations of the hubs, and of the rest per square root of a coordinate).
# Conventional.
SAME_END, SAME_HUBS, SAME_REST = 0.1, 3.0, 0.3


@dataclass(frozen=True, eq=False)
class Anchor:
    """A normal density of the rest for each value of the hubs.

    Attributes
    ----------
    u : array of shape (H,)
    v : array of shape (D,)
        Optimum of the rest.
    slope : array of shape (F, D)
        J: coefficients of the optimum.
    basis : array of shape (D, D)
        V: columns of conjugate directions of length one.
    inverse : array of shape (D, D)
        Of the basis.
    log_det : float
        Log determinant of the basis.
    log_rate : array of shape (F, D)
        S: coefficients of the log precision along each direction.
    mode : array of shape (H,)
        Of the hubs: near `u`.
    scale : array of shape (H, H)
        Lower-triangular factor of the hubs' covariance.
    value : float
        Log marginal density at the mode.
    """

    u: np.ndarray
    v: np.ndarray
    slope: np.ndarray
    basis: np.ndarray
    inverse: np.ndarray
    log_det: float
    log_rate: np.ndarray
    mode: np.ndarray
    scale: np.ndarray
    value: float

    @property
    def log_mass(self) -> float:
        """Laplace's approximation of the log mass, without ``(H / 2) log(2 pi)``."""
        return self.value + float(np.log(np.diag(self.scale)).sum())

    def optimum(self, u: np.ndarray) -> np.ndarray:
        """Approximate optimum of the rest at hubs (n, H), shape (n, D)."""
        out: np.ndarray = self.v + monomials(u - self.u) @ self.slope
        return out

    def log_width(self, u: np.ndarray) -> np.ndarray:
        """Log standard deviations along the basis at hubs (n, H), shape (n, D)."""
        return -0.5 * np.clip(monomials(u - self.u) @ self.log_rate, -MAX_CHANGE, MAX_CHANGE)

    def sample(self, u: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw the rest at hubs (n, H), shape (n, D)."""
        noise = rng.standard_normal((len(u), len(self.v))) * np.exp(self.log_width(u))
        out: np.ndarray = self.optimum(u) + noise @ self.basis.T
        return out

    def log_density(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Log density of the rest (n, D) given hubs (n, H), shape (n,)."""
        log_width = self.log_width(u)
        z = (v - self.optimum(u)) @ self.inverse.T * np.exp(-log_width)
        constant = 0.5 * len(self.v) * np.log(2 * np.pi) + self.log_det
        out: np.ndarray = -0.5 * np.einsum("nd,nd->n", z, z) - log_width.sum(axis=1) - constant
        return out

    def marginal(self, density: Density, split: Split, u: np.ndarray) -> np.ndarray:
        """Approximate log marginal density of hubs (n, H), shape (n,)."""
        v = self.optimum(u)
        logp = density.logp(split.join(u, v))
        constant = 0.5 * len(self.v) * np.log(2 * np.pi) + self.log_det
        out: np.ndarray = logp + self.log_width(u).sum(axis=1) + constant
        return out


def find_anchors(
    density: Density,
    split: Split,
    climbed: Climbed,
    spread: np.ndarray,
    rng: np.random.Generator,
) -> tuple[list[Anchor], np.ndarray]:
    """Describe the rest at each distinct end of climbs.

    Parameters
    ----------
    density : Density
    split : Split
    climbed : Climbed
    spread : array of shape (d,)
        Unit of length of each coordinate.
    rng : numpy.random.Generator

    Returns
    -------
    anchors : list of Anchor
        The highest end first; none if there are many distinct ends.
    hits : array of int
        Climbs that ended at each.
    """
    order = np.argsort(-climbed.value)
    order = order[climbed.value[order] > climbed.value[order[0]] - NEGLIGIBLE]
    ends = split.join(climbed.u, climbed.v)[order] / spread
    distinct = [i for i, end in enumerate(ends) if _same_end(split, end, ends[:i]) is None]
    if len(distinct) > MAX_ENDS:
        return [], np.zeros(0, dtype=int)
    anchors: list[Anchor] = []
    # Anchor of each end, -1 for none.
    of_end: list[int] = []
    for i, end in zip(order, ends, strict=True):
        before = _same_end(split, end, ends[: len(of_end)])
        if before is not None:
            of_end.append(of_end[before])
            continue
        u, v = climbed.u[i], climbed.v[i]
        k = _same_anchor(anchors, u, v)
        if k is None:
            found = _anchor_near(density, split, (u, v), spread, rng)
            if found is None:
                of_end.append(-1)
                continue
            k = _same_anchor(anchors, found.mode, found.optimum(found.mode[None])[0])
            if k is None:
                k = len(anchors)
                anchors.append(found)
        of_end.append(k)
    hits = np.bincount(np.array(of_end, dtype=int) + 1, minlength=len(anchors) + 1)[1:]
    return anchors, hits


def _same_end(split: Split, end: np.ndarray, others: np.ndarray) -> int | None:
    """Return an end of a climb at the same place (points in spreads of the starts)."""
    far = np.abs(others - end)
    near = far[:, split.hubs].max(axis=1) < SAME_END
    near &= np.sqrt((far[:, split.rest] ** 2).mean(axis=1)) < SAME_END
    rows = np.flatnonzero(near)
    return int(rows[0]) if len(rows) else None


def _same_anchor(anchors: list[Anchor], u: np.ndarray, v: np.ndarray) -> int | None:
    """Return the anchor at whose mode a point is."""
    return next((k for k, anchor in enumerate(anchors) if _same(anchor, u, v)), None)


def _same(anchor: Anchor, u: np.ndarray, v: np.ndarray) -> bool:
    """Tell whether a point is at the mode of an anchor."""
    r = solve_triangular(anchor.scale, u - anchor.mode, lower=True)
    if np.linalg.norm(r) > SAME_HUBS * max(1.0, np.sqrt(len(u))):
        return False
    z = (v - anchor.optimum(u[None])[0]) @ anchor.inverse.T
    return bool(np.linalg.norm(z) < SAME_REST * np.sqrt(len(v)))


def _anchor_near(
    density: Density,
    split: Split,
    at: tuple[np.ndarray, np.ndarray],
    spread: np.ndarray,
    rng: np.random.Generator,
) -> Anchor | None:
    """Return an anchor near the mode of the hubs that is near a point; None if there is none."""
    u, v = at
    anchor, unit = None, HUB_DIFFERENCE * spread[split.hubs]
    for _ in range(REPEATS):
        anchor = _anchor(density, split, (u, v), (spread, unit), rng)
        if anchor is None:
            return None
        u, scale = _hub_mode(density, split, anchor, spread[split.hubs])
        shift = np.linalg.norm(solve_triangular(scale, u - anchor.u, lower=True))
        value = float(anchor.marginal(density, split, u[None])[0])
        anchor = replace(anchor, mode=u, scale=scale, value=value)
        wanted = WIDTHS * np.linalg.norm(scale, axis=1)
        if shift < FAR and (np.abs(np.log(unit / wanted)) < np.log(SIMILAR)).all():
            break
        unit = wanted
        v = anchor.optimum(u[None])[0]
    return anchor


def _anchor(
    density: Density,
    split: Split,
    at: tuple[np.ndarray, np.ndarray],
    units: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> Anchor | None:
    """Return the anchor at a point; `units` are the spread and the length of the hubs' steps."""
    (u, v), (spread, unit) = at, units
    rest, h = spread[split.rest], len(u)
    v = rest_optimum(density, split, (u[None], v[None]), rest, POLISHING)[0][0]
    # The basis is made in units of the spread.
    factor = _factor(_curvature(density, split, (u, v), rest))
    if factor is None:
        return None
    direction = unit * rng.standard_normal(h)
    ends = [(u + sign * direction, v) for sign in (1.0, -1.0)]
    up, down = (_curvature(density, split, end, rest) for end in ends)
    rotation = eigh(_whitened(factor, up - down))[1]
    # Precisions are factor factor': V = factor^-T rotation.
    basis = solve_triangular(factor, rotation, lower=True, trans=1) * rest[:, None]
    inverse = rotation.T @ factor.T / rest
    log_det = float(np.log(rest).sum() - np.log(np.diag(factor)).sum())
    steps = _design(h) * unit
    optima, logs = [], []
    for step in steps:
        own = u + step
        # The optimum is followed by steps with the curvature at the anchor, whose errors fall by
        # the relative change of the curvature each time.
        to = v
        for _ in range(FOLLOWING):
            grad = density.logp_and_grad(split.join(own[None], to[None]))[1][0, split.rest]
            to = to + basis @ (basis.T @ grad)
        optima.append(to - v)
        logs.append(np.log(_precisions(density, split, (own, to), basis)))
    coefficients = np.linalg.pinv(monomials(steps / unit))
    size = monomials(unit[None])[0]
    slope = coefficients @ np.stack(optima) / size[:, None]
    log_rate = coefficients @ np.stack(logs) / size[:, None]
    return Anchor(u, v, slope, basis, inverse, log_det, log_rate, u, np.eye(h), 0.0)


def monomials(delta: np.ndarray) -> np.ndarray:
    """Monomials of the first and second degree: (n, H) to (n, H + H (H + 1) / 2)."""
    i, j = np.triu_indices(delta.shape[1])
    return np.concatenate([delta, delta[:, i] * delta[:, j]], axis=1)


def _design(h: int) -> np.ndarray:
    """Return points that determine a quadratic without its constant, shape (F, H)."""
    unit = np.eye(h)
    i, j = np.triu_indices(h, 1)
    return np.concatenate([unit, -unit, unit[i] + unit[j]])


def _precisions(
    density: Density, split: Split, at: tuple[np.ndarray, np.ndarray], basis: np.ndarray
) -> np.ndarray:
    """Curvatures along the directions of a basis, shape (D,), at least a small positive number."""
    u, v = at
    out = np.empty(len(v))
    here = density.logp_and_grad(split.join(u[None], v[None]))[1][0, split.rest]
    for rows in _blocks(len(v)):
        way = basis[:, rows].T
        x = split.join(np.repeat(u[None], len(rows), axis=0), v + DIFFERENCE * way)
        grad = density.logp_and_grad(x)[1][:, split.rest]
        out[rows] = np.einsum("nd,nd->n", here - grad, way) / DIFFERENCE
    return np.maximum(out, LEAST_PRECISION)


def _curvature(
    density: Density, split: Split, at: tuple[np.ndarray, np.ndarray], unit: np.ndarray
) -> np.ndarray:
    """Negative Hessian of the rest by differences, in units of the spread, shape (D, D)."""
    u, v = at
    n = len(v)
    out = np.empty((n, n))
    here = density.logp_and_grad(split.join(u[None], v[None]))[1][0, split.rest]
    for rows in _blocks(n):
        x = np.repeat(split.join(u[None], v[None]), len(rows), axis=0)
        x[np.arange(len(rows)), split.rest[rows]] += DIFFERENCE * unit[rows]
        grad = density.logp_and_grad(x)[1][:, split.rest]
        out[rows] = (here - grad) * unit / DIFFERENCE
    return 0.5 * (out + out.T)


def _blocks(n: int) -> Iterator[np.ndarray]:
    for first in range(0, n, ROWS):
        yield np.arange(first, min(first + ROWS, n))


def _factor(curvature: np.ndarray) -> np.ndarray | None:
    """Lower Cholesky factor; eigenvalues that are not positive are replaced by their size."""
    if not np.isfinite(curvature).all():
        return None
    try:
        return np.asarray(cholesky(curvature, lower=True))
    except np.linalg.LinAlgError:
        values, vectors = eigh(curvature)
        values = np.maximum(np.abs(values), LEAST_CURVATURE * np.abs(values).max())
        return np.asarray(cholesky((vectors * values) @ vectors.T, lower=True))


def _whitened(factor: np.ndarray, change: np.ndarray) -> np.ndarray:
    half = solve_triangular(factor, change, lower=True)
    out = solve_triangular(factor, half.T, lower=True)
    return np.asarray(0.5 * (out + out.T))


def _hub_mode(
    density: Density, split: Split, anchor: Anchor, spread: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Newton's method on the approximate marginal density: mode, and factor of the covariance."""
    u, length = anchor.u, np.full(len(spread), FIRST_LENGTH)
    scale = np.diag(spread * FIRST_LENGTH)
    for _ in range(HUB_STEPS):
        gradient, hessian, value = _differences(density, split, anchor, u, length * spread)
        values, vectors = np.linalg.eigh(-hessian * np.outer(spread, spread))
        values = np.clip(np.abs(values), WIDEST**-2, NARROWEST**-2)
        scale = cholesky(vectors / values @ vectors.T, lower=True) * spread[:, None]
        step = vectors @ (vectors.T @ (gradient * spread) / values) * spread
        distance = float(np.linalg.norm(solve_triangular(scale, step, lower=True)))
        step = step * min(1.0, 2.0 / max(distance, 1e-300))
        trials = u + np.array([[1.0], [0.5], [0.2], [0.05]]) * step
        logs = anchor.marginal(density, split, trials)
        settled = np.abs(np.diag(scale) / spread / length - 1.0).max() < 0.5
        best = int(np.argmax(logs))
        if logs[best] > value:
            u = trials[best]
        length = np.clip(np.linalg.norm(scale, axis=1) / spread, NARROWEST, WIDEST)
        if (distance < HUB_SETTLED or not logs[best] > value) and settled:
            break
    return u, scale


def _differences(
    density: Density, split: Split, anchor: Anchor, u: np.ndarray, length: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Gradient and Hessian of the approximate marginal density by differences, and its value."""
    h = len(u)
    i, j = np.triu_indices(h, 1)
    unit = np.diag(length)
    steps = np.concatenate([np.zeros((1, h)), unit, -unit, unit[i] + unit[j], -unit[i] - unit[j]])
    f = anchor.marginal(density, split, u + steps)
    # Outside of the support the density is as low as it is anywhere.
    f = np.where(np.isfinite(f), f, np.min(f, initial=0.0, where=np.isfinite(f)) - 1e3)
    up, down = f[1 : h + 1], f[h + 1 : 2 * h + 1]
    gradient = (up - down) / (2.0 * length)
    second = np.diag((up + down - 2.0 * f[0]) / length**2)
    plus, minus = f[2 * h + 1 :][: len(i)], f[2 * h + 1 + len(i) :]
    mixed = (plus + minus + 2.0 * f[0] - up[i] - up[j] - down[i] - down[j]) / (
        2.0 * length[i] * length[j]
    )
    second[i, j] = second[j, i] = mixed
    return gradient, second, float(f[0])
