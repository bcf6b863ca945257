"""Circular coordinates: which copy of a point is meant.

A coordinate of finite period wraps: x and x + period are one point. A coordinate of infinite period
lies on a line, and every function here leaves it as it is.
"""

from __future__ import annotations

import numpy as np

__all__ = ["displacement", "into_window", "is_circular", "unroll", "wrap"]


def is_circular(period: np.ndarray) -> np.ndarray:
    """Tell which coordinates wrap.

    Parameters
    ----------
    period : array of shape (d,)
        Period of each coordinate; ``inf`` for a coordinate on a line.

    Returns
    -------
    array of bool, shape (d,)
    """
    return np.isfinite(period)


def unroll(x: np.ndarray, centre: np.ndarray | float, period: np.ndarray) -> np.ndarray:
    """Choose for each circular coordinate the copy nearest to a centre.

    Parameters
    ----------
    x : array of shape (..., d)
    centre : float or array that broadcasts to the shape of `x`
    period : array of shape (d,)

    Returns
    -------
    array of shape (..., d)
        `x` itself where no coordinate is circular, otherwise a copy.
    """
    circular = is_circular(period)
    if not circular.any():
        return x
    x = np.array(x, dtype=float)
    shift = x[..., circular] - np.broadcast_to(centre, x.shape)[..., circular]
    x[..., circular] -= period[circular] * np.round(shift / period[circular])
    return x


def wrap(x: np.ndarray, period: np.ndarray) -> np.ndarray:
    """Bring circular coordinates into the period around zero, ``[-period / 2, period / 2]``.

    Parameters
    ----------
    x : array of shape (..., d)
    period : array of shape (d,)

    Returns
    -------
    array of shape (..., d)
    """
    return unroll(x, 0.0, period)


def displacement(x: np.ndarray, centre: np.ndarray | float, period: np.ndarray) -> np.ndarray:
    """Compute the shortest step from a centre to each point.

    Parameters
    ----------
    x : array of shape (..., d)
    centre : float or array that broadcasts to the shape of `x`
    period : array of shape (d,)

    Returns
    -------
    array of shape (..., d)
        At most half a period long in each circular coordinate.
    """
    return unroll(x, centre, period) - centre


def into_window(x: np.ndarray, centre: np.ndarray, period: np.ndarray) -> np.ndarray:
    """Wrap points of a density that lives on one period around a centre.

    Parameters
    ----------
    x : array of shape (n, d)
        Points that are not wrapped.
    centre, period : arrays of shape (d,)

    Returns
    -------
    array of shape (n, d)
        The points in the period around zero. A row outside of the period around `centre` becomes
        NaN: the density is zero there.
    """
    circular = is_circular(period)
    if not circular.any():
        return x
    distance = np.abs(x[:, circular] - centre[circular])
    outside = (distance > period[circular] / 2).any(axis=1)
    x = wrap(x, period)
    x[outside] = np.nan
    return x
