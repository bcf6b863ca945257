"""Coordinates of which some depend on others: a triangular map to coordinates that do not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import CubicSpline

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Dependence", "TriangularMap"]


@dataclass(frozen=True, eq=False)
class Dependence:
    """How coordinates depend on another one, their source.

    Between the knots shifts and logarithms of scales are cubic splines; beyond, they are those at
    the first or the last knot.

    Attributes
    ----------
    source : int
        The coordinate on which others depend.
    others : array of int, shape (k,)
        These coordinates.
    knots : array of shape (m,)
        Values of the source, in increasing order; at least two.
    shifts, log_scales : arrays of shape (m, k)
        What is added to each of the others, and the logarithm of its scale, at the knots.
    """

    source: int
    others: np.ndarray
    knots: np.ndarray
    shifts: np.ndarray
    log_scales: np.ndarray

    @cached_property
    def _splines(self) -> CubicSpline:
        return CubicSpline(self.knots, np.stack([self.shifts, self.log_scales], axis=1))

    def at(self, y: np.ndarray) -> np.ndarray:
        """Shifts and log scales where the source has the values y (n,), shape (n, 2, k)."""
        out: np.ndarray = self._splines(np.clip(y, self.knots[0], self.knots[-1]))
        return out

    def slopes(self, y: np.ndarray) -> np.ndarray:
        """Return the derivatives of `at` by the source, shape (n, 2, k)."""
        inside = (y > self.knots[0]) & (y < self.knots[-1])
        out: np.ndarray = np.where(inside[:, None, None], self._splines(y, 1), 0.0)
        return out


@dataclass(frozen=True, eq=False)
class TriangularMap:
    r"""The map from z to y with :math:`y_j = s_j + e^{t_j} z_j`.

    The shift :math:`s_j` and the log scale :math:`t_j` are sums of functions of single other
    coordinates of y, of which none depends on itself by way of others (a Knothe-Rosenblatt map;
    Marzouk et al. 2016, doi:10.1007/978-3-319-11259-6_23-1).

    Attributes
    ----------
    dim : int
        Number d of coordinates.
    dependences : tuple of Dependence
        One for each source; every source comes after those that it depends on.
    """

    dim: int
    dependences: tuple[Dependence, ...]

    def forward(self, z: np.ndarray) -> np.ndarray:
        """Points y of points z, shape (n, d)."""
        shift, log_scale = self._sums(z, mapped=False)
        out: np.ndarray = shift + np.exp(log_scale) * z
        return out

    def inverse(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points z of points y (n, d), and the sums of the log scales, shape (n,).

        The log density of y is that of z minus this sum.
        """
        shift, log_scale = self._sums(y, mapped=True)
        return (y - shift) * np.exp(-log_scale), log_scale.sum(axis=1)

    def pull_back(
        self, y: np.ndarray, score_of_z: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Gradient of the log density at y (n, d), by that of z's density, shape (n, d)."""
        shift, log_scale = self._sums(y, mapped=True)
        shrink = np.exp(-log_scale)
        z = (y - shift) * shrink
        score = score_of_z(z)
        out = score * shrink
        for one in self.dependences:
            by_shift, by_scale = one.slopes(y[:, one.source]).swapaxes(0, 1)
            j = one.others
            out[:, one.source] -= np.sum(score[:, j] * shrink[:, j] * by_shift, axis=1)
            out[:, one.source] -= np.sum((score[:, j] * z[:, j] + 1.0) * by_scale, axis=1)
        return out

    def _sums(self, x: np.ndarray, *, mapped: bool) -> tuple[np.ndarray, np.ndarray]:
        """Shifts and log scales at points y, if they are mapped, or z; each of shape (n, d)."""
        shift, log_scale = np.zeros_like(x), np.zeros_like(x)
        for one in self.dependences:
            i = one.source
            more = one.at(x[:, i] if mapped else shift[:, i] + np.exp(log_scale[:, i]) * x[:, i])
            shift[:, one.others] += more[:, 0]
            log_scale[:, one.others] += more[:, 1]
        return shift, log_scale
