"""Normal densities from gradient and curvature at single draws.

Where one normal component dominates the target, the quadratic expansion of the log density at any
point is that component: its mean, covariance and mass follow from gradient and Hessian, also where
it has no optimum of its own, such as a wide component under a narrow one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.search import negative_hessian, triangular
from pymc_multimodal.status import LimitReached

if TYPE_CHECKING:
    from pymc_multimodal.target.target import Target

__all__ = ["Expansion", "Expansions"]

# Part of the evaluations of a sample that expansions may take. Conventional: a quarter.
SHARE = 0.25
# Expansions that fail, beyond those that succeed, until no further one is tried. Conventional.
MAX_FAILURES = 5
# Squared distance of the point from the mean of its component: at most so many standard deviations
# above d / 2 (in nats), what it is for a draw. Conventional: a normal exceeds three once in 700
# times.
MAX_DEVIATIONS = 3.0
# Largest width of a component, in spreads of the starts. Conventional: these are robust, and of a
# prior with spike and slab the spread is that of the spike.
MAX_WIDTH = 100.0
# Largest mass of a component, relative to what the sample has of the target: it may have met a
# part of the component only. Conventional.
MAX_MASS = 10.0


@dataclass(frozen=True, eq=False)
class Expansion:
    """A normal component.

    Attributes
    ----------
    mean : array of shape (d,)
    scale : array of shape (d, d)
        Lower-triangular factor of its covariance.
    mass : float
        Relative to that of the target.
    """

    mean: np.ndarray
    scale: np.ndarray
    mass: float


@dataclass(eq=False)
class Expansions:
    """Quadratic expansions of a log density, as long as they succeed and a budget lasts.

    Parameters
    ----------
    target : Target
        With a gradient; none is made without.
    n : int
        Draws of the sample that the expansions are to improve.
    spread : array of shape (d,)
        Of the starts.
    """

    target: Target
    n: int
    spread: np.ndarray
    _left: int = field(init=False)
    _failures: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Set how many are affordable."""
        density, each = self.target.density, 4 * self.target.dim + 1
        budget = SHARE * min(self.n, density.room())
        self._left = int(budget / each) if self.target.has_gradient else 0

    @property
    def ended(self) -> bool:
        """Whether no further expansion is made."""
        return self._left <= 0 or self._failures >= MAX_FAILURES

    def at(self, x: np.ndarray, log_p: float) -> Expansion | None:
        """Expand the log density at a point; None where it is not that of a normal component.

        Parameters
        ----------
        x : array of shape (d,)
        log_p : float
            Log density of the target there, normalised.
        """
        if self.ended:
            return None
        self._left -= 1
        try:
            with self.target.density.limited(), np.errstate(all="ignore"):
                hessian = negative_hessian(self.target.density, x, self.spread)
                _, grad = self.target.density.logp_and_grad(x[None])
        except LimitReached:
            self._left = 0
            return None
        found = self._component(x, log_p, hessian, grad[0])
        self._failures += 1 if found is None else -1
        return found

    def refuse(self) -> None:
        """Count the last expansion, which turned out not to be a component, as one that failed."""
        # It was counted as a success.
        self._failures += 2

    def _component(
        self, x: np.ndarray, log_p: float, hessian: np.ndarray, grad: np.ndarray
    ) -> Expansion | None:
        d, scaled = len(x), hessian * np.outer(self.spread, self.spread)
        if not (np.isfinite(scaled).all() and np.isfinite(grad).all()):
            return None
        values, vectors = np.linalg.eigh(scaled)
        if values[0] < MAX_WIDTH**-2:
            return None
        root = self.spread[:, None] * vectors / np.sqrt(values)
        along = root.T @ grad
        step, gain = root @ along, 0.5 * float(along @ along)
        if gain > 0.5 * d + MAX_DEVIATIONS * np.sqrt(0.5 * d):
            return None
        if (np.abs(step) > 0.5 * self.target.period).any():
            return None
        scale = triangular(root[None])[0]
        log_det = float(np.log(np.diagonal(scale)).sum())
        mass = float(np.exp(min(log_p + gain + 0.5 * d * np.log(2 * np.pi) + log_det, 10.0)))
        return Expansion(x + step, scale, mass) if mass <= MAX_MASS else None
