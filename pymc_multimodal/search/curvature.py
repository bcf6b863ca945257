"""Curvature at optima, and the barriers between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.target.density import Density

__all__ = [
    "FLAT_CURVATURE",
    "barriers",
    "common_scale",
    "inverse_scale",
    "negative_hessian",
    "refined",
    "triangular",
]

# Steps of the differences in the two passes, in widths of the peak along each coordinate (in the
# first pass, in spreads of the starts). The first step is short because the spread may be 1,000
# times the width. The second balances the error of the differences, its square, against rounding.
# Tested: test_curvature_is_measured_in_any_units.
HESSIAN_STEPS = (1e-4, 3e-3)
# Factor of these steps for second differences of values, whose rounding error is divided by the
# square of the step. Tested: as above.
VALUE_STEP_FACTOR = 30
# Eigenvalues of the negative Hessian are in nats, coordinates being in spreads of the starts. A
# direction of a smaller eigenvalue does not curve: over a whole spread the log density changes by
# less than half of this. Measured: examples/benchmarks/constants.py
FLAT_CURVATURE = 1e-2
# Largest width of a direction, in spreads of the starts. Conventional: no prior mass lies further.
MAX_WIDTH = 1.0
# Steps of the bending after which a path is judged, and how many times quicker than in the last of
# them it may rise later on: a path that would not come up even so is not bent further. Measured:
# examples/benchmarks/constants.py
JUDGED_STEPS, HOPE = 4, 4.0
# Steps of differences at an optimum (standard deviations of its normal approximation), Newton steps
# at most, and the gain (nats) that ends them. Conventional: far below the errors that matter for
# the comparison of optima (`candidates.SAME_LOGP`).
REFINING_STEP, REFINING_STEPS, REFINING_GAIN = 0.1, 3, 1e-5
# Points on the path between two optima. Measured: examples/benchmarks/constants.py
PATH_POINTS = 9
# A straight path that falls by no more than this (nats) joins its ends; a path is bent until it
# does not fall by more. Conventional: the default of `ModeSearch.barrier`.
LOW_BARRIER = 1.0
# Paths that are bent in one call, those that fall least, and steps of the bending.
# Measured: examples/benchmarks/constants.py
MAX_BENT, BENDING_STEPS = 48, 40
# Part of what a limit leaves for the search that the bending may use. Conventional.
BENDING_SHARE = 0.25
# First step of the bending, in lengths of the edge, and factors of the step after a step up and
# after a step down. Conventional.
FIRST_BEND, LONGER, SHORTER = 0.1, 2.0, 4.0
# Smallest divisor, against division by zero.
TINY = 1e-300


def negative_hessian(density: Density, x: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return the negative Hessian of the log density by central differences, in two passes.

    The first pass measures the width of the peak along each coordinate; the second pass uses steps
    in proportion to these widths, whatever the units are.

    Parameters
    ----------
    density : Density
        Its gradient is used where there is one: 4 d evaluations, and ``d (d + 3) + 2`` otherwise.
    x : array of shape (d,)
    spread : array of shape (d,)
        Largest width of each coordinate.

    Returns
    -------
    array of shape (d, d)
    """
    d = density.dim
    width = spread
    hessian = np.zeros((d, d))
    for last, factor in enumerate(HESSIAN_STEPS):
        h = factor * width
        if density.has_gradient:
            steps = np.diag(h)
            _, grad = density.logp_and_grad(np.concatenate([x + steps, x - steps]))
            hessian = -(grad[:d] - grad[d:]) / (2 * h[:, None])
            hessian = 0.5 * (hessian + hessian.T)
        else:
            hessian = _hessian_from_values(density, x, VALUE_STEP_FACTOR * h, full=bool(last))
        curvature = np.diag(hessian)
        width = np.where(curvature > 1 / spread**2, 1 / np.sqrt(np.abs(curvature) + TINY), spread)
    return hessian


def _hessian_from_values(density: Density, x: np.ndarray, h: np.ndarray, full: bool) -> np.ndarray:
    """Return the negative Hessian by second differences of values; its diagonal unless `full`."""
    d = density.dim
    i, j = np.triu_indices(d, k=1)
    if not full:
        i, j = i[:0], j[:0]
    steps = np.diag(h)
    pairs = [x + steps[i] + steps[j], x - steps[i] - steps[j]]
    points = np.concatenate([x[None], x + steps, x - steps, *pairs])
    # The calls of a density without gradient are dear: workers share them.
    values = density.logp(points, chunk=1)
    centre, plus, minus = values[0], values[1 : d + 1], values[d + 1 : 2 * d + 1]
    corners = values[2 * d + 1 :].reshape(2, -1).sum(axis=0)
    with np.errstate(invalid="ignore"):
        hessian = np.diag(-(plus + minus - 2 * centre) / h**2)
        single = plus + minus
        hessian[i, j] = hessian[j, i] = -(corners - single[i] - single[j] + 2 * centre) / (
            2 * h[i] * h[j]
        )
    return np.where(np.isfinite(hessian), hessian, 0.0)


