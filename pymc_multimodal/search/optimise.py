"""Hill climbing from many starts at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

from pymc_multimodal.search.curvature import common_scale
from pymc_multimodal.status import LimitReached

if TYPE_CHECKING:
    from pymc_multimodal.search.settings import ModeSearch
    from pymc_multimodal.target.density import Density

__all__ = ["Climbs", "ForwardDifferences", "climb", "climb_all", "optimiser_for"]

# Dimensions up to which Powell's method costs little more than differences do.
POWELL_DIM = 10

# Climbs that are finished even after a limit of the fit; without gradient it is one.
FINISHED = 8
# Step of forward differences, in the units that are climbed in, for densities in double precision.
DIFFERENCE = 1e-6


@dataclass(frozen=True)
class Climbs:
    """Ends and paths of climbs from n starts.

    Attributes
    ----------
    x, logp : arrays of shape (n, d) and (n,)
        Where each climb ended; -inf for climbs that a limit cut off.
    path, path_row : arrays of shape (m, d) and (m,)
        Some of the points passed on the way, with the climb that passed them.
    converged : array of bool, shape (n,)
    """

    x: np.ndarray
    logp: np.ndarray
    path: np.ndarray
    path_row: np.ndarray
    converged: np.ndarray


def optimiser_for(density: Density, settings: ModeSearch) -> str:
    """Return the name of the optimiser that is asked for, or the default for a density."""
    if settings.optimiser is not None or density.has_gradient:
        return settings.optimiser or "lbfgs"
    return "powell" if density.dim <= POWELL_DIM else "differences"


def climb_all(
    density: Density,
    settings: ModeSearch,
    starts: np.ndarray,
    spread: np.ndarray,
    scale: np.ndarray,
) -> Climbs:
    """Maximise the log density from every start by the optimiser of the settings.

    Parameters
    ----------
    density : Density
    settings : ModeSearch
    starts : array of shape (n, d)
    spread : array of shape (d,)
        Robust standard deviation of the starts.
    scale : array of shape (K, d, d)
        Factors of the inverse negative Hessians of the modes that are known.

    Raises
    ------
    ValueError
        If the optimiser needs a gradient that the density does not have.
    """
    method = optimiser_for(density, settings)
    if method in ("lbfgs", "gradient_descent"):
        if not density.has_gradient:
            raise ValueError(
                f"optimiser={method!r} needs a gradient, which this model does not have; "
                "use 'differences', 'powell' or 'nelder_mead'."
            )
        memory = 10 if method == "lbfgs" else 0
        iterations = settings.max_iter * (1 if memory else 10)
        return climb(density, starts, spread, memory=memory, max_iter=iterations)
    if method == "differences":
        root = common_scale(scale, spread)
        return climb_by_differences(density, starts, root, max_iter=settings.max_iter)
    return climb_without_gradient(
        density, starts, spread, method=method, max_iter=settings.max_iter
    )


class ForwardDifferences:
    """A density in other coordinates, its gradient by forward differences.

    A gradient costs d + 1 evaluations.

    Parameters
    ----------
    density : Density
    root : array of shape (d, d)
        Points are ``x = root z``; the columns are the directions of the differences.
    """

    def __init__(self, density: Density, root: np.ndarray) -> None:
        self.density, self.root = density, root
        # In single precision a point and its neighbour shall differ as well.
        self.step = DIFFERENCE * np.cbrt(density.resolution / np.finfo(float).eps)

    def exhausted(self) -> bool:
        """Ask the density."""
        return self.density.exhausted()

    def wrap(self, z: np.ndarray) -> np.ndarray:
        """Leave coordinates as they are: what is wrapped are the points x."""
        return z

    def logp_and_grad(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log density, shape (n,), and gradient, shape (n, d); zero where it is not finite."""
        n, d = z.shape
        x = z @ self.root.T
        beside = (x[:, None] + self.step * self.root.T).reshape(-1, d)
        value = self.density.logp(self.density.wrap(np.concatenate([x, beside])))
        with np.errstate(invalid="ignore"):
            grad = (value[n:].reshape(n, d) - value[:n, None]) / self.step
        return value[:n], np.where(np.isfinite(grad), grad, 0.0)


def climb_by_differences(
    density: Density, starts: np.ndarray, root: np.ndarray, *, max_iter: int = 300
) -> Climbs:
    """Maximise the log density from every start by L-BFGS on forward differences.

    Parameters
    ----------
    density, starts, max_iter
        As for `climb`.
    root : array of shape (d, d)
        Coordinates to climb in, see `ForwardDifferences`, in units of the starts' spread.

    Returns
    -------
    tuple of arrays
        As of `climb`.
    """
    z = np.linalg.solve(root, starts.T).T
    unit = np.ones(starts.shape[1])
    climbs = climb(ForwardDifferences(density, root), z, unit, max_iter=max_iter)
    return replace(
        climbs, x=density.wrap(climbs.x @ root.T), path=density.wrap(climbs.path @ root.T)
    )


