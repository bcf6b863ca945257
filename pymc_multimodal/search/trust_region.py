"""Climbs without gradient: COBYQA from many starts, one batch of points in every round."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import cobyqa
import numpy as np

from pymc_multimodal.search.lbfgs import Climbs
from pymc_multimodal.search.lockstep import Optimiser, Stepwise, lockstep
from pymc_multimodal.search.quadratic import (
    Evaluated,
    QuadraticFit,
    fit_quadratic,
    widest_fall,
)
from pymc_multimodal.status import LimitReached

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymc_multimodal.search.optima import OptimumSet
    from pymc_multimodal.target.density import Density

__all__ = ["climb_by_trust_region"]

# First and last radius of the trust region, in spreads of the starts. The first was measured on
# prototypes; the last is far below the width of any mode that is found, since climbs end by the
# rules below.
FIRST_RADIUS, LAST_RADIUS = 0.4, 1e-6
# Climbs that go on side by side; more begin when these have ended, and know what these have found.
# Conventional: two chunks of evaluations (`target.density.CHUNK`).
SIDE_BY_SIDE = 64
# Climbs that are finished, the highest ones, after a limit of the fit. Conventional: few, since
# each of them costs tens of evaluations.
FINISHED_CLIMBS = 2
# Evaluations of one climb for each of `max_iter`. Conventional: an iteration of COBYQA makes one or
# two.
MAX_EVALS_PER_ITERATION = 2
# A climb ends where its last 2 d + 1 points lie within this of its highest (nats), after twice as
# many, and where a fitted quadratic function has its maximum within so much of it; the function's
# error (`QuadraticFit.error`) is at most so large. Conventional.
LEVEL_NATS, SUMMIT_NATS, SUMMIT_ERROR = 5e-3, 0.05, 0.5
# A fitted maximum is evaluated if it is higher by more than this (nats). Conventional.
POLISH_NATS = 1e-4
# A climb ends at an optimum that is known if its normal approximation predicts the climb's d + 1
# highest points, relative to the fall from the summit, and in nats. Within two standard deviations
# that is enough by half: modes are curved and skewed, and two that are so near are one.
# Conventional.
RELATIVE_ERROR, NEAR_ERROR, SMALL_ERROR, NEAR_FALL = 0.1, 0.5, 0.02, 2.0
# Nats below the lowest point of a climb that a point outside of the support counts as.
# Conventional: finite, so that the climb's quadratic functions remain useful.
OUTSIDE = 100.0
# Largest cost, above that of the start, that is told as it is: differences stay finite.
MAX_COST = 1e30
# Parts into which the path of a climb is thinned. Conventional.
PATH_PARTS = 5


@dataclass(frozen=True)
class _Summits:
    """Optima that are known while climbs go on.

    Attributes
    ----------
    density : Density
    optima : OptimumSet
        Optima that were known before.
    x, logp, hessian : lists
        Those, and the ones that were fitted since.
    climb : list of _Climb
        The climbs to the ones that were fitted.
    """

    density: Density
    optima: OptimumSet
    x: list[np.ndarray]
    logp: list[float]
    hessian: list[np.ndarray]
    climb: list[_Climb] = field(default_factory=list)

    @classmethod
    def of(cls, density: Density, optima: OptimumSet) -> _Summits:
        """Take the optima that are known."""
        return cls(density, optima, list(optima.x), list(optima.logp), list(optima.hessian))

    def add(self, fit: QuadraticFit, climb: _Climb) -> None:
        """Add an optimum that a climb has come to."""
        self.x.append(fit.x)
        self.logp.append(fit.logp)
        self.hessian.append(fit.hessian)
        self.climb.append(climb)

    def describing(self, x: np.ndarray, logp: np.ndarray) -> int:
        """Return an optimum whose normal approximation predicts all of some points, or -1."""
        if not self.x:
            return -1
        top, d = np.array(self.logp), x.shape[1]
        near = (logp.max() <= top + SMALL_ERROR) & (logp.min() > top - widest_fall(d))
        for k in np.flatnonzero(near):
            folded = k < len(self.optima.orbits)
            here = self.optima.orbits[k].fold(x)[0] if folded else x
            step = self.density.unroll(here, self.x[k]) - self.x[k]
            fall = 0.5 * np.einsum("ni,ni->n", step @ self.hessian[k], step)
            error = np.abs(top[k] - fall - logp)
            allowed = NEAR_ERROR if fall.max() < NEAR_FALL else RELATIVE_ERROR
            if (error < allowed * fall + SMALL_ERROR).all():
                return int(k)
        return -1


@dataclass(eq=False)
class _Climb:
    """What one climb has done.

    Attributes
    ----------
    start : array of shape (d,)
    rows : list of int
        Its points, among all that were evaluated.
    best : int
        Its highest point, among all; -1 before the first.
    improved : list of int
        Its points that were the highest so far.
    peak : int
        Known optimum that it would have ended at, or -1.
    over, converged, cut_off : bool
        Whether it has ended, at an optimum, or by a limit.
    asked : int
        The point that COBYQA has asked for last, among all.
    fit : QuadraticFit or None
        A function whose maximum is evaluated before the climb ends.
    """

    start: np.ndarray
    rows: list[int] = field(default_factory=list)
    best: int = -1
    improved: list[int] = field(default_factory=list)
    peak: int = -1
    over: bool = False
    converged: bool = False
    cut_off: bool = False
    asked: int = -1
    fit: QuadraticFit | None = None


def climb_by_trust_region(
    density: Density,
    starts: np.ndarray,
    optima: OptimumSet,
    known: Evaluated,
    *,
    max_iter: int = 300,
    radius: float = FIRST_RADIUS,
) -> Climbs:
    """Maximise the log density from every start by COBYQA, all starts side by side.

    Every climb asks for one point in each round, and one batch serves all; where evaluations are
    dear, the points of the first models are asked for together. A climb is not finished
    where the normal approximation of a known optimum describes its highest points; an optimum
    becomes known as soon as a quadratic function describes the points near it, whichever climbs
    they come from. Near a limit of the fit only the highest climbs go on.

    COBYQA is a trust-region method on quadratic models that interpolate 2 d + 1 points (Ragonneau
    2022, Model-based derivative-free optimization methods and software, PhD thesis, The Hong Kong
    Polytechnic University).

    Parameters
    ----------
    density : Density
    starts : array of shape (n, d)
    optima : OptimumSet
        Optima that are known.
    known : Evaluated
        Points that were evaluated before.
    max_iter : int
        Most iterations of one climb.
    radius : float
        First radius of the trust region, in spreads of the starts.

    Returns
    -------
    Climbs
        `Climbs.evaluated` holds every point.
    """
    options = {
        "radius_init": radius,
        "radius_final": LAST_RADIUS,
        "maxiter": max_iter,
        "maxfev": MAX_EVALS_PER_ITERATION * max_iter + 2 * density.dim + 1,
    }
    batch = _Batch(density, optima, known, options)
    for first in range(0, len(starts), SIDE_BY_SIDE):
        batch.climb(starts[first : first + SIDE_BY_SIDE])
    return batch.climbs(starts)


class _Batch:
    """Climbs of one batch, with all that they have found."""

    def __init__(
        self,
        density: Density,
        optima: OptimumSet,
        known: Evaluated,
        options: dict[str, float],
    ) -> None:
        self.density, self.optima, self.options = density, optima, options
        self.summits = _Summits.of(density, optima)
        self.done: list[_Climb] = []
        self.points, self.first = known, len(known)
        self.index = {point.tobytes(): row for row, point in enumerate(known.x)}

    # ------------------------------------------------------------ rounds

    def climb(self, starts: np.ndarray) -> None:
        """Climb from some starts."""
        climbs = [_Climb(start) for start in starts]
        self.done += climbs
        spread = self.optima.spread
        with lockstep([self._optimiser(start / spread) for start in starts]) as steps:
            while True:
                live = [i for i, climb in enumerate(climbs) if not climb.over]
                live = self._within_limits(climbs, live)
                if not live:
                    return
                points = [self._next_point(climbs[i], steps[i]) for i in live]
                points += self._further_points(climbs, live)
                try:
                    rows = self._evaluate(self.density.wrap(np.array(points)))[: len(live)]
                except LimitReached:
                    _cut_off(climbs, live)
                    return
                for i, row in zip(live, rows, strict=True):
                    self._record(climbs[i], row)
                for i in live:
                    self._go_on(climbs[i], steps[i])

    def _optimiser(self, start: np.ndarray) -> Optimiser:
        return partial(_minimise, start=start, options=self.options)

    def _within_limits(self, climbs: list[_Climb], live: list[int]) -> list[int]:
        """Cut off the lowest climbs if a limit does not allow one point of each."""
        most = self.density.room(early=False)
        if self.density.exhausted():
            most = min(most, FINISHED_CLIMBS)
        if most >= len(live):
            return live
        height = np.array([self._height(climbs[i]) for i in live])
        kept = set(np.argsort(-height, kind="stable")[: int(most)].tolist())
        _cut_off(climbs, [live[k] for k in range(len(live)) if k not in kept])
        return [live[k] for k in sorted(kept)]

    def _next_point(self, climb: _Climb, step: Stepwise) -> np.ndarray:
        if not climb.rows:
            return climb.start
        if climb.fit is not None:
            return climb.fit.x
        assert step.point is not None
        return step.point * self.optima.spread

    def _further_points(self, climbs: list[_Climb], live: list[int]) -> list[np.ndarray]:
        """Points that climbs are going to ask for, whatever the values before are.

        The first models of COBYQA interpolate at the start, one radius above it along each
        coordinate, and one below. A climb may end after the first half of them.
        """
        d, spread = self.density.dim, self.optima.spread
        if not self.density.dear:
            return []
        out: list[np.ndarray] = []
        for climb in (climbs[i] for i in live):
            side = {0: 1.0, d + 1: -1.0}.get(len(climb.rows))
            if side is not None:
                steps = side * self.options["radius_init"] * np.eye(d)
                out += list((climb.start / spread + steps) * spread)
        return out if len(live) + len(out) <= self.density.room(early=False) else []

    def _evaluate(self, x: np.ndarray) -> list[int]:
        """Return the rows of points among all; those that are not known are evaluated."""
        rows = [self.index.get(point.tobytes(), -1) for point in x]
        new = [k for k, row in enumerate(rows) if row < 0]
        if new:
            # Next to a step of COBYQA a call costs nothing, and workers share the points.
            found = Evaluated(x[new], self.density.logp(x[new], chunk=1))
            for row, k in enumerate(new, len(self.points)):
                rows[k] = self.index[x[k].tobytes()] = row
            self.points = self.points.joined(found)
        return rows

    def _record(self, climb: _Climb, row: int) -> None:
        climb.rows.append(row)
        if self.points.logp[row] > self._height(climb):
            climb.best = row
            climb.improved.append(row)

    def _height(self, climb: _Climb) -> float:
        return float(self.points.logp[climb.best]) if climb.best >= 0 else -np.inf

    # ------------------------------------------------------------ ends

    def _go_on(self, climb: _Climb, step: Stepwise) -> None:
        """Let a climb take its next step, unless it has ended."""
        if climb.fit is not None:
            fit, climb.fit = climb.fit, None
            if self.points.logp[climb.rows[-1]] > fit.logp - SUMMIT_NATS:
                return self._end_at(fit, climb)
        else:
            climb.asked = climb.rows[-1]
            if self._has_ended(climb):
                return
        if step.point is not None:
            step.advance(self._cost(climb))
        if step.point is None and not self._is_fitted(climb):
            climb.over, climb.converged = True, step.converged

    def _has_ended(self, climb: _Climb) -> bool:
        """Tell whether a climb ends, or has a fitted maximum that is evaluated next."""
        n = len(climb.rows)
        if climb.best < 0:
            climb.over = True
        elif n > self.density.dim and self._is_known(climb):
            climb.over = climb.converged = True
        elif n % self.density.dim == 0 and self._is_fitted(climb):
            return True
        elif self._is_level(climb):
            climb.over = climb.converged = True
        return climb.over

    def _cost(self, climb: _Climb) -> float:
        value = float(self.points.logp[climb.asked])
        known = self.points.logp[climb.rows]
        known = known[np.isfinite(known)]
        cost = -value if np.isfinite(value) else OUTSIDE - known.min()
        return float(min(cost, MAX_COST - known[0]))

    def _is_known(self, climb: _Climb) -> bool:
        """Tell whether a known optimum describes the highest points of a climb."""
        rows = np.array(climb.rows)
        top = np.argsort(-self.points.logp[rows], kind="stable")[: self.density.dim + 1]
        rows = rows[top]
        climb.peak = self.summits.describing(self.points.x[rows], self.points.logp[rows])
        return climb.peak >= 0

    def _is_level(self, climb: _Climb) -> bool:
        """Tell whether the last points of a climb are all as high as its highest."""
        n = 2 * self.density.dim + 1
        if len(climb.rows) < 2 * n:
            return False
        lowest = self.points.logp[climb.rows[-n:]].min()
        return bool(lowest > self._height(climb) - LEVEL_NATS)

    def _is_fitted(self, climb: _Climb) -> bool:
        """Tell whether a quadratic function has its maximum at a climb's highest point.

        Its maximum is evaluated in the next round, or the climb is over. It goes on if the maximum
        turns out to be lower.
        """
        best, height = self.points.x[climb.best], self._height(climb)
        fit = fit_quadratic(self.points, best, height, self.optima.spread, self.density.unroll)
        if fit is None or fit.error > SUMMIT_ERROR or fit.logp - height > SUMMIT_NATS:
            return False
        if fit.logp - height > POLISH_NATS:
            climb.fit = fit
        else:
            self._end_at(fit, climb)
        return True

    def _end_at(self, fit: QuadraticFit, climb: _Climb) -> None:
        climb.over = climb.converged = True
        best, height = self.points.x[climb.best], self._height(climb)
        if self.summits.describing(best[None], np.array([height])) < 0:
            self.summits.add(fit, climb)

    # ------------------------------------------------------------ result

    def climbs(self, starts: np.ndarray) -> Climbs:
        """Return what the climbs have found."""
        n = len(self.optima)
        x, logp = starts.copy(), np.full(len(starts), -np.inf)
        peak, leader = np.full(len(starts), -1), np.arange(len(starts))
        path: list[int] = []
        path_row: list[int] = []
        for i, climb in enumerate(self.done):
            passed = climb.improved[:: max(1, len(climb.improved) // PATH_PARTS)]
            path += passed
            path_row += [i] * len(passed)
            if climb.best >= 0:
                x[i], logp[i] = self.points.x[climb.best], self.points.logp[climb.best]
            if climb.peak >= n:
                leader[i] = self.done.index(self.summits.climb[climb.peak - n])
            peak[i] = climb.peak if climb.peak < n else -1
        return Climbs(
            x,
            logp,
            self.points.x[path],
            np.array(path_row, dtype=int),
            np.array([climb.converged for climb in self.done], dtype=bool),
            np.array([climb.cut_off for climb in self.done], dtype=bool),
            peak,
            self.points.since(self.first),
            leader,
        )


def _cut_off(climbs: list[_Climb], rows: list[int]) -> None:
    for i in rows:
        climbs[i].over = climbs[i].cut_off = True


def _minimise(
    cost: Callable[[np.ndarray], float], start: np.ndarray, options: dict[str, float]
) -> bool:
    """Minimise by COBYQA; tell whether it converged."""
    try:
        return bool(cobyqa.minimize(cost, start, options=dict(options)).success)
    except (ArithmeticError, ValueError, np.linalg.LinAlgError):
        # Its linear algebra fails where costs are not those of a smooth function.
        return False
