"""The climbs: maximisation of the log density from many starts, with a gradient or without."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

from pymc_multimodal.search.curvature import common_scale
from pymc_multimodal.search.lbfgs import MEMORY, Climbs, climb
from pymc_multimodal.search.peaks import Peaks
from pymc_multimodal.search.trust_region import climb_by_trust_region
from pymc_multimodal.status import LimitReached

if TYPE_CHECKING:
    from pymc_multimodal.search.optima import OptimumSet
    from pymc_multimodal.search.quadratic import Evaluated
    from pymc_multimodal.search.settings import ModeSearch
    from pymc_multimodal.target.density import Density

__all__ = ["ForwardDifferences", "climb_all", "optimiser_for"]

# Dimensions up to which COBYQA costs less than differences do.
COBYQA_DIM = 10
# Step of forward differences, in the coordinates of the climb, for densities in double precision.
# The best step is the square root of the rounding error of the log density over its curvature
# (Nocedal & Wright 2006, section 8.1): 1.5e-6 for log densities of size 1e4. In other precisions
# the step grows as their cube root. Measured: examples/benchmarks/constants.py
DIFFERENCE_STEP = 1e-6
# Iterations of gradient ascent and of the method of Nelder and Mead for one of `max_iter`: each
# does less. Measured: examples/benchmarks/constants.py
GRADIENT_ITERATIONS, SIMPLEX_ITERATIONS = 10, 20
# Tolerances of SciPy's methods: in spreads of the starts, and in nats. Conventional.
X_TOLERANCE, VALUE_TOLERANCE = 1e-4, 1e-5
# Minus the log density outside of the support: large and finite, so that line searches stay
# arithmetic.
OUTSIDE = 1e100
# Parts into which the path of a climb by SciPy is thinned. Conventional.
PATH_PARTS = 5


def optimiser_for(density: Density, settings: ModeSearch) -> str:
    """Return the name of the optimiser that is asked for, or the default for the density."""
    if settings.optimiser is not None:
        return settings.optimiser
    if density.has_gradient:
        return "lbfgs"
    return "cobyqa" if density.dim <= COBYQA_DIM else "differences"


def climb_all(
    density: Density,
    settings: ModeSearch,
    starts: np.ndarray,
    optima: OptimumSet,
    known: Evaluated,
) -> Climbs:
    """Maximise the log density from every start by the optimiser of the settings.

    Parameters
    ----------
    density : Density
    settings : ModeSearch
    starts : array of shape (n, d)
    optima : OptimumSet
        Known optima, at which climbs by L-BFGS and by COBYQA end early.
    known : Evaluated
        Points that were evaluated before, which COBYQA uses.

    Returns
    -------
    Climbs

    Raises
    ------
    ValueError
        If the optimiser needs a gradient that the density does not have.
    """
    method, max_iter, spread = optimiser_for(density, settings), settings.max_iter, optima.spread
    if method == "cobyqa":
        return climb_by_trust_region(density, starts, optima, known, max_iter=max_iter)
    if method == "differences":
        scale = optima.scale[optima.summits(settings.negligible)]
        return climb_by_differences(density, starts, common_scale(scale, spread), max_iter=max_iter)
    if method in ("powell", "nelder_mead"):
        return climb_without_gradient(density, starts, spread, method=method, max_iter=max_iter)
    if not density.has_gradient:
        raise ValueError(
            f"optimiser={method!r} needs a gradient, which this model does not have; "
            "use 'cobyqa', 'differences', 'powell' or 'nelder_mead'."
        )
    if method == "gradient_descent":
        return climb(density, starts, spread, memory=0, max_iter=GRADIENT_ITERATIONS * max_iter)
    peaks = Peaks.of(optima, density.unroll)
    return climb(density, starts, spread, memory=MEMORY, max_iter=max_iter, peaks=peaks)


class ForwardDifferences:
    """A density in other coordinates, with a gradient by forward differences.

    A gradient costs d + 1 evaluations.

    Parameters
    ----------
    density : Density
    root : array of shape (d, d)
        Points are ``x = root @ z``; the columns of `root` are the directions of the differences.
    """

    def __init__(self, density: Density, root: np.ndarray) -> None:
        self.density, self.root = density, root
        self.step = DIFFERENCE_STEP * np.cbrt(density.resolution / np.finfo(float).eps)

    def exhausted(self) -> bool:
        """Tell whether a limit of the fit under way is reached."""
        return self.density.exhausted()

    def wrap(self, z: np.ndarray) -> np.ndarray:
        """Return coordinates as they are: the points x are wrapped, not the coordinates z."""
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
    density : Density
    starts : array of shape (n, d)
    root : array of shape (d, d)
        Coordinates of the climb, see `ForwardDifferences`, in units of the spread of the starts.
    max_iter : int

    Returns
    -------
    Climbs
    """
    z = np.linalg.solve(root, starts.T).T
    unit = np.ones(starts.shape[1])
    climbs = climb(ForwardDifferences(density, root), z, unit, max_iter=max_iter)
    return replace(
        climbs, x=density.wrap(climbs.x @ root.T), path=density.wrap(climbs.path @ root.T)
    )