def refined(
    density: Density, x: np.ndarray, logp: float, scale: np.ndarray
) -> tuple[np.ndarray, float, float]:
    """Bring the end of a climb without gradient to the optimum, by Newton steps.

    Gradient and curvature along the columns of `scale` are central differences: a step costs
    2 d + 1 evaluations. It is taken if it leads higher.

    Parameters
    ----------
    density : Density
    x : array of shape (d,)
    logp : float
    scale : array of shape (d, d)
        Factor of the inverse negative Hessian.

    Returns
    -------
    x : array of shape (d,)
    logp : float
    gain : float
        Predicted gain of a further step (nats), one that did not lead higher; 0 at an optimum.
    """
    steps, gain = REFINING_STEP * scale.T, 0.0
    for _ in range(REFINING_STEPS):
        beside = density.logp(density.wrap(np.concatenate([x + steps, x - steps])), chunk=1)
        plus, minus = beside.reshape(2, -1)
        with np.errstate(invalid="ignore"):
            slope = (plus - minus) / (2 * REFINING_STEP)
            curvature = (2 * logp - plus - minus) / REFINING_STEP**2
        curved = np.isfinite(slope) & (curvature > 0)
        along = np.where(curved, slope / np.where(curved, curvature, 1.0), 0.0)
        gain = 0.5 * float(slope[curved] @ along[curved])
        if gain < REFINING_GAIN:
            return x, logp, 0.0
        along *= min(1.0, 1.0 / np.linalg.norm(along))
        better = density.wrap(x + scale @ along)
        height = float(density.logp(better[None])[0])
        if not height > logp:
            break
        x, logp = better, height
    return x, logp, gain


