r"""Climbs of the hubs' marginal density, with the rest integrated by normal approximations.

Products of the rest's negative Hessian P(u) with vectors are differences of gradients: no matrix is
formed. With the optimum :math:`\hat v(u)` of the rest, the log marginal density is

.. math:: \ell(u) = \log \gamma(u, \hat v(u)) + \tfrac D2 \log 2 \pi - \tfrac12 \log |P(u)|

(Tierney and Kadane 1986, doi:10.1080/01621459.1986.10478240). The determinant is estimated by
Lanczos' quadrature (Ubaru, Chen and Saad 2017, doi:10.1137/16M1104974) with the same few vectors
everywhere, and the gradient by Fisher's identity: it is the mean of that of
:math:`\log \gamma(u, v)` by u over normal draws of the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.conditional.lanczos import krylov

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymc_multimodal.conditional.split import Split
    from pymc_multimodal.target.density import Density

__all__ = ["Climbed", "climb_hubs", "curvature_product", "rest_optimum"]

# Length of the difference by which curvature is measured, in spreads of the starts and for a
# direction of length one: a coordinate's share of it is far smaller. Conventional: the fourth root
# of rounding.
DIFFERENCE = 1e-2
# Vectors of the quadrature, and the dimensions of the Krylov spaces for them and for Newton steps.
# Conventional.
PROBES, PROBE_STEPS, NEWTON_SPACE = 3, 32, 32
# Newton steps of the rest at most, at first and later, and the decrement (nats) that ends them.
# Conventional.
FIRST_NEWTON, LATER_NEWTON, SETTLED = 12, 4, 1e-2
# Lengths of a Newton step that are tried. Conventional.
LENGTHS = (1.0, 0.5, 0.2, 0.05, 0.01, 0.001)
# Eigenvalues of the rest's curvature count as at least so much of the largest, in units of the
# spread of the starts: no direction is much wider than the starts. Conventional.
LEAST_CURVATURE = 1e-8
# First guess of the variances of the hubs, and the longest step, in units of the spread of the
# starts. Conventional.
FIRST_VARIANCE, LONGEST = 0.03, 1.0
# Iterations of a climb, and the expected gain (nats) and the slope (nats per spread) at which it
# ends: where it is flat the expected gain is too small at first. Conventional.
ITERATIONS, SMALL_GAIN, SMALL_SLOPE = 40, 0.05, 0.5
# Factor of the variances after a step along which the function is convex. Conventional.
LONGER = 2.0
# Fall of the estimated marginal density (nats) that refuses a step, and what the step is multiplied
# by then. Conventional.
MAX_FALL, SHORTER = 0.5, 0.3


@dataclass(frozen=True, eq=False)
class Climbed:
    """Ends of climbs.

    Attributes
    ----------
    u : array of shape (n, H)
    v : array of shape (n, D)
        Optimum of the rest.
    value : array of shape (n,)
        Estimated log marginal density, up to a constant.
    """

    u: np.ndarray
    v: np.ndarray
    value: np.ndarray

    def joined(self, more: Climbed) -> Climbed:
        """Return both."""
        return Climbed(
            np.concatenate([self.u, more.u]),
            np.concatenate([self.v, more.v]),
            np.concatenate([self.value, more.value]),
        )


class _Marginal:
    """The estimated log marginal density of hubs, in units of the spread of the starts."""

    def __init__(
        self, density: Density, split: Split, spread: np.ndarray, probes: np.ndarray
    ) -> None:
        self.density, self.split, self.probes = density, split, probes
        self.u_spread, self.spread = spread[split.hubs], spread[split.rest]

    def evaluate(
        self, u: np.ndarray, v: np.ndarray, newton: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the optima of the rest, values and gradients by the hubs (per spread)."""
        v, logp = rest_optimum(self.density, self.split, (u, v), self.spread, newton)
        n, m = len(u), len(self.probes)
        every_u, every_v = np.repeat(u, m, axis=0), np.repeat(v, m, axis=0)
        product = curvature_product(self.density, self.split, (every_u, every_v), self.spread)
        space = krylov(product, np.tile(self.probes, (n, 1)), PROBE_STEPS)
        log_det = space.form(lambda a: np.log(_floored(a))).reshape(n, m).mean(axis=1)
        step = space.times(lambda a: 1.0 / np.sqrt(_floored(a))) * self.spread
        both = [self.split.join(every_u, every_v + sign * step) for sign in (1.0, -1.0)]
        logs, grad = self.density.logp_and_grad(np.concatenate(both))
        # Outside of the support there is no gradient.
        good = np.isfinite(logs).reshape(2, n, m)
        slope = grad[:, self.split.hubs].reshape(2, n, m, -1) * good[..., None]
        count = np.maximum(good.sum(axis=(0, 2)), 1)[:, None]
        value = logp - 0.5 * log_det
        return v, value, slope.sum(axis=(0, 2)) / count * self.u_spread


