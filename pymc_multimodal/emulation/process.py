"""Gaussian processes: regression of one smooth function on a few hundred points."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["JointProcess", "Process", "fit_process"]

# Median and spread of the prior of the log lengths, in standard deviations of the design points.
# Conventional: a function that varies over the whole design; the prior matters for coordinates
# that the function does not depend on.
LOG_LENGTH, LOG_LENGTH_SPREAD = np.log(2.0), 1.0
# Bounds of the lengths, and of the variance of the nugget relative to that of the function: its
# least value keeps the factorisation stable, its largest describes noise. Conventional.
LENGTHS, NUGGETS = (0.05, 100.0), (1e-8, 0.1)
# Iterations of a first fit, and of one that begins at the lengths of an earlier fit. Conventional.
FIRST_ITERATIONS, LATER_ITERATIONS = 60, 12


@dataclass(frozen=True, eq=False)
class Process:
    r"""A Gaussian process with the covariance :math:`s^2 (k(x, x') + \nu 1[x = x'])`.

    k is the squared exponential with one length for each coordinate (Rasmussen and Williams 2006,
    equation 5.1), and the mean is constant.

    Attributes
    ----------
    x : array of shape (n, f)
    y : array of shape (n,)
    log_lengths : array of shape (f,)
    log_nugget : float
        Log of :math:`\nu`.
    """

    x: np.ndarray
    y: np.ndarray
    log_lengths: np.ndarray
    log_nugget: float

    @cached_property
    def _scaled(self) -> np.ndarray:
        out: np.ndarray = self.x / np.exp(self.log_lengths)
        return out

    @cached_property
    def _factor(self) -> np.ndarray:
        """Lower factor of the correlations, shape (n, n)."""
        k = _correlation(self._scaled, self._scaled)
        k[np.diag_indices(len(k))] += np.exp(self.log_nugget)
        out: np.ndarray = cholesky(k, lower=True)
        return out

    @cached_property
    def inverse_factor(self) -> np.ndarray:
        """Inverse of the lower factor of the correlations, shape (n, n)."""
        out: np.ndarray = solve_triangular(self._factor, np.eye(len(self.y)), lower=True)
        return out

    @cached_property
    def coefficients(self) -> np.ndarray:
        """What the correlations of a point with the data are multiplied with, shape (n,)."""
        out: np.ndarray = cho_solve((self._factor, True), self.y - self.mean)
        return out

    @cached_property
    def mean(self) -> float:
        """The constant mean, by generalised least squares."""
        ones = cho_solve((self._factor, True), np.ones(len(self.y)))
        return float(ones @ self.y / ones.sum())

    @cached_property
    def variance(self) -> float:
        """Variance s^2 of the function, at the maximum of the likelihood."""
        return max(float((self.y - self.mean) @ self.coefficients) / len(self.y), 1e-300)

    @property
    def log_likelihood(self) -> float:
        """Log marginal likelihood of the data, but for a constant and the prior of the lengths."""
        scale = np.log(np.diag(self.inverse_factor)).sum()
        return float(scale - 0.5 * len(self.y) * np.log(self.variance))

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return means and variances of the function at points (m, f), shapes (m,) and (m,)."""
        k = _correlation(x / np.exp(self.log_lengths), self._scaled)
        rest = 1.0 - np.square(k @ self.inverse_factor.T).sum(axis=1)
        return self.mean + k @ self.coefficients, self.variance * np.maximum(rest, 0.0)

    def covariance(self, x: np.ndarray) -> np.ndarray:
        """Return the covariance of the function at points (m, f) given the data, shape (m, m)."""
        scaled = x / np.exp(self.log_lengths)
        a = _correlation(scaled, self._scaled) @ self.inverse_factor.T
        out: np.ndarray = self.variance * (_correlation(scaled, scaled) - a @ a.T)
        return out

    def left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance at each point given the others, shapes (n,) and (n,).

        Rasmussen and Williams 2006, equation 5.12.
        """
        inverse = np.square(self.inverse_factor).sum(axis=0)
        return self.y - self.coefficients / inverse, self.variance / inverse

    def with_data(self, x: np.ndarray, y: np.ndarray) -> Process:
        """Return the process with the same lengths and other data."""
        return replace(self, x=x, y=y)


class JointProcess:
    """Several processes on the same number of points, evaluated together.

    Parameters
    ----------
    processes : sequence of r Process
    """

    def __init__(self, processes: Sequence[Process]) -> None:
        self._lengths = np.exp(np.stack([p.log_lengths for p in processes]))[:, None]
        self._points = np.stack([p.x for p in processes]) / self._lengths
        self._half = 0.5 * np.square(self._points).sum(axis=2)[:, None]
        self._coefficients = np.stack([p.coefficients for p in processes])[:, :, None]
        self._inverse = np.stack([p.inverse_factor.T for p in processes])
        self._mean = np.array([p.mean for p in processes])
        self._variance = np.array([p.variance for p in processes])

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return means and variances at points (n, f), shapes (n, r) and (n, r)."""
        scaled = x / self._lengths
        k = scaled @ self._points.transpose(0, 2, 1)
        k -= 0.5 * np.square(scaled).sum(axis=2)[:, :, None]
        k -= self._half
        np.exp(np.minimum(k, 0.0, out=k), out=k)
        mean = self._mean + (k @ self._coefficients)[:, :, 0].T
        rest = 1.0 - np.square(k @ self._inverse).sum(axis=2).T
        return mean, self._variance * np.maximum(rest, 0.0)


