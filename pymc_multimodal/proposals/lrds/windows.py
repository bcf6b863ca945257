"""Copies of a point on circular coordinates: which one the unrolled chain ends at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pymc_multimodal.target.circle import is_circular, unroll

__all__ = ["Windows"]

# Two copies of a point that differ by less than this in every coordinate are the same copy: far
# above the rounding error of a coordinate, far below a period. Conventional.
SAME_COPY = 1e-6

LogDensity = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows on circular coordinates, one about each centre and one period wide.

    The chain runs on the unrolled line. A point of the circle has one copy in each window; copies
    in overlapping windows may coincide. Which copy a path ends at is an auxiliary variable with
    the law r(copy | point), in proportion to a density on the line. Without circular coordinates
    every point is its only copy.

    Attributes
    ----------
    centres : array of shape (C, d)
    period : array of shape (d,)
        ``inf`` for a coordinate that is not circular.
    """

    centres: np.ndarray
    period: np.ndarray

    @property
    def circular(self) -> bool:
        """Whether any coordinate is circular."""
        return bool(is_circular(self.period).any())

    def draw_copy(
        self, x: np.ndarray, log_density: LogDensity, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw a copy of each point x, shape (n, d), with its log probability, shape (n,)."""
        if not self.circular:
            return x, np.zeros(len(x))
        copies, log_share = self._copies(x, log_density)
        cumulative = np.exp(log_share).cumsum(axis=0)
        chosen = (cumulative < cumulative[-1] * rng.random(len(x))).sum(axis=0)
        rows = np.arange(len(x))
        return copies[chosen, rows], log_share[chosen, rows]

    def log_probability(self, y: np.ndarray, log_density: LogDensity) -> np.ndarray:
        """Log probability that `draw_copy` gives the copies y, shape (n, d).

        Returns
        -------
        array of shape (n,)
            ``-inf`` for a copy outside of all windows.
        """
        if not self.circular:
            return np.zeros(len(y))
        copies, log_share = self._copies(y, log_density)
        same = (np.abs(copies - y) < SAME_COPY).all(axis=2)
        return np.where(same, log_share, -np.inf).max(axis=0)

    def wrap(self, y: np.ndarray) -> np.ndarray:
        """Points of the circle, in the period about zero, of copies y of shape (n, d)."""
        return unroll(y, 0.0, self.period)

    def _copies(self, x: np.ndarray, log_density: LogDensity) -> tuple[np.ndarray, np.ndarray]:
        """List copies of points, (C, n, d), one for each centre, and log probabilities, (C, n)."""
        copies = np.stack([unroll(x, centre, self.period) for centre in self.centres])
        logs = np.stack([log_density(y) for y in copies])
        for c in range(1, len(copies)):
            repeated = (np.abs(copies[:c] - copies[c]) < SAME_COPY).all(axis=2).any(axis=0)
            logs[c, repeated] = -np.inf
        return copies, logs - np.logaddexp.reduce(logs, axis=0)
