"""Gaussian processes: regression of smooth functions on a few hundred points."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.blas import dtrmm
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.optimize import minimize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Process", "fit_process", "share_lengths"]

# Median and spread of the prior of the log lengths, in standard deviations of the design points.
# Conventional: a function that varies over the whole design; the prior matters for coordinates
# that the function does not depend on.
LOG_LENGTH, LOG_LENGTH_SPREAD = np.log(2.0), 1.0
# Bounds of the lengths, and of the variance of the nugget relative to that of the function: its
# least value keeps the factorisation stable, its largest describes noise. Conventional.
LENGTHS, NUGGETS = (0.05, 100.0), (1e-8, 0.1)
# Iterations of a first fit, and of one that begins at the lengths of an earlier fit. Conventional.
FIRST_ITERATIONS, LATER_ITERATIONS = 60, 12
# Points at most to which lengths are fitted, evenly spaced among all: each step takes a time in
# proportion to their third power. Conventional.
LENGTH_POINTS = 1200
# Log likelihood of a point that common lengths may cost a function, on average: about the rise of
# the log of the prediction's error. Measured: examples/benchmarks/simulators.py
SHARING_LOSS = 0.1
# Length from which on a coordinate hardly matters, in standard deviations. Conventional.
LONG_LENGTH = 10.0


@dataclass(frozen=True, eq=False)
class Process:
    r"""Gaussian processes with the covariances :math:`s_j^2 (k(x, x') + \nu 1[x = x'])`.

    k is the squared exponential with one length for each coordinate (Rasmussen and Williams 2006,
    equation 5.1). It is the same for all r functions; each has a variance and a constant mean of
    its own.

    Attributes
    ----------
    x : array of shape (n, f)
    y : array of shape (n, r)
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
    def _inverse_factor(self) -> np.ndarray:
        """Inverse of the lower factor of the correlations, shape (n, n), by columns."""
        return np.asfortranarray(solve_triangular(self._factor, np.eye(len(self.y)), lower=True))

    @cached_property
    def coefficients(self) -> np.ndarray:
        """What the correlations of a point with the data are multiplied with, shape (n, r)."""
        out: np.ndarray = cho_solve((self._factor, True), self.y - self.mean)
        return out

    @cached_property
    def mean(self) -> np.ndarray:
        """The constant means, by generalised least squares, shape (r,)."""
        ones = cho_solve((self._factor, True), np.ones(len(self.y)))
        out: np.ndarray = ones @ self.y / ones.sum()
        return out

    @cached_property
    def variance(self) -> np.ndarray:
        """Variances s^2 of the functions, at the maximum of the likelihood, shape (r,)."""
        squares = np.sum((self.y - self.mean) * self.coefficients, axis=0)
        return np.maximum(squares / len(self.y), 1e-300)

    @property
    def log_likelihood(self) -> np.ndarray:
        """Log marginal likelihoods of the functions, shape (r,).

        They lack a constant and the prior of the lengths.
        """
        scale = np.log(np.diag(self._factor)).sum()
        out: np.ndarray = -scale - 0.5 * len(self.y) * np.log(self.variance)
        return out

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return means and variances of the functions at points (m, f), shapes (m, r), (m, r)."""
        k = _correlation(x / np.exp(self.log_lengths), self._scaled)
        mean = self.mean + k @ self.coefficients
        rest = 1.0 - np.square(self._whitened(k)).sum(axis=0)
        return mean, np.maximum(rest, 0.0)[:, None] * self.variance

    def correlation(self, x: np.ndarray) -> np.ndarray:
        """Return the covariance at points (m, f) given the data, in units of s^2, shape (m, m)."""
        scaled = x / np.exp(self.log_lengths)
        a = self._whitened(_correlation(scaled, self._scaled))
        out: np.ndarray = _correlation(scaled, scaled) - a.T @ a
        return out

    def _whitened(self, k: np.ndarray) -> np.ndarray:
        """Correlations (m, n) with the data as those with independent variables, shape (n, m).

        The array k may be overwritten. The product with a triangle takes half of the time.
        """
        out: np.ndarray = dtrmm(1.0, self._inverse_factor, k.T, lower=1, overwrite_b=1)
        return out

    def left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Return means and variances at each point given the others, shapes (n, r) and (n, r).

        Rasmussen and Williams 2006, equation 5.12.
        """
        inverse = np.square(self._inverse_factor).sum(axis=0)[:, None]
        return self.y - self.coefficients / inverse, self.variance / inverse

    def with_data(self, x: np.ndarray, y: np.ndarray) -> Process:
        """Return the process with the same lengths and other data."""
        return replace(self, x=x, y=y)


