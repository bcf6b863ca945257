"""What the particles of a tempered search say of a fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp, pdtrc

from pymc_multimodal.challenge.climbs import missing_log_mass, unknown_modes
from pymc_multimodal.challenge.result import ChallengeResult
from pymc_multimodal.challenge.statuses import (
    inconclusive_status,
    more_mass_status,
    unknown_modes_status,
    unvisited_status,
)
from pymc_multimodal.moves.local import move, state_at
from pymc_multimodal.search import climb_from, modes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.challenge.result import FitCandidate
    from pymc_multimodal.challenge.tempered import Particles
    from pymc_multimodal.evidence import Weights
    from pymc_multimodal.search import ModeSearch, Search
    from pymc_multimodal.status import Status

__all__ = ["Endpoints", "Finding", "assess_particles", "endpoints_of", "particle_masses"]

# Share of a region's draws whose log ratios are exceeded by those of a surprising endpoint.
# Measured: examples/benchmarks/constants.py
TAIL = 1e-3
# Surprising endpoints of a region count as a finding if chance brings as many with a smaller
# probability than this. Measured: examples/benchmarks/constants.py
SIGNIFICANCE = 1e-4
# Surprising endpoints of a region that are examined, at most, and moves made from each of them.
# Measured: examples/benchmarks/constants.py
EXAMINED, MOVES = 16, 40
# Fewest independent particles, and fewest islands, from which masses are estimated: with ten, a
# standard error of about a third; with eight islands, errors that are known within a quarter.
MIN_EFFECTIVE, MIN_ISLANDS = 10.0, 8
# A mass by the search exceeds that by the bridge if the difference is more joint standard errors
# and more posterior mass than this: one in 30,000 by chance for a normal distribution.
# Conventional.
REPORTED_SE, MIN_REPORTED_MASS = 4.0, 1e-3
# Largest share of a region's endpoints that counts as unvisited, so that its log mass is finite.
MAX_UNVISITED = 0.99
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


def assess_particles(
    candidate: FitCandidate,
    search: Search,
    settings: ModeSearch,
    pilot: Particles,
    particles: Particles | None,
    rng: np.random.Generator,
) -> tuple[Search, ChallengeResult]:
    """Compare a fit with the endpoints of a tempered search.

    A surprising endpoint proves the fit incomplete if a climb from it ends in an unknown mode, or
    if the region's own moves from there do not return to the region's draws.

    Parameters
    ----------
    candidate : FitCandidate
    search : Search
    settings : ModeSearch
    pilot : Particles
        Few particles, from which the schedule of temperatures was learned.
    particles : Particles or None
        The others, if there were evaluations enough for them.
    rng : numpy.random.Generator

    Returns
    -------
    search : Search
        With the climbs that were made.
    result : ChallengeResult
        ``missed_by_fit`` is that of this fit.

    Raises
    ------
    LimitReached
        If the density refuses evaluations and a limit of the fit is reached.
    SymmetryBroken
        If an image of a particle has another log density.
    """
    k, dim = len(candidate.draws), candidate.target.dim
    if not pilot.arrived:
        cause = "its particles did not reach the posterior"
        return search, ChallengeResult.unknown(k, dim, cause)
    points = endpoints_of(candidate, [pilot] if particles is None else [pilot, particles])
    examined = np.concatenate([_surprising(points, j) for j in range(k)])
    search, by_climbs, is_unknown = _climb(candidate, search, settings, points, examined)
    stays = np.zeros(len(points), dtype=bool)
    rest = examined[~is_unknown]
    stays[rest] = _stays(points.x[rest], points.region[rest], candidate, rng)
    finding = by_climbs.joined(_unvisited(points, examined, stays, k))
    if particles is None:
        cause = "the fit was too short for a share of it to reach far"
        result = ChallengeResult.unknown(k, dim, cause)
        return search, replace(
            result,
            counterexamples=finding.counterexamples,
            gap=finding.gap,
            statuses=(*finding.statuses, *result.statuses),
        )
    return search, _conclude(points, finding, pilot, particles, candidate.weights)


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


def _surprising(points: Endpoints, k: int) -> np.ndarray:
    """Return surprising endpoints of region k of different roots, the most surprising first."""
    own = np.flatnonzero((points.region == k) & (points.excess > 0))
    own = own[np.argsort(-points.excess[own], kind="stable")]
    first = np.sort(np.unique(points.root[own], return_index=True)[1])
    return own[first[:EXAMINED]]


# ------------------------------------------------------------------ unknown modes


def _climb(
    candidate: FitCandidate,
    search: Search,
    settings: ModeSearch,
    points: Endpoints,
    examined: np.ndarray,
) -> tuple[Search, Finding, np.ndarray]:
    """Climb from surprising endpoints; also tell which of them climb to an unknown mode."""
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


# ------------------------------------------------------------------ unvisited places


def _stays(
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


def _unvisited(points: Endpoints, examined: np.ndarray, stays: np.ndarray, k: int) -> Finding:
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
    """
    finding = Finding.none(points, k)
    for j in range(k):
        own = points.region == j
        surprising = own & (points.excess > 0)
        of = examined[points.region[examined] == j]
        # The endpoints that were not examined are taken to be like the others.
        share = stays[of].mean() if len(of) else 0.0
        count = share * len(np.unique(points.root[surprising]))
        expected = TAIL * np.sum(own)
        # Probability of at least `count` for a Poisson distribution.
        if count < 2 or pdtrc(np.floor(count) - 1, expected) > SIGNIFICANCE:
            continue
        unvisited = min(count / np.sum(own), MAX_UNVISITED)
        gap = np.zeros(k)
        gap[j] = -np.log1p(-unvisited)
        status = unvisited_status(j, unvisited)
        found = Finding(points.x[of[stays[of]]], surprising, gap, (status,))
        finding = finding.joined(found)
    return finding