def climb_hubs(
    density: Density,
    split: Split,
    starts: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> Climbed:
    """Climb the marginal density of the hubs from starts, all together (BFGS).

    Parameters
    ----------
    density : Density
    split : Split
    starts : pair of arrays
        Points of shape (n, d), and the spread of each coordinate, (d,).
    rng : numpy.random.Generator

    Returns
    -------
    Climbed
        Climbs whose starts have no density are left out.
    """
    x, spread = starts
    probes = rng.standard_normal((PROBES, len(split.rest)))
    # Of the length that they have in the mean: determinants of multiples of one matrix then differ
    # by what they should.
    probes *= np.sqrt(len(split.rest)) / np.linalg.norm(probes, axis=1, keepdims=True)
    marginal = _Marginal(density, split, spread, probes)
    u, v = x[:, split.hubs], x[:, split.rest]
    v, value, slope = marginal.evaluate(u, v, FIRST_NEWTON)
    finite = np.flatnonzero(np.isfinite(value))
    u, v, value, slope = u[finite], v[finite], value[finite], slope[finite]
    n, h = u.shape
    inverse = np.tile(FIRST_VARIANCE * np.eye(h), (n, 1, 1))
    shorter, active = np.ones(n), np.arange(n)
    for _ in range(ITERATIONS):
        step = np.einsum("nij,nj->ni", inverse[active], slope[active])
        gain = 0.5 * np.einsum("ni,ni->n", step, slope[active])
        steep = np.abs(slope[active]).max(axis=1) > SMALL_SLOPE
        on = ((gain > SMALL_GAIN) | steep) & (shorter[active] > SHORTER**6)
        active, step = active[on], step[on]
        if not len(active):
            break
        length = np.linalg.norm(step, axis=1, keepdims=True)
        step *= shorter[active, None] * np.minimum(1.0, LONGEST / np.maximum(length, 1e-300))
        to = u[active] + step * marginal.u_spread
        new_v, new_value, new_slope = marginal.evaluate(to, v[active], LATER_NEWTON)
        good = new_value > value[active] - MAX_FALL
        shorter[active] = np.where(good, 1.0, shorter[active] * SHORTER)
        rows = active[good]
        change = slope[rows] - new_slope[good]
        inverse[rows] = _bfgs(inverse[rows], step[good], change)
        u[rows], v[rows] = to[good], new_v[good]
        value[rows], slope[rows] = new_value[good], new_slope[good]
    return Climbed(u, v, value)


def rest_optimum(
    density: Density,
    split: Split,
    at: tuple[np.ndarray, np.ndarray],
    spread: np.ndarray,
    steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Climb in the rest at given hubs, by Newton's method in Krylov spaces.

    Parameters
    ----------
    density : Density
    split : Split
    at : pair of arrays, shapes (n, H) and (n, D)
        Hubs, and the rest to begin with.
    spread : array of shape (D,)
        Unit of length.
    steps : int
        Newton steps at most.

    Returns
    -------
    v : array of shape (n, D)
    logp : array of shape (n,)
    """
    u, v = at[0], at[1].copy()
    logp, grad = density.logp_and_grad(split.join(u, v))
    grad = grad[:, split.rest] * spread
    active = np.flatnonzero(np.isfinite(logp))
    for _ in range(steps):
        if not len(active):
            break
        product = curvature_product(density, split, (u[active], v[active]), spread)
        space = krylov(product, grad[active], NEWTON_SPACE)
        on = 0.5 * space.form(lambda a: 1.0 / _floored(a)) > SETTLED
        active = active[on]
        step = space.times(lambda a: 1.0 / _floored(a))[on] * spread
        moved = np.zeros(len(active), dtype=bool)
        for length in LENGTHS:
            rows = np.flatnonzero(~moved)
            if not len(rows):
                break
            own = active[rows]
            to = v[own] + length * step[rows]
            new, slope = density.logp_and_grad(split.join(u[own], to))
            better = new > logp[own]
            v[own[better]], logp[own[better]] = to[better], new[better]
            grad[own[better]] = slope[better][:, split.rest] * spread
            moved[rows[better]] = True
        active = active[moved]
    return v, logp


def curvature_product(
    density: Density,
    split: Split,
    at: tuple[np.ndarray, np.ndarray],
    spread: np.ndarray,
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the products of the rest's negative Hessians at n points with a vector each.

    Parameters
    ----------
    density : Density
    split : Split
    at : pair of arrays, shapes (n, H) and (n, D)
    spread : array of shape (D,)
        Unit of length.
    """
    u, v = at

    def product(w: np.ndarray) -> np.ndarray:
        step = DIFFERENCE * w * spread
        x = np.concatenate([split.join(u, v + step), split.join(u, v - step)])
        _, grad = density.logp_and_grad(x)
        up, down = grad[: len(w), split.rest], grad[len(w) :, split.rest]
        out: np.ndarray = (down - up) * spread / (2.0 * DIFFERENCE)
        return out

    return product


def _floored(values: np.ndarray) -> np.ndarray:
    """Absolute values, at least a small part of the largest: no direction is without an end."""
    size = np.abs(values)
    out: np.ndarray = np.maximum(size, LEAST_CURVATURE * size.max(axis=-1, keepdims=True) + 1e-300)
    return out


def _bfgs(inverse: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Update inverse Hessians of the negative function where the curvature is positive."""
    out = inverse.copy()
    along = np.einsum("ni,ni->n", step, change)
    concave = along > 1e-8 * np.linalg.norm(step, axis=1)
    out[~concave] *= LONGER
    for i in np.flatnonzero(concave):
        y, s, r = change[i], step[i], along[i]
        left = np.eye(len(s)) - np.outer(s, y) / r
        out[i] = left @ inverse[i] @ left.T + np.outer(s, s) / r
    return out
