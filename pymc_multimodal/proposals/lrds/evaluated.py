"""Paths of the reverse chain at whose ends the target is evaluated, and their effective share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.proposals.lrds.chain import ReverseChain
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["EvaluatedPaths", "EvaluatedPoints", "evaluate_chain", "path_ess"]


def path_ess(log_ratio: np.ndarray) -> float:
    """Effective share of weighted proposals, ``(sum w)^2 / (n sum w^2)``.

    Parameters
    ----------
    log_ratio : array of shape (n,)
        Log weights; those that are not finite count as weights of zero.

    Returns
    -------
    float
        Between 0 and 1.
    """
    finite = log_ratio[np.isfinite(log_ratio)]
    if not len(finite):
        return 0.0
    w = np.exp(finite - finite.max())
    return float(w.sum() ** 2 / (w**2).sum() / len(log_ratio))


@dataclass(frozen=True, eq=False)
class EvaluatedPoints:
    """Points whose log density is known: starts of the paths that are noised from them.

    Attributes
    ----------
    z : array of shape (n, d)
    logp : array of shape (n,)
        Log density of the target per unit of volume in z.
    """

    z: np.ndarray
    logp: np.ndarray

    def joined_with(self, other: EvaluatedPoints) -> EvaluatedPoints:
        """Return these points and others."""
        return EvaluatedPoints(
            np.concatenate([self.z, other.z]), np.append(self.logp, other.logp)
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class EvaluatedPaths:
    """Paths of the chain with the log densities of their ends.

    Attributes
    ----------
    path : array of shape (K + 1, m, d)
        Those whose ends have finite log densities.
    logp : array of shape (m,)
        Log densities of their ends, per unit of volume in z.
    log_ratio : array of shape (n,)
        Log ratios of target to chain of all n paths; ``-inf`` where the log density is not finite,
        or the end lies outside of all windows.
    """

    path: np.ndarray
    logp: np.ndarray
    log_ratio: np.ndarray

    @property
    def ends(self) -> EvaluatedPoints:
        """Ends of the paths."""
        return EvaluatedPoints(self.path[0], self.logp)


def evaluate_chain(
    chain: ReverseChain, density: LogDensity | None, n: int, rng: np.random.Generator
) -> EvaluatedPaths:
    """Draw n paths of the chain and evaluate the target at their ends; none without a density."""
    if density is None or not n:
        return EvaluatedPaths(np.empty((1, 0, chain.dim)), np.empty(0), np.empty(0))
    drawn = chain.draw(n, rng)
    inside = np.isfinite(drawn.log_density)
    logp = np.full(n, -np.inf)
    logp[inside] = density.logp(drawn.x[inside])
    log_ratio = np.full(n, -np.inf)
    log_ratio[inside] = logp[inside] - drawn.log_density[inside]
    finite = np.isfinite(logp)
    log_volume = chain.coordinates.log_volume
    return EvaluatedPaths(drawn.path[:, finite], logp[finite] + log_volume, log_ratio)
