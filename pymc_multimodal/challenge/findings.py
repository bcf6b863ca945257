"""Tests of a fit by the endpoints of a tempered search, and what each of them found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp, pdtrc

from pymc_multimodal.challenge.climbs import missing_log_mass, unknown_modes
from pymc_multimodal.challenge.endpoints import EXAMINED, TAIL
from pymc_multimodal.challenge.statuses import (
    more_mass_status,
    unknown_modes_status,
    unvisited_status,
)
from pymc_multimodal.search import climb_from, modes_of

if TYPE_CHECKING:
    from pymc_multimodal.challenge.endpoints import Endpoints
    from pymc_multimodal.challenge.result import FitCandidate
    from pymc_multimodal.challenge.tempered import Particles
    from pymc_multimodal.evidence import Weights
    from pymc_multimodal.search import ModeSearch, Search
    from pymc_multimodal.status import Status

__all__ = [
    "Finding",
    "find_excess_mass",
    "find_unknown_modes",
    "find_unvisited",
    "within_masses",
]

# Surprising endpoints of a region count as a finding if chance brings as many with a smaller
# probability than this. Measured: examples/benchmarks/constants.py
SIGNIFICANCE = 1e-4
# A mass by the search exceeds that by the bridge if the difference is more joint standard errors
# and more posterior mass than this: one in 30,000 by chance for a normal distribution.
# Conventional.
REPORTED_SE, MIN_REPORTED_MASS = 4.0, 1e-3
# Largest share of a region's endpoints that counts as unvisited, so that its log mass is finite.
MAX_UNVISITED = 0.99


@dataclass(frozen=True)
class Finding:
    """What one test of a fit of K regions found.

    Attributes
    ----------
    counterexamples : array of shape (m, d)
    unknown : array of bool, shape (n,)
        Endpoints in places that the fit did not know.
    gap : array of shape (K,)
        Error of each region's log evidence (nats).
    statuses : tuple of Status
    """

    counterexamples: np.ndarray
    unknown: np.ndarray
    gap: np.ndarray
    statuses: tuple[Status, ...] = ()

    @classmethod
    def none(cls, points: Endpoints, n_regions: int) -> Finding:
        """Return the finding of a test that the fit has passed."""
        return cls(points.x[:0], np.zeros(len(points), dtype=bool), np.zeros(n_regions))

    def joined(self, other: Finding) -> Finding:
        """Return the findings of both."""
        return Finding(
            np.concatenate([self.counterexamples, other.counterexamples]),
            self.unknown | other.unknown,
            np.maximum(self.gap, other.gap),
            (*self.statuses, *other.statuses),
        )


def find_unknown_modes(
    candidate: FitCandidate,
    search: Search,
    settings: ModeSearch,
    points: Endpoints,
    examined: np.ndarray,
) -> tuple[Search, Finding, np.ndarray]:
    """Climb from surprising endpoints to modes that the fit does not have.

    Parameters
    ----------
    candidate : FitCandidate
    search : Search
    settings : ModeSearch
    points : Endpoints
    examined : array of int, shape (m,)
        Surprising endpoints to climb from.

    Returns
    -------
    search : Search
        With the climbs.
    finding : Finding
    is_unknown : array of bool, shape (m,)
        Which of them climb to unknown modes.
    """
    finding = Finding.none(points, len(candidate.draws))
    is_unknown = np.zeros(len(examined), dtype=bool)
    if not len(examined) or candidate.known.runaway:
        return search, finding, is_unknown
    density = candidate.target.density
    search, labels = climb_from(density, search, settings, points.x[examined])
    found = modes_of(density, search, settings)
    unknown = unknown_modes(candidate, search, found)
    is_unknown = (labels >= 0) & unknown[labels]
    finding = replace(finding, gap=missing_log_mass(candidate, search, found, unknown))
    if is_unknown.any():
        finding = replace(
            finding,
            counterexamples=points.x[examined[is_unknown]],
            unknown=_alike(points, examined, is_unknown),
            statuses=(unknown_modes_status(),),
        )
    return search, finding, is_unknown


def _alike(points: Endpoints, examined: np.ndarray, is_unknown: np.ndarray) -> np.ndarray:
    """Tell which endpoints are in unknown modes, bool of shape (n,), from those examined.

    Endpoints of the same region are taken to be in unknown modes, too, if their excess is as large.
    """
    alike = np.zeros(len(points), dtype=bool)
    for j in np.unique(points.region[examined[is_unknown]]):
        of = points.region[examined] == j
        excess = points.excess[examined[of]]
        least = 0.0 if is_unknown[of].all() else excess[is_unknown[of]].min()
        alike |= (points.region == j) & (points.excess > 0) & (points.excess >= least)
    return alike


def find_unvisited(points: Endpoints, examined: np.ndarray, stays: np.ndarray, k: int) -> Finding:
    """Find the regions with more surprising endpoints than chance brings.

    Parameters
    ----------
    points : Endpoints
    examined : array of int
        Surprising endpoints that were examined.
    stays : array of bool, shape (n,)
        Endpoints from which moves do not return to the draws.
    k : int
        Number of regions.

    Returns
    -------
    Finding
    """
    finding = Finding.none(points, k)
    for j in range(k):
        own = points.region == j
        surprising = own & (points.excess > 0)
        of = examined[points.region[examined] == j]
        # The endpoints that were not examined are taken to be like the others.
        share = stays[of].mean() if len(of) else 0.0
        # Endpoints of one root are one piece of evidence; chance brings roots, not copies.
        count = share * len(np.unique(points.root[surprising]))
        expected = TAIL * len(np.unique(points.root[own]))
        # Probability of at least `count` for a Poisson distribution.
        if count < 2 or pdtrc(np.floor(count) - 1, expected) > SIGNIFICANCE:
            continue
        unvisited = min(share * np.sum(surprising) / np.sum(own), MAX_UNVISITED)
        gap = np.zeros(k)
        gap[j] = -np.log1p(-unvisited)
        status = unvisited_status(j, unvisited)
        found = Finding(points.x[of[stays[of]]], surprising, gap, (status,))
        finding = finding.joined(found)
    return finding


def within_masses(
    finding: Finding, log_mass: np.ndarray, log_mass_se: np.ndarray, weights: Weights
) -> Finding:
    """Lower the gaps of unvisited places to what the particles' own weights allow.

    Particles that did not reach equilibrium crowd in tails: nearly all particles of a region may be
    in a place that holds a thousandth of its mass.

    Parameters
    ----------
    finding : Finding
        Of `find_unvisited`.
    log_mass, log_mass_se : arrays of shape (K,)
        Log evidence of each region by the particles, and its standard error.
    weights : Weights
        The bridge's estimates.
    """
    share = -np.expm1(-finding.gap)
    with np.errstate(over="ignore", invalid="ignore"):
        most = np.log1p(share * np.exp(log_mass + REPORTED_SE * log_mass_se - weights.log_evidence))
    return replace(finding, gap=np.fmin(finding.gap, most))


def find_excess_mass(
    points: Endpoints,
    particles: Particles,
    log_mass: np.ndarray,
    log_mass_se: np.ndarray,
    weights: Weights,
) -> Finding:
    """Find the regions in which the search finds more mass than the bridge, beyond chance.

    Parameters
    ----------
    points : Endpoints
        Those of `particles` come last.
    particles : Particles
    log_mass, log_mass_se : arrays of shape (K,)
        Log evidence of each region by the particles, and its standard error.
    weights : Weights
        The bridge's estimates.

    Returns
    -------
    Finding
    """
    gap = _excess_mass(log_mass, log_mass_se, weights)
    region = points.region[len(points) - len(particles) :]
    examples, statuses = [points.x[:0]], []
    for j in np.flatnonzero(gap):
        own = np.flatnonzero(region == j)
        apart = own[np.unique(particles.root[own], return_index=True)[1]]
        examples.append(particles.x[apart[:EXAMINED]])
        statuses.append(more_mass_status(int(j), gap[j]))
    none = np.zeros(len(points), dtype=bool)
    return Finding(np.concatenate(examples), none, gap, tuple(statuses))


def _excess_mass(log_mass: np.ndarray, log_mass_se: np.ndarray, weights: Weights) -> np.ndarray:
    """Return by how many nats the search finds more mass than the bridge, beyond chance, (K,)."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = log_mass - weights.log_evidence
        # Compared on the scale of the mass, on which the search's estimate is a mean.
        excess = 1.0 - np.exp(-difference)
        joint = np.hypot(log_mass_se, weights.log_evidence_se * np.exp(-difference))
        share = excess * np.exp(log_mass - logsumexp(weights.log_evidence))
        larger = (excess > REPORTED_SE * joint) & (share > MIN_REPORTED_MASS)
        return np.where(larger, difference, 0.0)