def inverse_scale(hessian: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return Cholesky factors of the inverses of negative Hessians.

    Eigenvalues are bounded below, so that no direction is wider than the spread of the starts: a
    ring or a ridge has no curvature along itself.

    Parameters
    ----------
    hessian : array of shape (K, d, d)
    spread : array of shape (d,)

    Returns
    -------
    array of shape (K, d, d)
    """
    values, vectors = np.linalg.eigh(hessian * np.outer(spread, spread))
    values = np.maximum(values, MAX_WIDTH**-2)
    root = spread[:, None] * vectors / np.sqrt(values)[:, None, :]
    return triangular(root)


def triangular(root: np.ndarray) -> np.ndarray:
    """Return Cholesky factors of ``root @ root.T``.

    The product is not formed, because that squares the condition number: 1e30 occurs.

    Parameters
    ----------
    root : array of shape (K, d, d)

    Returns
    -------
    array of shape (K, d, d)
        Lower-triangular, with positive diagonals.
    """
    factor = np.swapaxes(np.linalg.qr(np.swapaxes(root, 1, 2), mode="r"), 1, 2)
    sign = np.where(np.diagonal(factor, axis1=1, axis2=2) < 0, -1.0, 1.0)
    return factor * sign[:, None, :]


def common_scale(scale: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return coordinates in which the modes are round, in units of the spread of the starts.

    Parameters
    ----------
    scale : array of shape (K, d, d)
        Factors of the inverse negative Hessians of the modes.
    spread : array of shape (d,)

    Returns
    -------
    array of shape (d, d)
        A lower-triangular factor, but for its size, of the mean of the inverse negative Hessians;
        the diagonal matrix of `spread` if there are no modes.
    """
    if not len(scale):
        return np.diag(spread)
    # The sum of the products is not formed, because that squares the condition number.
    root = np.swapaxes(np.linalg.qr(np.concatenate(scale.swapaxes(1, 2)), mode="r"), 0, 1)
    return root / np.sqrt(np.mean(np.sum(root**2, axis=1) / spread**2))


def barriers(
    density: Density, x: np.ndarray, logp: np.ndarray, scale: np.ndarray, edges: np.ndarray
) -> np.ndarray:
    """Return how far a path between two optima has to fall below the lower one, in nats.

    The path is a straight line at first. Where that falls by more than 1 nat, its points climb at
    right angles to it, so that the path follows a curved ridge; so do the 48 lines at most that
    fall least. Near a limit of the fit there are fewer.

    Parameters
    ----------
    density : Density
    x, logp, scale : arrays of shape (n, d), (n,) and (n, d, d)
        Optima, their log densities, and factors of their inverse negative Hessians.
    edges : array of int, shape (m, 2)
        Pairs of optima.

    Returns
    -------
    array of shape (m,)
    """
    t = np.linspace(0, 1, PATH_POINTS + 2)[1:-1]
    a = x[edges[:, 0]]
    b = density.unroll(x[edges[:, 1]], a)
    lower = np.minimum(logp[edges[:, 0]], logp[edges[:, 1]])
    path = a[:, None] + t[None, :, None] * (b - a)[:, None]
    values = _logp_along(density, path)
    height = lower - values.min(axis=1)
    bent = np.flatnonzero((height > LOW_BARRIER) & np.isfinite(height))
    # A step of the bending evaluates each point twice.
    affordable = BENDING_SHARE * density.room() / (2 * PATH_POINTS * BENDING_STEPS)
    bent = bent[np.argsort(height[bent])][: int(min(MAX_BENT, affordable))]
    if not len(bent) or not density.has_gradient:
        return height
    # Squared widths of the coordinates, the mean of both ends.
    unit = 0.5 * sum(np.einsum("eij,eij->ei", scale[e], scale[e]) for e in edges[bent].T)
    points, current = _bend(density, path[bent], values[bent], (b - a)[bent], unit, lower[bent])
    # Neighbouring points may have climbed different ridges: the middle between them tells.
    chain = np.concatenate([a[bent][:, None], points, b[bent][:, None]], axis=1)
    middle = _logp_along(density, 0.5 * (chain[:, 1:] + chain[:, :-1]))
    lowest = np.minimum(current.min(axis=1), middle.min(axis=1))
    height[bent] = np.minimum(height[bent], lower[bent] - lowest)
    return height


def _logp_along(density: Density, path: np.ndarray) -> np.ndarray:
    """Return log densities of points of shape (m, p, d), shape (m, p)."""
    x = density.wrap(path.reshape(-1, density.dim))
    return density.logp(x).reshape(path.shape[:2])


def _bend(
    density: Density,
    points: np.ndarray,
    current: np.ndarray,
    tangent: np.ndarray,
    unit: np.ndarray,
    lower: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Let the points of paths climb at right angles to the straight line.

    Parameters
    ----------
    density : Density
    points, current : arrays of shape (m, p, d) and (m, p)
        Points of the paths, and their log densities.
    tangent : array of shape (m, d)
        From one end of each path to the other.
    unit : array of shape (m, d)
        Squared widths of the coordinates, by which angles are measured.
    lower : array of shape (m,)
        Log density of the lower end. A path that does not fall by more than 1 nat is finished.

    Returns
    -------
    points, current
        As above.
    """
    points, current = points.copy(), current.copy()
    normal = tangent / unit
    norm = np.einsum("ei,ei->e", tangent, normal)
    step = np.full(current.shape, np.nan)
    hopeful = np.ones(len(points), dtype=bool)
    before = current.min(axis=1)
    for i in range(BENDING_STEPS):
        gap = lower - LOW_BARRIER - current.min(axis=1)
        if i and i % JUDGED_STEPS == 0:
            left = (BENDING_STEPS - i) / JUDGED_STEPS
            hopeful &= gap < HOPE * left * (current.min(axis=1) - before)
            before = current.min(axis=1)
        on = np.flatnonzero((gap > 0) & hopeful)
        if not len(on):
            break
        _, grad = density.logp_and_grad(density.wrap(points[on].reshape(-1, density.dim)))
        move = unit[on, None] * grad.reshape(points[on].shape)
        along = np.einsum("epi,ei->ep", move, normal[on]) / norm[on, None]
        move -= along[..., None] * tangent[on, None]
        length = np.sqrt(np.einsum("epi,epi->ep", move, move / unit[on, None]))
        first = FIRST_BEND * np.sqrt(norm[on])[:, None] / np.maximum(length, TINY)
        step[on] = np.where(np.isnan(step[on]), first, step[on])
        trial = points[on] + step[on][..., None] * move
        value = _logp_along(density, trial)
        up = value > current[on]
        points[on] = np.where(up[..., None], trial, points[on])
        current[on] = np.where(up, value, current[on])
        step[on] = np.where(up, LONGER * step[on], step[on] / SHORTER)
    return points, current
