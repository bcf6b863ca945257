"""What a method answers, and what it is counted by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from problems import Problem
from scipy.special import ndtr


@dataclass(frozen=True)
class Answer:
    """What a method says of a problem.

    Attributes
    ----------
    shares : array of shape (k,)
        Estimated probabilities of the problem's events.
    log_z, log_z_se : float
        Log evidence with its stated standard error; NaN where the method says nothing.
    evaluations : int
        Points at which the likelihood, or the density with its gradient, was computed.
    warnings : tuple of str
        What the method warns of.
    share_se : float
        Largest stated standard error of a mode's share.
    """

    shares: np.ndarray
    log_z: float
    log_z_se: float
    evaluations: int
    warnings: tuple[str, ...] = ()
    share_se: float = np.nan


class Counted:
    """Likelihood and prior transform of a problem, one point or many at a time, with a count."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.evaluations = 0

    def log_likelihood(self, theta: np.ndarray) -> np.ndarray:
        """Log likelihood of parameters (n, d)."""
        self.evaluations += len(theta)
        # Densities of points far out may overflow to minus infinity.
        with np.errstate(all="ignore"):
            found = self.problem.log_likelihood(theta)
        return np.where(np.isfinite(found), found, -1e300)

    def one(self, theta: np.ndarray) -> float:
        """Log likelihood of one point (d,)."""
        return float(self.log_likelihood(np.asarray(theta)[None])[0])

    def from_unit(self, u: np.ndarray) -> np.ndarray:
        """Parameters (n, d) of points of the unit cube."""
        return self.problem.from_unit(np.asarray(u))

    def from_unit_one(self, u: np.ndarray) -> np.ndarray:
        """Parameters (d,) of one point of the unit cube."""
        return self.problem.from_unit(np.asarray(u)[None])[0]

    def of_unit(self, u: np.ndarray) -> np.ndarray:
        """Log likelihood of points of the unit cube (n, d)."""
        return self.log_likelihood(self.from_unit(u))

    def of_scores(self, z: np.ndarray) -> float:
        """Log density of one point of normal scores, for which the prior is standard normal."""
        z = np.ravel(z)
        prior = -0.5 * z @ z - 0.5 * len(z) * np.log(2 * np.pi)
        return float(self.of_unit(ndtr(z)[None])[0] + prior)
