"""Quadratic functions that are fitted to log densities at points near an optimum."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Evaluated", "QuadraticFit", "fit_quadratic", "n_coefficients", "widest_fall"]

# Points for each coefficient of the first fit, and the factor by which their number grows as long
# as the function describes the points that are added. Measured on prototypes.
POINTS_PER_COEFFICIENT, GROWTH = 1.4, 1.3
# Passes of the first fit: each chooses the nearest points in the metric of the last one.
# Conventional.
PASSES = 3
# Errors at points that were held out, relative to the fall from the summit, and to the deepest fall
# among the points (1 nat at most): root mean square. Conventional: a curvature that errs by a tenth
# changes the width of a mode by a twentieth.
RELATIVE_ERROR, COMMON_ERROR, MAX_COMMON_FALL = 0.1, 0.02, 1.0
# Eigenvalues of the curvature (nats per squared spread) below this, and pivots of the design
# relative to the largest, are none. Conventional: see `curvature.FLAT_CURVATURE`.
LEAST_CURVATURE, LEAST_PIVOT = 1e-2, 1e-8
# Fall that nearly all draws of a normal have less of: see `peaks.LOG_SHARE`.
LOG_SHARE = 4.0
# Largest ratio of an error to what is allowed: its square is finite.
FAR_OFF = 1e6
# Smallest divisor, against division by zero.
TINY = 1e-300


@dataclass(frozen=True)
class Evaluated:
    """Points whose log density is known.

    Attributes
    ----------
    x : array of shape (n, d)
    logp : array of shape (n,)
    """

    x: np.ndarray
    logp: np.ndarray

    def __len__(self) -> int:
        return len(self.logp)

    @classmethod
    def nothing(cls, d: int) -> Evaluated:
        """Return no points."""
        return cls(np.empty((0, d)), np.empty(0))

    def joined(self, other: Evaluated) -> Evaluated:
        """Return the points of both."""
        return Evaluated(np.concatenate([self.x, other.x]), np.concatenate([self.logp, other.logp]))

    def since(self, n: int) -> Evaluated:
        """Return the points after the first n."""
        return Evaluated(self.x[n:], self.logp[n:])


@dataclass(frozen=True)
class QuadraticFit:
    """A quadratic function with a maximum.

    Attributes
    ----------
    x : array of shape (d,)
        Where it is highest.
    logp : float
        Its maximum.
    hessian : array of shape (d, d)
        Its negative Hessian.
    error : float
        Root mean square of the errors at points that were held out, relative to what is allowed.
    """

    x: np.ndarray
    logp: float
    hessian: np.ndarray
    error: float


def n_coefficients(d: int) -> int:
    """Return the number of coefficients of a quadratic function in d dimensions."""
    return (d + 1) * (d + 2) // 2


def widest_fall(d: int) -> float:
    """Return the fall (nats) below the summit that few draws of a normal exceed."""
    return float(0.5 * d + np.sqrt(d * LOG_SHARE) + LOG_SHARE)


def fit_quadratic(
    known: Evaluated,
    centre: np.ndarray,
    height: float,
    spread: np.ndarray,
    unroll: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> QuadraticFit | None:
    """Fit a quadratic function to the points nearest to an optimum.

    The first fit takes 1.4 points for each coefficient; by leaving each of them out in turn it is
    known whether the function describes the log density. As long as it also predicts the next
    points, these are added.

    Parameters
    ----------
    known : Evaluated
    centre : array of shape (d,)
        The highest point near the optimum.
    height : float
        Its log density. Points that few draws of a normal would lie below are left out.
    spread : array of shape (d,)
        Unit of length of each coordinate, and its largest width.
    unroll : callable
        ``unroll(x, centre)`` chooses the copies of circular coordinates nearest to a centre.

    Returns
    -------
    QuadraticFit or None
        None if there are too few points, if they are not described, or if there is no maximum
        among them.
    """
    d = len(spread)
    least = int(np.ceil(POINTS_PER_COEFFICIENT * n_coefficients(d)))
    rows = np.flatnonzero(known.logp > height - widest_fall(d))
    if len(rows) < least:
        return None
    z, value = (unroll(known.x[rows], centre) - centre) / spread, known.logp[rows]
    metric, order = np.eye(d), np.empty(0, dtype=int)
    for _ in range(PASSES):
        last = order
        squared = np.einsum("ni,ni->n", z @ metric, z)
        order = np.argsort(squared, kind="stable")
        if np.array_equal(order[:least], last[:least]):
            break
        first = _Quadratic.through(z[order[:least]], value[order[:least]])
        if first is None:
            return None
        metric = first.metric()
    if first is None or first.own_error() > 1.0:
        return None
    fit, n = first, least
    while n < len(order):
        more = order[n : max(n + 1, int(GROWTH * n))]
        if fit.error_at(z[more], value[more]) > 1.0:
            break
        n += len(more)
        longer = _Quadratic.through(z[order[:n]], value[order[:n]])
        if longer is None:
            break
        fit = longer
    return fit.summit(centre, spread)


@cache
def _pairs(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of coordinates."""
    return np.triu_indices(d)


