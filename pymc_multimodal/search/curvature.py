"""Curvature at optima, and the barriers between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.target.density import Density

__all__ = ["barriers", "common_scale", "inverse_scale", "negative_hessian", "triangular"]


def negative_hessian(density: Density, x: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Negative Hessian of the log density by central differences, in two passes.

    The first pass measures each coordinate's own scale, so that the second can use steps
    that suit it, whatever the units.
    """
    d = density.dim
    scale = spread
    hessian = np.zeros((d, d))
    for factor in (1e-4, 3e-3):
        h = factor * scale
        if density.has_gradient:
            offsets = np.diag(h)
            _, grad = density.logp_and_grad(np.concatenate([x + offsets, x - offsets]))
            hessian = -(grad[:d] - grad[d:]) / (2 * h[:, None])
            hessian = 0.5 * (hessian + hessian.T)
        else:
            hessian = _hessian_from_values(density, x, 30 * h, full=factor > 1e-3)
        curvature = np.diag(hessian)
        scale = np.where(curvature > 1 / spread**2, 1 / np.sqrt(np.abs(curvature) + 1e-300), spread)
    return hessian


def _hessian_from_values(density: Density, x: np.ndarray, h: np.ndarray, full: bool) -> np.ndarray:
    d = density.dim
    i, j = np.triu_indices(d, k=1)
    if not full:
        i, j = i[:0], j[:0]
    steps = np.diag(h)
    pairs = [x + steps[i] + steps[j], x - steps[i] - steps[j]]
    values = density.logp(np.concatenate([x[None], x + steps, x - steps, *pairs]))
    centre, plus, minus = values[0], values[1 : d + 1], values[d + 1 : 2 * d + 1]
    corners = values[2 * d + 1 :].reshape(2, -1).sum(axis=0)
    with np.errstate(invalid="ignore"):
        hessian = np.diag(-(plus + minus - 2 * centre) / h**2)
        single = plus + minus
        hessian[i, j] = hessian[j, i] = -(corners - single[i] - single[j] + 2 * centre) / (
            2 * h[i] * h[j]
        )
    return np.where(np.isfinite(hessian), hessian, 0.0)


def inverse_scale(hessian: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Cholesky factors of the inverses of negative Hessians, shape (K, d, d).

    Eigenvalues are bounded below so that no direction is wider than the starts' spread:
    a ring or a ridge has no curvature along itself.
    """
    values, vectors = np.linalg.eigh(hessian * np.outer(spread, spread))
    values = np.maximum(values, 1.0)
    root = spread[:, None] * vectors / np.sqrt(values)[:, None, :]
    return triangular(root)


def triangular(root: np.ndarray) -> np.ndarray:
    """Cholesky factors of ``root @ root.T``, shape (K, d, d).

    Condition numbers are not squared: those of 1e30 do occur.
    """
    factor = np.swapaxes(np.linalg.qr(np.swapaxes(root, 1, 2), mode="r"), 1, 2)
    sign = np.where(np.diagonal(factor, axis1=1, axis2=2) < 0, -1.0, 1.0)
    return factor * sign[:, None, :]


def common_scale(scale: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return coordinates in which the modes are round, in units of the starts' spread.

    Parameters
    ----------
    scale : array of shape (K, d, d)
        Factors of the inverse negative Hessians of the modes.
    spread : array of shape (d,)

    Returns
    -------
    array of shape (d, d)
        A lower-triangular factor, up to its size, of the mean of the inverse negative Hessians; the
        diagonal matrix of `spread` without modes.
    """
    if not len(scale):
        return np.diag(spread)
    # The factor of the sum, without squaring its condition number.
    root = np.swapaxes(np.linalg.qr(np.concatenate(scale.swapaxes(1, 2)), mode="r"), 0, 1)
    return root / np.sqrt(np.mean(np.sum(root**2, axis=1) / spread**2))


def barriers(
    density: Density,
    x: np.ndarray,
    logp: np.ndarray,
    scale: np.ndarray,
    edges: np.ndarray,
    *,
    most: int = 48,
    iterations: int = 40,
) -> np.ndarray:
    """Height of the barrier on each edge: how far a path must descend below the lower end.

    The straight segment comes first; on the `most` edges where it is least blocked its points
    then climb at right angles to it, so that a path may follow a curved ridge.

    Parameters
    ----------
    x, logp, scale : arrays of shape (n, d), (n,) and (n, d, d)
    edges : array of int, shape (m, 2)

    Returns
    -------
    array of shape (m,)
    """
    t = np.linspace(0, 1, 11)[1:-1]
    a = x[edges[:, 0]]
    b = density.unroll(x[edges[:, 1]], a)
    lower = np.minimum(logp[edges[:, 0]], logp[edges[:, 1]])
    path = a[:, None] + t[None, :, None] * (b - a)[:, None]
    values = density.logp(density.wrap(path.reshape(-1, density.dim))).reshape(len(edges), -1)
    height = lower - values.min(axis=1)
    bent = np.flatnonzero((height > 1.0) & np.isfinite(height))
    bent = bent[np.argsort(height[bent])][:most]
    if not len(bent) or not density.has_gradient:
        return height
    unit = 0.5 * sum(np.einsum("eij,eij->ei", scale[e], scale[e]) for e in edges[bent].T)
    tangent = (b - a)[bent]
    normal = tangent / unit
    norm = np.einsum("ei,ei->e", tangent, normal)
    points, current = path[bent], values[bent]
    step = np.full(current.shape, np.nan)
    for _ in range(iterations):
        on = np.flatnonzero(current.min(axis=1) < lower[bent] - 1.0)
        if not len(on):
            break
        _, grad = density.logp_and_grad(density.wrap(points[on].reshape(-1, density.dim)))
        move = unit[on, None] * grad.reshape(points[on].shape)
        along = np.einsum("epi,ei->ep", move, normal[on]) / norm[on, None]
        move -= along[..., None] * tangent[on, None]
        length = np.sqrt(np.einsum("epi,epi->ep", move, move / unit[on, None]))
        # The first step is a tenth of the edge; it doubles while the path climbs.
        begin = 0.1 * np.sqrt(norm[on])[:, None] / np.maximum(length, 1e-300)
        step[on] = np.where(np.isnan(step[on]), begin, step[on])
        trial = points[on] + step[on][..., None] * move
        value = density.logp(density.wrap(trial.reshape(-1, density.dim)))
        value = value.reshape(current[on].shape)
        up = value > current[on]
        points[on] = np.where(up[..., None], trial, points[on])
        current[on] = np.where(up, value, current[on])
        step[on] = np.where(up, 2 * step[on], step[on] / 4)
    # Neighbouring points may have climbed different ridges: look between them as well.
    chain = np.concatenate([a[bent][:, None], points, b[bent][:, None]], axis=1)
    between = 0.5 * (chain[:, 1:] + chain[:, :-1])
    middle = density.logp(density.wrap(between.reshape(-1, density.dim))).reshape(len(bent), -1)
    lowest = np.minimum(current.min(axis=1), middle.min(axis=1))
    height[bent] = np.minimum(height[bent], lower[bent] - lowest)
    return height