def climb_without_gradient(
    density: Density,
    starts: np.ndarray,
    spread: np.ndarray,
    *,
    method: str = "powell",
    max_iter: int = 300,
) -> Climbs:
    """Maximise the log density from every start by a derivative-free method of SciPy.

    Near a limit of the fit no further climb is begun, and the climb under way ends; the first
    climb is finished if the limit allows.

    Parameters
    ----------
    density : Density
    starts : array of shape (n, d)
    spread : array of shape (d,)
        Unit of length of each coordinate.
    method : {"powell", "nelder_mead"}
    max_iter : int
        Most iterations of Powell's method; the method of Nelder and Mead gets 20 times more.

    Returns
    -------
    Climbs
    """
    ends, logps, path, rows, converged = [], [], [], [], []
    for i, start in enumerate(starts):
        try:
            with density.limited(i > 0):
                x, logp, success, trail = _minimise(density, start, spread, method, max_iter)
        except LimitReached:
            break
        ends.append(x)
        logps.append(logp)
        converged.append(success)
        passed = trail[:: max(1, len(trail) // PATH_PARTS)]
        path += passed
        rows += [i] * len(passed)
    left = len(starts) - len(ends)
    ends += list(starts[len(ends) :])
    return Climbs(
        density.wrap(np.array(ends)),
        np.array(logps + [-np.inf] * left),
        density.wrap(np.array(path).reshape(-1, starts.shape[1])),
        np.array(rows, dtype=int),
        np.array(converged + [False] * left),
        np.arange(len(starts)) >= len(starts) - left,
        np.full(len(starts), -1),
    )


def _minimise(
    density: Density, start: np.ndarray, spread: np.ndarray, method: str, max_iter: int
) -> tuple[np.ndarray, float, bool, list[np.ndarray]]:
    """Climb from one start; returns the end, its log density, whether it converged, the path."""
    powell = method == "powell"
    options = {
        "maxiter": max_iter * (1 if powell else SIMPLEX_ITERATIONS),
        "xtol" if powell else "xatol": X_TOLERANCE,
        "ftol" if powell else "fatol": VALUE_TOLERANCE,
    }
    trail = [start]

    def cost(z: np.ndarray) -> float:
        value = density.logp(density.wrap(z * spread)[None])[0]
        return -value if np.isfinite(value) else OUTSIDE

    result = minimize(
        cost,
        start / spread,
        method="Powell" if powell else "Nelder-Mead",
        callback=lambda z: trail.append(np.array(z) * spread),
        options=options,
    )
    return result.x * spread, -float(result.fun), bool(result.success), trail