# ------------------------------------------------------------------ masses


def particle_masses(
    particles: Particles, region: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the log evidence of each region by the particles.

    Parameters
    ----------
    particles : Particles
    region : array of int, shape (n,)
        Region of each particle, -1 for none.
    k : int
        Number of regions.

    Returns
    -------
    log_mass, log_mass_se : arrays of shape (K,)
        In nats; the standard error is that of independent islands.
    """
    m, top = particles.n_islands, particles.log_weight.max()
    size = np.bincount(particles.island, minlength=m)
    mass = np.zeros((m, k))
    some = region >= 0
    cells = (particles.island[some], region[some])
    np.add.at(mass, cells, np.exp(particles.log_weight[some] - top))
    # Islands of a longer search are larger, and count by their size.
    weight = size / size.sum()
    mean = weight @ mass
    error = np.sqrt((weight**2 @ (mass - mean) ** 2) * m / (m - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(mean) + top, error / mean


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


def _by_masses(points: Endpoints, particles: Particles, gap: np.ndarray) -> Finding:
    """Return the finding of the regions in which the search finds more mass, by `gap` nats."""
    n = len(particles)
    finding = replace(Finding.none(points, len(gap)), gap=gap)
    examples, statuses = [points.x[:0]], []
    for j in np.flatnonzero(gap):
        own = np.flatnonzero(points.region[-n:] == j)
        apart = own[np.unique(particles.root[own], return_index=True)[1]]
        examples.append(particles.x[apart[:EXAMINED]])
        statuses.append(more_mass_status(int(j), gap[j]))
    return replace(finding, counterexamples=np.concatenate(examples), statuses=tuple(statuses))


def _conclude(
    points: Endpoints,
    finding: Finding,
    pilot: Particles,
    particles: Particles,
    weights: Weights,
) -> ChallengeResult:
    """Estimate masses, and what fit and search have missed."""
    k, n = len(weights.weight), len(particles)
    region = points.region[-n:]
    effective = 1.0 / float(np.sum(np.bincount(particles.root, particles.share) ** 2))
    enough = effective >= MIN_EFFECTIVE
    log_mass, log_mass_se = particle_masses(particles, region, k)
    if enough and particles.n_islands >= MIN_ISLANDS:
        gap = _excess_mass(log_mass, log_mass_se, weights)
        finding = finding.joined(_by_masses(points, particles, gap))
    # The particles of the pilot come first; the two searches count by their numbers of particles.
    unknown = finding.unknown
    first = float(pilot.share[unknown[:-n]].sum()) * len(pilot)
    by_fit = (first + n * float(particles.share[unknown[-n:]].sum())) / (len(pilot) + n)
    by_search = float(weights.weight[~np.isin(np.arange(k), region)].sum())
    cause = "" if enough else f"its particles count as {effective:.0f} independent ones"
    result = ChallengeResult(
        counterexamples=finding.counterexamples,
        log_mass=log_mass,
        log_mass_se=log_mass_se,
        gap=finding.gap,
        effective=effective,
        missed_by_fit=by_fit,
        missed_by_search=by_search,
        missed_mass=float("nan"),
        missed_by_fit_upper=1.0,
        inconclusive=cause,
        n_climbs=0,
        statuses=finding.statuses if enough else (*finding.statuses, inconclusive_status(cause)),
    )
    return with_missed_mass(result, by_fit)


def with_missed_mass(result: ChallengeResult, missed_by_fit: float) -> ChallengeResult:
    """Estimate what both searches missed, from what the first fit missed.

    Parameters
    ----------
    result : ChallengeResult
    missed_by_fit : float
        Share of the search's mass in places that the first fit did not know.

    Returns
    -------
    ChallengeResult

    Notes
    -----
    Capture-recapture estimate with the correction of Chapman (1951), and an upper 95 % bound of a
    Poisson count.
    """
    n = result.effective
    count = n * missed_by_fit
    both = (count + 1) * (n * result.missed_by_search + 1) / (n + 1) ** 2
    return replace(
        result,
        missed_by_fit=missed_by_fit,
        missed_mass=both if n >= MIN_EFFECTIVE else float("nan"),
        missed_by_fit_upper=min(1.0, (count + 2 * np.sqrt(count) + 3) / n),
    )
