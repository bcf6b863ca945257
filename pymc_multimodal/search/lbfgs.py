"""L-BFGS from many starts at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pymc_multimodal.status import LimitReached

if TYPE_CHECKING:
    from pymc_multimodal.search.peaks import Peaks
    from pymc_multimodal.search.quadratic import Evaluated

__all__ = ["Climbs", "Differentiable", "climb"]

# Correction pairs. Conventional: Nocedal & Wright (2006), section 7.2, recommend 3 to 20.
MEMORY = 10
# A climb ends when its predicted gain falls below this (nats). Conventional: far below the
# differences of log densities that matter (1 nat), far above rounding errors.
TOLERANCE = 1e-5
# Climbs that are finished, the highest ones, after a limit of the fit.
# Measured: examples/benchmarks/constants.py
FINISHED_CLIMBS = 8
# Longest step (spreads of the starts, for each square root of a dimension): a longer one may leap
# over basins. Measured: examples/benchmarks/constants.py
MAX_STEP = 0.5
# Length of the first step (spreads of the starts). Conventional: short, because nothing is known
# of the curvature yet.
FIRST_STEP = 0.1
# Line searches without a higher point after which a climb ends, and the squared norm of the
# gradient (nats per spread, squared) below which such a climb has converged.
# Measured: examples/benchmarks/constants.py
MAX_FAILURES, STUCK_GRADIENT = 2, 1e-4
# A climb ends, without an optimum, when it has gained less than so many nats in so many iterations.
# Conventional: what is won by more is far below any error that matters.
STALLED_ITERATIONS, STALLED_GAIN = 20, 1e-6
# A pair is used if the cosine between its step and its change of gradient is larger than this.
# Conventional: Nocedal & Wright (2006), section 7.2, ask for positive curvature.
MIN_COSINE = 1e-10
# Share of the linear prediction that a step has to gain (Armijo; Nocedal & Wright 2006, section
# 3.1), trials of a line search (conventional), and bounds of the factor by which a trial is
# shortened (Dennis & Schnabel 1983, section 6.3.2).
ARMIJO, MAX_TRIALS, MIN_FACTOR, MAX_FACTOR = 1e-4, 25, 0.1, 0.5
# Iterations after which the points of a climb are kept. Conventional.
PATH_ITERATIONS = (1, 2, 4, 8, 16, 32, 64)
# Smallest divisor, against division by zero.
TINY = 1e-300


class Differentiable(Protocol):
    """A log density with a gradient: a `Density`, or one with a gradient by differences."""

    def exhausted(self) -> bool:
        """Tell whether a limit of the fit under way is reached."""
        ...

    def wrap(self, x: np.ndarray) -> np.ndarray:
        """Bring circular coordinates into one period around zero."""
        ...

    def logp_and_grad(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log density, shape (n,), and gradient, shape (n, d), of each row."""
        ...


@dataclass(frozen=True)
class Climbs:
    """Ends and paths of climbs from n starts.

    Attributes
    ----------
    x, logp : arrays of shape (n, d) and (n,)
        Where each climb ended, and the log density there; -inf if it is not known.
    path, path_row : arrays of shape (m, d) and (m,)
        Some of the points passed on the way, and the climb that passed each.
    converged : array of bool, shape (n,)
    cut_off : array of bool, shape (n,)
        Whether a limit of the fit ended the climb.
    peak : array of int, shape (n,)
        Known optimum on whose quadratic function the climb has come, or -1: such a climb was not
        finished.
    evaluated : Evaluated or None
        Every point, where these are kept.
    leader : array of int, shape (n,), or None
        For each climb the one at whose end it would have arrived: itself, if it was finished.
    """

    x: np.ndarray
    logp: np.ndarray
    path: np.ndarray
    path_row: np.ndarray
    converged: np.ndarray
    cut_off: np.ndarray
    peak: np.ndarray
    evaluated: Evaluated | None = None
    leader: np.ndarray | None = None


