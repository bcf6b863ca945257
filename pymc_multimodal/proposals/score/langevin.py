"""Langevin dynamics from given points, and the curvature that limits its step size."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Score", "largest_curvature", "run_langevin"]

Score: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""A score: points of shape (n, d) to gradients of the log density, shape (n, d)."""

# Iterations of the power method. Conventional: a dozen brings the largest eigenvalue to some
# per cent where the next one is smaller by a tenth.
POWER_ITERATIONS = 12
# Distance of two points whose scores are compared, in units of the preconditioner. Conventional:
# between rounding (1e-8) and the scale on which a curvature changes (1).
DIFFERENCE_STEP = 1e-4
# Share of the draws whose curvature the result is not below. Measured:
# examples/benchmarks/constants.py.
CURVATURE_QUANTILE = 0.95
# Least curvature, so that a step size stays finite where the score is constant. Conventional.
MIN_CURVATURE = 1e-6


def run_langevin(
    score: Score,
    z: np.ndarray,
    factors: np.ndarray,
    step: float,
    marks: Sequence[int],
    rng: np.random.Generator,
    *,
    averaged: bool = True,
) -> Iterator[np.ndarray]:
    r"""Run Langevin dynamics from given points, each with the preconditioner of its start.

    .. math:: z_{n+1} = z_n + h P s(z_n) + \sqrt{2 h} \, P^{1/2} \tfrac12 (\xi_n + \xi_{n+1})

    Parameters
    ----------
    score : callable
        The score s, ``(n, d) -> (n, d)``.
    z : array of shape (n, d)
        Starts.
    factors : array of shape (n, d, d), or (d, d) for all points
        The factors :math:`P^{1/2}`.
    step : float
        The step size h.
    marks : sequence of int
        Numbers of steps after which the points are yielded, ascending.
    rng : numpy.random.Generator
    averaged : bool
        True averages the noise over two steps (Leimkuhler and Matthews 2013), which leaves the
        spread of a Gaussian exact for every stable step. False is the Euler scheme of arXiv
        2310.01762, whose spread is too wide by ``1 / sqrt(1 - h / 2)``.

    Yields
    ------
    array of shape (n, d)
        Points after each of the `marks`; not finite where the run diverged.
    """
    z = np.array(z, dtype=float)

    def times_factor(v: np.ndarray) -> np.ndarray:
        return v @ factors.T if factors.ndim == 2 else np.einsum("nij,nj->ni", factors, v)

    def times_transposed(v: np.ndarray) -> np.ndarray:
        return v @ factors if factors.ndim == 2 else np.einsum("nji,nj->ni", factors, v)

    previous = rng.standard_normal(z.shape)
    done = 0
    for mark in marks:
        while done < mark:
            new = rng.standard_normal(z.shape)
            noise = 0.5 * (previous + new) if averaged else new
            with np.errstate(over="ignore", invalid="ignore"):
                drift = times_transposed(score(z))
                z = z + times_factor(step * drift + np.sqrt(2 * step) * noise)
            previous = new
            done += 1
        yield z


def largest_curvature(
    score: Score, z: np.ndarray, factors: np.ndarray, rng: np.random.Generator
) -> float:
    """Estimate the largest curvature of the log density at 95 % of the points.

    Langevin steps h are stable where h times the curvature is below 2. The largest eigenvalue of
    the negative Hessian at each point is found by power iteration on differences of the score.

    Parameters
    ----------
    score : callable
        ``(n, d) -> (n, d)``.
    z : array of shape (n, d)
    factors : array of shape (n, d, d)
        Factors of the preconditioner at each point.
    rng : numpy.random.Generator

    Returns
    -------
    float
        Curvature in units of the preconditioner: 1 for a Gaussian whose covariance it is. ``inf``
        where the score is finite at no point.
    """
    direction = rng.standard_normal(z.shape)
    here = score(z)
    curvature = np.ones(len(z))
    for _ in range(POWER_ITERATIONS):
        direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-300)
        there = score(z + DIFFERENCE_STEP * np.einsum("nij,nj->ni", factors, direction))
        direction = np.einsum("nji,nj->ni", factors, here - there) / DIFFERENCE_STEP
        curvature = np.linalg.norm(direction, axis=1)
    finite = curvature[np.isfinite(curvature)]
    if not len(finite):
        return np.inf
    return float(max(np.quantile(finite, CURVATURE_QUANTILE), MIN_CURVATURE))