def climb(
    density: Density | ForwardDifferences,
    starts: np.ndarray,
    spread: np.ndarray,
    *,
    memory: int = 10,
    max_iter: int = 300,
    tolerance: float = 1e-5,
) -> Climbs:
    """Maximise the log density from every start by L-BFGS, all starts in one batch.

    One batched evaluation serves every start still climbing, which is what makes this
    quicker than a loop over a library's optimiser when evaluations are cheap, and lets
    workers share them when they are dear. With ``memory=0`` it is gradient ascent.

    Parameters
    ----------
    density : Density
    starts : array of shape (n, d)
    spread : array of shape (d,)
        Unit of length of each coordinate.
    memory : int
        Number of correction pairs.
    max_iter : int
    tolerance : float
        A climb ends when its predicted gain falls below this many nats.

    Returns
    -------
    x, logp : arrays of shape (n, d) and (n,)
        Where each climb ended.
    path, path_row : arrays of shape (m, d) and (m,)
        Points passed on the way, thinned, with the row that passed them.
    converged : array of bool, shape (n,)
    """
    n, d = starts.shape
    z = starts / spread
    value, grad = _evaluate(density, z, spread)
    s = np.zeros((max(memory, 1), n, d))
    y = np.zeros_like(s)
    rho = np.zeros((max(memory, 1), n))
    gamma = np.full(n, np.nan)
    converged = np.zeros(n, dtype=bool)
    active = np.isfinite(value)
    path, path_row = [starts[active]], [np.flatnonzero(active)]
    failures = np.zeros(n, dtype=int)
    for iteration in range(max_iter):
        if density.exhausted():
            # Only the highest climbs are finished; the others lead nowhere.
            rows = np.flatnonzero(active)
            late = rows[np.argsort(-value[rows], kind="stable")[FINISHED:]]
            value[late], active[late] = -np.inf, False
        rows = np.flatnonzero(active)
        if not len(rows):
            break
        g = grad[rows]
        # The slot about to be overwritten holds the oldest pair.
        age = (iteration + np.arange(len(s))) % len(s)
        index = np.ix_(age, rows)
        direction = _two_loop(g, s[index], y[index], rho[index], gamma[rows])
        slope = np.einsum("ni,ni->n", g, direction)
        uphill = slope > 0
        direction[~uphill] = g[~uphill]
        slope[~uphill] = np.einsum("ni,ni->n", g[~uphill], g[~uphill])
        # No step longer than half the starts' spread: a longer one may leap over basins.
        longest = 0.5 * np.sqrt(d)
        norm = np.linalg.norm(direction, axis=1)
        shrink = np.minimum(1.0, longest / np.maximum(norm, 1e-300))
        done = (slope < tolerance) & np.isfinite(gamma[rows])
        done |= norm == 0
        converged[rows[done]] = True
        active[rows[done]] = False
        go = ~done
        rows, g, direction = rows[go], g[go], direction[go] * shrink[go, None]
        slope = slope[go] * shrink[go]
        if not len(rows):
            continue
        new_z, new_value, new_grad, moved = _line_search(
            density, spread, z[rows], value[rows], direction, slope
        )
        # A search that finds no higher point starts over from the bare gradient, once or twice.
        stuck = rows[~moved]
        failures[stuck] += 1
        rho[:, stuck] = 0.0
        gamma[stuck] = np.nan
        over = stuck[failures[stuck] > 2]
        active[over] = False
        converged[over] = np.einsum("ni,ni->n", grad[over], grad[over]) < 1e-4
        rows, step = rows[moved], (new_z - z[rows])[moved]
        change = (grad[rows] - new_grad[moved]) if len(rows) else np.empty((0, d))
        curvature = np.einsum("ni,ni->n", step, change)
        size = np.einsum("ni,ni->n", change, change)
        usable = curvature > np.maximum(
            1e-10 * np.sqrt(size) * np.linalg.norm(step, axis=1), np.finfo(float).tiny
        )
        slot = iteration % max(memory, 1)
        s[slot, rows], y[slot, rows] = step, change
        rho[slot, rows] = np.where(usable, 1 / np.where(usable, curvature, 1.0), 0.0) * (memory > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            first = np.einsum("ni,ni->n", step, step)
            scale = np.where(usable, curvature / size, np.sqrt(first / np.maximum(size, 1e-300)))
        gamma[rows] = np.where(np.isfinite(scale), scale, 1.0)
        z[rows], value[rows], grad[rows] = new_z[moved], new_value[moved], new_grad[moved]
        if iteration + 1 in (1, 2, 4, 8, 16, 32, 64):
            path.append(density.wrap(z[rows] * spread))
            path_row.append(rows)
    return Climbs(
        density.wrap(z * spread),
        value,
        np.concatenate(path),
        np.concatenate(path_row),
        converged,
    )


def _evaluate(
    density: Density | ForwardDifferences, z: np.ndarray, spread: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    value, grad = density.logp_and_grad(density.wrap(z * spread))
    return value, grad * spread


def _two_loop(
    g: np.ndarray, s: np.ndarray, y: np.ndarray, rho: np.ndarray, gamma: np.ndarray
) -> np.ndarray:
    """L-BFGS direction of each row, pairs ordered from old to new; zero `rho` skips a pair."""
    q = g.copy()
    alpha = np.zeros(rho.shape)
    for i in range(len(s) - 1, -1, -1):
        alpha[i] = rho[i] * np.einsum("ni,ni->n", s[i], q)
        q -= alpha[i][:, None] * y[i]
    norm = np.linalg.norm(g, axis=1)
    first = 0.1 / np.maximum(norm, 1e-300)
    q *= np.where(np.isfinite(gamma), gamma, first)[:, None]
    for i in range(len(s)):
        beta = rho[i] * np.einsum("ni,ni->n", y[i], q)
        q += (alpha[i] - beta)[:, None] * s[i]
    return q


def _line_search(
    density: Density | ForwardDifferences,
    spread: np.ndarray,
    z: np.ndarray,
    value: np.ndarray,
    direction: np.ndarray,
    slope: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Backtrack until the gain is a fair share of the slope's promise (Armijo)."""
    n = len(z)
    new_z, new_value, new_grad = z.copy(), value.copy(), np.zeros_like(z)
    moved = np.zeros(n, dtype=bool)
    t = np.ones(n)
    todo = np.arange(n)
    for _ in range(25):
        trial = z[todo] + t[todo, None] * direction[todo]
        found, grad = _evaluate(density, trial, spread)
        good = found >= value[todo] + 1e-4 * t[todo] * slope[todo]
        hit = todo[good]
        new_z[hit], new_value[hit], new_grad[hit] = trial[good], found[good], grad[good]
        moved[hit] = True
        missed, found = todo[~good], found[~good]
        if not len(missed):
            break
        # The parabola through what is known proposes the next length, within [0.1, 0.5].
        gain = found - value[missed] - t[missed] * slope[missed]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            best = -0.5 * slope[missed] * t[missed] / gain
        best = np.where(np.isfinite(best), best, 0.1)
        t[missed] *= np.clip(best, 0.1, 0.5)
        todo = missed
    return new_z, new_value, new_grad, moved


def climb_without_gradient(
    density: Density,
    starts: np.ndarray,
    spread: np.ndarray,
    *,
    method: str = "powell",
    max_iter: int = 300,
) -> Climbs:
    """Maximise the log density from every start by a derivative-free method of SciPy.

    Parameters
    ----------
    density, starts, spread
        As for `climb`.
    method : {"powell", "nelder_mead"}
    max_iter : int
        Iterations of Powell's method; Nelder and Mead's, which do less each, get 20 times more.

    Returns
    -------
    tuple of arrays
        As of `climb`.
    """
    powell = method == "powell"
    options = {
        "maxiter": max_iter * (1 if powell else 20),
        "xtol" if powell else "xatol": 1e-4,
        "ftol" if powell else "fatol": 1e-5,
    }

    def cost(z: np.ndarray) -> float:
        # A large finite value keeps line searches arithmetic outside the support.
        value = density.logp(density.wrap(z * spread)[None])[0]
        return -value if np.isfinite(value) else 1e100

    ends, logps, path, rows, converged = [], [], [], [], []
    for i, start in enumerate(starts):
        trail: list[np.ndarray] = [start]
        try:
            with density.limited(i > 0):
                result = minimize(
                    cost,
                    start / spread,
                    method="Powell" if powell else "Nelder-Mead",
                    callback=lambda z, trail=trail: trail.append(np.array(z) * spread),
                    options=options,
                )
        except LimitReached:
            break
        ends.append(result.x * spread)
        logps.append(-float(result.fun))
        passed = trail[:: max(1, len(trail) // 5)]
        path += passed
        rows += [i] * len(passed)
        converged.append(bool(result.success))
    left = len(starts) - len(ends)
    ends += list(starts[len(ends) :])
    logps += [-np.inf] * left
    converged += [False] * left
    return Climbs(
        density.wrap(np.array(ends)),
        np.array(logps),
        density.wrap(np.array(path)),
        np.array(rows),
        np.array(converged),
    )