def fit_process(x: np.ndarray, y: np.ndarray, before: Process | None = None) -> Process:
    """Fit lengths and nugget by the largest marginal likelihood.

    Parameters
    ----------
    x : array of shape (n, f)
        Points in units of their spread.
    y : array of shape (n, r)
        Functions that have the same lengths.
    before : Process, optional
        A fit of fewer data, where the search begins.

    Returns
    -------
    Process
    """
    f, n = x.shape[1], min(len(x), LENGTH_POINTS)
    rows = np.linspace(0, len(x), n, endpoint=False).astype(int)
    first = np.append(np.full(f, LOG_LENGTH), np.log(1e-6))
    if before is not None:
        first = np.append(before.log_lengths, before.log_nugget)
    bounds = [tuple(np.log(LENGTHS))] * f + [tuple(np.log(NUGGETS))]
    iterations = FIRST_ITERATIONS if before is None else LATER_ITERATIONS
    known, spread = y[rows], y[rows].std(axis=0)
    found = minimize(
        _loss(x[rows], (known - known.mean(axis=0)) / np.where(spread > 0, spread, 1.0)),
        first,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": iterations},
    )
    return Process(x, y, found.x[:f], float(found.x[f]))


def share_lengths(fitted: Sequence[Process]) -> list[tuple[np.ndarray, Process]]:
    """Divide functions into groups that can have the same lengths.

    Parameters
    ----------
    fitted : sequence of Process
        Of one function each, at the same points.

    Returns
    -------
    list of tuple
        Numbers of the functions of each group, and their process. Common lengths cost a function
        no more than `SHARING_LOSS` nats a point on average.
    """
    lengths = np.stack([p.log_lengths for p in fitted])
    # Coordinates that a function does not depend on have long lengths, of which none matters.
    lengths = np.minimum(lengths, np.log(LONG_LENGTH))
    out: list[tuple[np.ndarray, Process]] = []
    left = [np.arange(len(fitted))]
    while left:
        group = left.pop()
        own = [fitted[int(i)] for i in group]
        together = _fit_together(own)
        alone = np.concatenate([p.log_likelihood for p in own])
        lost = float(np.mean(alone - together.log_likelihood)) / len(together.x)
        if len(group) == 1 or lost <= SHARING_LOSS:
            out.append((group, together))
        else:
            left += _halves(group, lengths[group])
    return sorted(out, key=lambda part: int(part[0][0]))


def _fit_together(fitted: Sequence[Process]) -> Process:
    """Fit common lengths; the search begins at the median of those of each alone."""
    if len(fitted) == 1:
        return fitted[0]
    lengths = np.median([p.log_lengths for p in fitted], axis=0)
    nugget = float(np.median([p.log_nugget for p in fitted]))
    begun = replace(fitted[0], log_lengths=lengths, log_nugget=nugget)
    return fit_process(begun.x, np.concatenate([p.y for p in fitted], axis=1), begun)


def _halves(group: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """Divide a group at the largest gap along the direction in which lengths vary most."""
    centred = lengths - lengths.mean(axis=0)
    along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    order = np.argsort(along, kind="stable")
    at = int(np.argmax(np.diff(along[order]))) + 1
    return [np.sort(group[order[:at]]), np.sort(group[order[at:]])]


def _loss(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Minus the log marginal likelihood, variances at their maxima, and the prior of lengths."""
    (n, f), r = x.shape, y.shape[1]
    diagonal = np.diag_indices(n)

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = x / np.exp(theta[:f])
        k = _correlation(scaled, scaled)
        nugget = np.exp(theta[f])
        noisy = k.copy()
        noisy[diagonal] += nugget
        # Symmetric, so that its transpose is the array by columns that LAPACK asks for.
        factor, failed = dpotrf(noisy.T, lower=1, overwrite_a=1)
        if failed:
            return 1e10, np.zeros(f + 1)
        log_root = np.log(factor[diagonal]).sum()
        lower = np.tril(dpotri(factor, lower=1, overwrite_c=1)[0])
        inverse = lower + lower.T
        inverse[diagonal] *= 0.5
        weights = inverse.sum(axis=0)
        rest = y - weights @ y / weights.sum()
        alpha = inverse @ rest
        variance = np.maximum(np.sum(rest * alpha, axis=0) / n, 1e-300)
        gap = (theta[:f] - LOG_LENGTH) / LOG_LENGTH_SPREAD
        value = 0.5 * n * np.log(variance).sum() + r * log_root
        outer = r * inverse - (alpha / variance) @ alpha.T
        m = outer * k
        # The sum of m times the squared differences of a coordinate.
        squares = m.sum(axis=1) @ scaled**2 - np.sum(scaled * (m @ scaled), axis=0)
        grad = np.append(squares + gap / LOG_LENGTH_SPREAD, 0.5 * nugget * np.trace(outer))
        return float(value + 0.5 * gap @ gap), grad

    return loss


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared-exponential correlations of scaled points (n, f) and (m, f), shape (n, m)."""
    out: np.ndarray = a @ b.T
    out -= 0.5 * np.square(a).sum(axis=1)[:, None]
    out -= 0.5 * np.square(b).sum(axis=1)
    return np.exp(np.minimum(out, 0.0, out=out), out=out)
