"""Particles of a tempered search as a fit sees them: in which regions, and how surprising."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.moves import move, state_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.challenge.result import FitCandidate
    from pymc_multimodal.challenge.tempered import Particles

__all__ = ["EXAMINED", "TAIL", "Endpoints", "endpoints_of", "stay_away", "surprising"]

# Share of a region's draws whose log ratios are exceeded by those of a surprising endpoint.
# Measured: examples/benchmarks/constants.py
TAIL = 1e-3
# Surprising endpoints of a region that are examined, at most, and moves made from each of them.
# Measured: examples/benchmarks/constants.py
EXAMINED, MOVES = 16, 40
# Distance between the roots of two searches: larger than any number of particles.
ROOT_OFFSET = 10**9


@dataclass(frozen=True)
class Endpoints:
    """Particles of all searches at the posterior.

    Attributes
    ----------
    x : array of shape (n, d)
        In the cells of the target.
    region : array of int, shape (n,)
        -1 outside of the support.
    root : array of int, shape (n,)
        Endpoints of one root are not independent.
    excess : array of shape (n,)
        Nats by which the log ratio of target to region's density exceeds the log ratios of all but
        a thousandth of the region's draws. Endpoints with a positive excess are surprising.
    """

    x: np.ndarray
    region: np.ndarray
    root: np.ndarray
    excess: np.ndarray

    def __len__(self) -> int:
        return len(self.x)


def endpoints_of(candidate: FitCandidate, runs: Sequence[Particles]) -> Endpoints:
    """Return the endpoints of searches as a fit sees them.

    Parameters
    ----------
    candidate : FitCandidate
    runs : sequence of Particles

    Returns
    -------
    Endpoints

    Raises
    ------
    SymmetryBroken
        If an image of a particle has another log density.
    """
    target = candidate.target
    x, logp = (np.concatenate([getattr(run, name) for run in runs]) for name in ("x", "logp"))
    inside = np.isfinite(logp)
    x[inside] = target.fold(x[inside])
    target.confirm(x[inside], logp[inside])
    logp[inside] += target.log_multiplicity(x[inside])
    region = np.full(len(x), -1)
    region[inside] = candidate.partition.label(x[inside])
    root = np.concatenate([run.root + ROOT_OFFSET * i for i, run in enumerate(runs)])
    return Endpoints(x, region, root, _excess(x, logp, region, candidate))


def _excess(
    x: np.ndarray, logp: np.ndarray, region: np.ndarray, candidate: FitCandidate
) -> np.ndarray:
    """Return the excess of log ratios (see `Endpoints`), shape (n,); -inf outside of regions."""
    excess = np.full(len(x), -np.inf)
    draws = candidate.draws
    for k, q in enumerate(candidate.densities):
        own = np.flatnonzero(region == k)
        if len(own):
            log_q = q.log_density(draws.x[k].reshape(-1, x.shape[1]))
            limit = np.quantile(draws.logp[k].ravel() - log_q, 1.0 - TAIL)
            excess[own] = logp[own] - q.log_density(x[own]) - limit
    return excess


def surprising(points: Endpoints, k: int) -> np.ndarray:
    """Return surprising endpoints of region k of different roots, the most surprising first."""
    own = np.flatnonzero((points.region == k) & (points.excess > 0))
    own = own[np.argsort(-points.excess[own], kind="stable")]
    first = np.sort(np.unique(points.root[own], return_index=True)[1])
    return own[first[:EXAMINED]]


def stay_away(
    x: np.ndarray, region: np.ndarray, candidate: FitCandidate, rng: np.random.Generator
) -> np.ndarray:
    """Tell from which points, (n, d), the region's own moves do not return to its draws.

    If they return, the region's chains would have reached the point as easily: the tempered search
    was not quite in equilibrium.
    """
    if not len(x):
        return np.zeros(0, dtype=bool)
    state = state_at(candidate.target, x, region)
    within = candidate.partition.label if candidate.partition.n_regions > 1 else None
    for _ in range(MOVES):
        state, _ = move(candidate.target, state, candidate.parameters, rng, label=within)
    return _excess(state.x, state.logp, region, candidate) > 0