def fit_process(x: np.ndarray, y: np.ndarray, before: Process | None = None) -> Process:
    """Fit lengths and nugget by the largest marginal likelihood.

    Parameters
    ----------
    x : array of shape (n, f)
        Points in units of their spread.
    y : array of shape (n,)
    before : Process, optional
        A fit of fewer data, where the search begins.

    Returns
    -------
    Process
    """
    f = x.shape[1]
    first = np.append(np.full(f, LOG_LENGTH), np.log(1e-6))
    if before is not None:
        first = np.append(before.log_lengths, before.log_nugget)
    bounds = [tuple(np.log(LENGTHS))] * f + [tuple(np.log(NUGGETS))]
    iterations = FIRST_ITERATIONS if before is None else LATER_ITERATIONS
    scale = float(np.std(y)) or 1.0
    found = minimize(
        _loss(x, (y - y.mean()) / scale),
        first,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": iterations},
    )
    return Process(x, y, found.x[:f], float(found.x[f]))


def _loss(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Minus the log marginal likelihood, the variance at its maximum, and the prior of lengths."""
    n, f = x.shape

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = x / np.exp(theta[:f])
        k = _correlation(scaled, scaled)
        nugget = np.exp(theta[f])
        with_nugget = k + nugget * np.eye(n)
        try:
            factor = cholesky(with_nugget, lower=True)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros(f + 1)
        inverse = cho_solve((factor, True), np.eye(n))
        alpha = inverse @ y
        variance = max(float(y @ alpha) / n, 1e-300)
        gap = (theta[:f] - LOG_LENGTH) / LOG_LENGTH_SPREAD
        value = 0.5 * n * np.log(variance) + np.log(np.diag(factor)).sum() + 0.5 * gap @ gap
        outer = inverse - np.outer(alpha, alpha) / variance
        m = outer * k
        # The sum of m times the squared differences of a coordinate.
        squares = m.sum(axis=1) @ scaled**2 - np.einsum("if,ij,jf->f", scaled, m, scaled)
        grad = np.append(squares + gap / LOG_LENGTH_SPREAD, 0.5 * nugget * np.trace(outer))
        return float(value), grad

    return loss


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared-exponential correlations of scaled points (n, f) and (m, f), shape (n, m)."""
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2.0 * (a @ b.T)
    out: np.ndarray = np.exp(-0.5 * np.maximum(squared, 0.0))
    return out
