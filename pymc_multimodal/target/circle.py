"""Coordinates that wrap: which copy of a point is meant."""

from __future__ import annotations

import numpy as np

__all__ = ["into_window", "unroll"]


def unroll(x: np.ndarray, centre: np.ndarray | float, period: np.ndarray) -> np.ndarray:
    """Choose for each circular coordinate (finite period) the copy nearest to `centre`."""
    c = np.isfinite(period)
    if not c.any():
        return x
    x = np.array(x, dtype=float)
    shift = x[..., c] - np.broadcast_to(centre, x.shape)[..., c]
    x[..., c] -= period[c] * np.round(shift / period[c])
    return x


def into_window(x: np.ndarray, centre: np.ndarray, period: np.ndarray) -> np.ndarray:
    """Wrap unrolled draws, shape (n, d); those outside the period around `centre` become NaN.

    Parameters
    ----------
    x : array of shape (n, d)
    centre, period : arrays of shape (d,)
        Middle of the window, and period of circular coordinates (``inf`` elsewhere).
    """
    c = np.isfinite(period)
    if not c.any():
        return x
    x = x.copy()
    outside = (np.abs(x[:, c] - centre[c]) > period[c] / 2).any(axis=1)
    x[:, c] -= period[c] * np.round(x[:, c] / period[c])
    x[outside] = np.nan
    return x
