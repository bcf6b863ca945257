"""Optima many spreads of the starts away, at which climbs in units of that spread do not arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.target.density import Density

__all__ = ["DistantOptimum", "width_of_distant"]

# A coordinate is wide if its curvature is below this (nats per squared spread of the starts).
# Conventional: a step of a spread then changes the log density by less than half of this, and a
# climb may end anywhere in it.
WIDE_CURVATURE = 1e-2
# The optimum is distant if Newton's step along the wide coordinates promises more than this (nats)
# and gains at least that part of what it promises. Conventional: a point one nat below its optimum
# is none; on a quadratic function the gain is what was promised.
DISTANT_GAIN, KEPT_PROMISE = 1.0, 0.5


class DistantOptimum(Exception):
    """A climb ended on the slope of an optimum that is far away; climbs go on in longer units.

    Parameters
    ----------
    width : array of shape (d,)
        See `width_of_distant`.
    """

    def __init__(self, width: np.ndarray) -> None:
        super().__init__()
        self.width = width


def width_of_distant(
    density: Density, x: np.ndarray, logp: float, hessian: np.ndarray, spread: np.ndarray
) -> np.ndarray | None:
    """Return the widths of the coordinates where an optimum lies many spreads of the starts away.

    A climb ends where a step of the length of the spread gains next to nothing. Where all starts
    lie in a small part of the width of a mode, that may be anywhere on its slope.

    Parameters
    ----------
    density : Density
        It is evaluated where a coordinate is wide: with its gradient at `x`, and at one more point
        at most.
    x : array of shape (d,)
        The end of a climb that has converged.
    logp : float
    hessian : array of shape (d, d)
        Negative Hessian at `x`.
    spread : array of shape (d,)

    Returns
    -------
    array of shape (d,) or None
        At least the spread; None if the point is not on the slope of a distant optimum.
    """
    curvature = np.diag(hessian)
    wide = (curvature > 0) & (curvature * spread**2 < WIDE_CURVATURE)
    if not wide.any():
        return None
    # In widths of the coordinates: their units do not matter then.
    width = 1 / np.sqrt(curvature[wide])
    slope = density.logp_and_grad(x[None])[1][0][wide] * width
    correlation = hessian[np.ix_(wide, wide)] * np.outer(width, width)
    newton = np.linalg.lstsq(correlation, slope, rcond=None)[0]
    promise = 0.5 * float(slope @ newton)
    if not promise > DISTANT_GAIN:
        return None
    beyond = x.copy()
    beyond[wide] += width * newton
    if not density.logp(density.wrap(beyond[None]))[0] - logp > KEPT_PROMISE * promise:
        return None
    longest = spread.copy()
    longest[wide] = width
    return longest
