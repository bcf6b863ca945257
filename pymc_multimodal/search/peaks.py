"""Known optima as quadratic functions: a climb on one of them need not be finished."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymc_multimodal.search.optima import OptimumSet

__all__ = ["Peaks"]

# Largest difference of value and gradient from those of the quadratic function, relative to the
# fall from its summit and to the gradient. Measured: examples/benchmarks/constants.py
TOLERANCE = 0.05
# Fall from a summit up to which a point is compared: that of nearly all draws of a normal
# distribution (half a chi-squared variable, by Lemma 1 of Laurent & Massart 2000). Further out the
# widest peak hides the others, and a climb may yet turn to one of them.
LOG_SHARE = 4.0
# Difference of the values (nats) that is allowed in any case: near a summit the fall is next to
# nothing. Conventional: the tolerance of the climbs.
SMALL = 1e-5


@dataclass(frozen=True, eq=False)
class Peaks:
    r"""Quadratic functions :math:`l_k - \frac12 |L_k^{-1} (x - x_k)|^2` of known optima.

    Where value and gradient at a point are those of such a function, the climb goes on as it would
    on the function: to its summit.

    Attributes
    ----------
    x : array of shape (p, d)
        The optima.
    logp : array of shape (p,)
    scale : array of shape (p, d, d)
        Lower-triangular factors L of the inverse negative Hessians.
    unroll : callable
        ``unroll(x, centre)`` chooses the copies of circular coordinates nearest to a centre.
    """

    x: np.ndarray
    logp: np.ndarray
    scale: np.ndarray
    unroll: Callable[[np.ndarray, np.ndarray], np.ndarray]

    @classmethod
    def of(
        cls, optima: OptimumSet, unroll: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> Peaks | None:
        """Return the peaks of a set; None if there are none, or each stands for its images."""
        if not len(optima) or optima.orbits:
            return None
        return cls(optima.x, optima.logp, optima.scale, unroll)

    def below(self, x: np.ndarray, logp: np.ndarray, grad: np.ndarray) -> np.ndarray:
        """Return the optimum on whose quadratic function each point lies, or -1, shape (n,).

        Parameters
        ----------
        x, grad : arrays of shape (n, d)
            Points and gradients of the log density there.
        logp : array of shape (n,)
        """
        found = np.full(len(x), -1)
        if not len(x):
            return found
        d = x.shape[1]
        largest = 0.5 * d + np.sqrt(d * LOG_SHARE) + LOG_SHARE
        reached = (self.logp > logp.min() - SMALL) & (self.logp < logp.max() + largest)
        for k in np.flatnonzero(reached):
            near = (logp < self.logp[k] + SMALL) & (logp > self.logp[k] - largest)
            rows = np.flatnonzero((found < 0) & near)
            if not len(rows):
                continue
            step = self.unroll(x[rows], self.x[k]) - self.x[k]
            z = solve_triangular(self.scale[k], step.T, lower=True)
            fall = 0.5 * np.einsum("in,in->n", z, z)
            alike = np.abs(self.logp[k] - fall - logp[rows]) < TOLERANCE * fall + SMALL
            rows, z, fall = rows[alike], z[:, alike], fall[alike]
            if not len(rows):
                continue
            error = self.scale[k].T @ grad[rows].T + z
            same = np.einsum("in,in->n", error, error) < 2.0 * TOLERANCE**2 * fall + SMALL
            found[rows[same]] = k
        return found