@dataclass(frozen=True)
class _Quadratic:
    """A least-squares fit, in spreads of the starts from the centre.

    Attributes
    ----------
    z, value : arrays of shape (n, d) and (n,)
        The points.
    left_out : array of shape (n,)
        Error of the prediction of each point by the others.
    constant, slope, hessian : float and arrays of shape (d,) and (d, d)
        The function is ``constant + slope @ z - z @ hessian @ z / 2``.
    """

    z: np.ndarray
    value: np.ndarray
    left_out: np.ndarray
    constant: float
    slope: np.ndarray
    hessian: np.ndarray

    @classmethod
    def through(cls, z: np.ndarray, value: np.ndarray) -> _Quadratic | None:
        """Fit the function to points; None if they do not determine it."""
        n, d = z.shape
        scale = np.maximum(np.abs(z).max(axis=0), TINY)
        u, (i, j) = z / scale, _pairs(d)
        design = np.concatenate([np.ones((n, 1)), u, u[:, i] * u[:, j]], axis=1)
        basis, triangle = np.linalg.qr(design)
        size = np.abs(np.diagonal(triangle))
        if size.min() < LEAST_PIVOT * size.max():
            return None
        top = value.max()
        projected = basis.T @ (value - top)
        coefficient = solve_triangular(triangle, projected)
        leverage = np.einsum("np,np->n", basis, basis)
        residual = value - top - basis @ projected
        hessian = np.zeros((d, d))
        hessian[i, j] = -coefficient[d + 1 :]
        hessian = (hessian + hessian.T) / np.outer(scale, scale)
        return cls(
            z,
            value,
            residual / np.maximum(1.0 - leverage, TINY),
            float(coefficient[0] + top),
            coefficient[1 : d + 1] / scale,
            hessian,
        )

    def metric(self) -> np.ndarray:
        """Return the curvature, with eigenvalues that are at least 1: no mode is wider."""
        values, vectors = np.linalg.eigh(self.hessian)
        out: np.ndarray = (vectors * np.maximum(values, 1.0)) @ vectors.T
        return out

    def predict(self, z: np.ndarray) -> np.ndarray:
        """Return the function at points."""
        out: np.ndarray = (
            self.constant + z @ self.slope - 0.5 * np.einsum("ni,ni->n", z @ self.hessian, z)
        )
        return out

    def own_error(self) -> float:
        """Return the error of the prediction of each point by the others, relative as below."""
        return self._relative(self.left_out, self.value)

    def error_at(self, z: np.ndarray, value: np.ndarray) -> float:
        """Return the error at other points, relative to what is allowed: root mean square."""
        return self._relative(value - self.predict(z), value)

    def _relative(self, error: np.ndarray, value: np.ndarray) -> float:
        top = self.value.max()
        common = min(MAX_COMMON_FALL, float(top - self.value.min()))
        allowed = RELATIVE_ERROR * np.maximum(top - value, 0.0) + COMMON_ERROR * common
        ratio = np.minimum(np.abs(error) / np.maximum(allowed, TINY), FAR_OFF)
        return float(np.sqrt(np.mean(ratio**2)))

    def summit(self, centre: np.ndarray, spread: np.ndarray) -> QuadraticFit | None:
        """Return the function in the coordinates of the density, if it has a maximum nearby."""
        values, vectors = np.linalg.eigh(self.hessian)
        if values[0] < LEAST_CURVATURE:
            return None
        along = vectors.T @ self.slope
        step = vectors @ (along / values)
        metric = self.metric()
        reach = np.einsum("ni,ni->n", self.z @ metric, self.z).max()
        if step @ metric @ step > reach:
            return None
        return QuadraticFit(
            centre + spread * step,
            self.constant + 0.5 * float(along @ (along / values)),
            self.hessian / np.outer(spread, spread),
            self.own_error(),
        )