def climb(
    density: Differentiable,
    starts: np.ndarray,
    spread: np.ndarray,
    *,
    memory: int = MEMORY,
    max_iter: int = 300,
    peaks: Peaks | None = None,
) -> Climbs:
    """Maximise the log density from every start by L-BFGS, all starts in one batch.

    Near a limit of the fit only the highest climbs go on. Where evaluations are refused, all end.

    One batched evaluation serves all starts that still climb. Where evaluations are cheap this is
    quicker than a loop over a library's optimiser; where they are dear, workers share them.
    L-BFGS is Algorithm 7.5 of Nocedal & Wright (2006, Numerical Optimization, 2nd edition) with a
    backtracking line search.

    Parameters
    ----------
    density : Differentiable
    starts : array of shape (n, d)
    spread : array of shape (d,)
        Unit of length of each coordinate.
    memory : int
        Number of correction pairs; with 0 it is gradient ascent.
    max_iter : int
    peaks : Peaks, optional
        Known optima.

    Returns
    -------
    Climbs
    """
    n, d = starts.shape
    z = starts / spread
    cut_off = np.zeros(n, dtype=bool)
    try:
        value, grad = _evaluate(density, z, spread)
    except LimitReached:
        nothing, none = np.full(n, -np.inf), np.zeros(n, dtype=bool)
        unknown = np.full(n, -1)
        return Climbs(starts, nothing, starts[:0], np.empty(0, dtype=int), none, ~none, unknown)
    pairs = _Pairs.empty(memory, n, d)
    converged, active = np.zeros(n, dtype=bool), np.isfinite(value)
    peak = np.full(n, -1)
    if peaks is not None:
        peak[active] = peaks.below(starts[active], value[active], grad[active] / spread)
        active &= peak < 0
    path, path_row = [starts[active]], [np.flatnonzero(active)]
    failures, before = np.zeros(n, dtype=int), np.full(n, -np.inf)
    for iteration in range(max_iter):
        if iteration % STALLED_ITERATIONS == 0:
            # A climb to a step of the density creeps: its gradient does not fall.
            stalled = active & (value < before + STALLED_GAIN)
            active &= ~stalled
            before = value.copy()
        if density.exhausted():
            # Only the highest climbs are finished.
            rows = np.flatnonzero(active)
            late = rows[np.argsort(-value[rows], kind="stable")[FINISHED_CLIMBS:]]
            cut_off[late], active[late] = True, False
        rows = np.flatnonzero(active)
        if not len(rows):
            break
        direction, slope, done = _directions(pairs, rows, grad[rows], iteration)
        converged[rows[done]], active[rows[done]] = True, False
        rows, direction, slope = rows[~done], direction[~done], slope[~done]
        if not len(rows):
            continue
        try:
            new_z, new_value, new_grad, moved = _line_search(
                density, spread, z[rows], value[rows], direction, slope
            )
        except LimitReached:
            cut_off |= active
            break
        # A climb without a higher point starts over from the bare gradient.
        stuck = rows[~moved]
        failures[stuck] += 1
        pairs.forget(stuck)
        over = stuck[failures[stuck] > MAX_FAILURES]
        active[over] = False
        converged[over] = np.einsum("ni,ni->n", grad[over], grad[over]) < STUCK_GRADIENT
        rows, new_z, new_grad = rows[moved], new_z[moved], new_grad[moved]
        pairs.store(rows, iteration, new_z - z[rows], grad[rows] - new_grad)
        z[rows], value[rows], grad[rows] = new_z, new_value[moved], new_grad
        if iteration + 1 in PATH_ITERATIONS:
            path.append(density.wrap(z[rows] * spread))
            path_row.append(rows)
        if peaks is not None:
            there = density.wrap(z[rows] * spread)
            peak[rows] = peaks.below(there, value[rows], grad[rows] / spread)
            active[rows] = peak[rows] < 0
    ends = density.wrap(z * spread)
    passed, row = np.concatenate(path), np.concatenate(path_row)
    return Climbs(ends, value, passed, row, converged, cut_off, peak)


def _evaluate(
    density: Differentiable, z: np.ndarray, spread: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return log density and gradient at scaled points."""
    value, grad = density.logp_and_grad(density.wrap(z * spread))
    return value, grad * spread


@dataclass
class _Pairs:
    """Correction pairs of n climbs; each iteration overwrites the oldest slot.

    Attributes
    ----------
    size : int
        Pairs that are kept; 0 for gradient ascent, which uses `gamma` alone.
    step, change : arrays of shape (m, n, d)
        Steps, and the falls of the gradient along them.
    rho : array of shape (m, n)
        ``1 / (step @ change)``; 0 for a pair that is not used.
    gamma : array of shape (n,)
        Scale of the gradient; NaN before the first step.
    """

    size: int
    step: np.ndarray
    change: np.ndarray
    rho: np.ndarray
    gamma: np.ndarray

    @classmethod
    def empty(cls, size: int, n: int, d: int) -> _Pairs:
        """Return no pairs."""
        slots = max(size, 1)
        zeros = np.zeros((slots, n, d))
        return cls(size, zeros, zeros.copy(), np.zeros((slots, n)), np.full(n, np.nan))

    def ordered(
        self, rows: np.ndarray, iteration: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return steps, changes and rho of some climbs, from the oldest pair to the newest."""
        age = (iteration + np.arange(len(self.step))) % len(self.step)
        index = np.ix_(age, rows)
        return self.step[index], self.change[index], self.rho[index]

    def forget(self, rows: np.ndarray) -> None:
        """Drop the pairs of some climbs."""
        self.rho[:, rows] = 0.0
        self.gamma[rows] = np.nan

    def store(self, rows: np.ndarray, iteration: int, step: np.ndarray, change: np.ndarray) -> None:
        """Store a pair of each of some climbs."""
        curvature = np.einsum("ni,ni->n", step, change)
        size = np.einsum("ni,ni->n", change, change)
        least = MIN_COSINE * np.sqrt(size) * np.linalg.norm(step, axis=1)
        usable = curvature > np.maximum(least, np.finfo(float).tiny)
        slot = iteration % len(self.step)
        self.step[slot, rows], self.change[slot, rows] = step, change
        inverse = np.where(usable, 1 / np.where(usable, curvature, 1.0), 0.0)
        self.rho[slot, rows] = inverse * (self.size > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            length = np.einsum("ni,ni->n", step, step)
            bare = np.sqrt(length / np.maximum(size, TINY))
            scale = np.where(usable, curvature / size, bare)
        self.gamma[rows] = np.where(np.isfinite(scale), scale, 1.0)


def _directions(
    pairs: _Pairs, rows: np.ndarray, grad: np.ndarray, iteration: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return steps, the slopes along them, and which climbs have converged."""
    gamma = pairs.gamma[rows]
    direction = _two_loop(grad, *pairs.ordered(rows, iteration), gamma)
    slope = np.einsum("ni,ni->n", grad, direction)
    uphill = slope > 0
    direction[~uphill] = grad[~uphill]
    slope[~uphill] = np.einsum("ni,ni->n", grad[~uphill], grad[~uphill])
    norm = np.linalg.norm(direction, axis=1)
    done = (slope < TOLERANCE) & np.isfinite(gamma)
    done |= norm == 0
    shrink = np.minimum(1.0, MAX_STEP * np.sqrt(grad.shape[1]) / np.maximum(norm, TINY))
    return direction * shrink[:, None], slope * shrink, done


def _two_loop(
    g: np.ndarray, s: np.ndarray, y: np.ndarray, rho: np.ndarray, gamma: np.ndarray
) -> np.ndarray:
    """Return the L-BFGS direction of each row (Nocedal & Wright 2006, Algorithm 7.4).

    Pairs are ordered from the oldest to the newest; a pair of zero `rho` is skipped.
    """
    q = g.copy()
    alpha = np.zeros(rho.shape)
    for i in range(len(s) - 1, -1, -1):
        alpha[i] = rho[i] * np.einsum("ni,ni->n", s[i], q)
        q -= alpha[i][:, None] * y[i]
    first = FIRST_STEP / np.maximum(np.linalg.norm(g, axis=1), TINY)
    q *= np.where(np.isfinite(gamma), gamma, first)[:, None]
    for i in range(len(s)):
        beta = rho[i] * np.einsum("ni,ni->n", y[i], q)
        q += (alpha[i] - beta)[:, None] * s[i]
    return q


def _line_search(
    density: Differentiable,
    spread: np.ndarray,
    z: np.ndarray,
    value: np.ndarray,
    direction: np.ndarray,
    slope: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shorten each step until the gain is a fair share of the linear prediction (Armijo).

    Returns the points, their log densities and gradients, and which rows have moved.
    """
    n = len(z)
    new_z, new_value, new_grad = z.copy(), value.copy(), np.zeros_like(z)
    moved = np.zeros(n, dtype=bool)
    t = np.ones(n)
    todo = np.arange(n)
    for _ in range(MAX_TRIALS):
        trial = z[todo] + t[todo, None] * direction[todo]
        found, grad = _evaluate(density, trial, spread)
        good = found >= value[todo] + ARMIJO * t[todo] * slope[todo]
        hit = todo[good]
        new_z[hit], new_value[hit], new_grad[hit] = trial[good], found[good], grad[good]
        moved[hit] = True
        missed, found = todo[~good], found[~good]
        if not len(missed):
            break
        # The maximum of the parabola through what is known is the next trial.
        gain = found - value[missed] - t[missed] * slope[missed]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            best = -0.5 * slope[missed] * t[missed] / gain
        best = np.where(np.isfinite(best), best, MIN_FACTOR)
        t[missed] *= np.clip(best, MIN_FACTOR, MAX_FACTOR)
        todo = missed
    return new_z, new_value, new_grad, moved
