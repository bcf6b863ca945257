"""What the particles of a tempered search say of a fit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.challenge.endpoints import endpoints_of, stay_away, surprising
from pymc_multimodal.challenge.findings import (
    find_excess_mass,
    find_unknown_modes,
    find_unvisited,
    within_masses,
)
from pymc_multimodal.challenge.result import ChallengeResult
from pymc_multimodal.challenge.statuses import inconclusive_status
from pymc_multimodal.status import counted

if TYPE_CHECKING:
    from pymc_multimodal.challenge.endpoints import Endpoints
    from pymc_multimodal.challenge.findings import Finding
    from pymc_multimodal.challenge.result import FitCandidate
    from pymc_multimodal.challenge.tempered import Particles
    from pymc_multimodal.evidence import Weights
    from pymc_multimodal.search import ModeSearch, Search

__all__ = ["MIN_ISLANDS", "assess_particles", "particle_masses"]

# Fewest independent particles, and fewest islands, from which masses are estimated: with ten, a
# standard error of about a third; with eight islands, errors that are known within a quarter.
MIN_EFFECTIVE, MIN_ISLANDS = 10.0, 8


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
    examined = np.concatenate([surprising(points, j) for j in range(k)])
    search, by_climbs, is_unknown = find_unknown_modes(
        candidate, search, settings, points, examined
    )
    stays = np.zeros(len(points), dtype=bool)
    rest = examined[~is_unknown]
    stays[rest] = stay_away(points.x[rest], points.region[rest], candidate, rng)
    unvisited = find_unvisited(points, examined, stays, k)
    if particles is None:
        cause = "its share of the evaluations was too small for enough particles"
        finding = by_climbs.joined(unvisited)
        result = ChallengeResult.unknown(k, dim, cause)
        return search, replace(
            result,
            counterexamples=finding.counterexamples,
            gap=finding.gap,
            statuses=(*finding.statuses, *result.statuses),
        )
    return search, _conclude(points, by_climbs, unvisited, pilot, particles, candidate.weights)


def _conclude(
    points: Endpoints,
    by_climbs: Finding,
    unvisited: Finding,
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
    finding = by_climbs.joined(within_masses(unvisited, log_mass, log_mass_se, weights))
    if enough and particles.n_islands >= MIN_ISLANDS:
        more = find_excess_mass(points, particles, log_mass, log_mass_se, weights)
        finding = finding.joined(more)
    # The particles of the pilot come first; the two searches count by their numbers of particles.
    unknown = finding.unknown
    first = float(pilot.share[unknown[:-n]].sum()) * len(pilot)
    by_fit = (first + n * float(particles.share[unknown[-n:]].sum())) / (len(pilot) + n)
    by_search = float(weights.weight[~np.isin(np.arange(k), region)].sum())
    cause = (
        "" if enough else f"its particles count as {counted(round(effective), 'independent one')}"
    )
    return ChallengeResult(
        counterexamples=finding.counterexamples,
        log_mass=log_mass,
        log_mass_se=log_mass_se,
        gap=finding.gap,
        effective=effective,
        missed_by_fit=by_fit,
        missed_by_search=by_search,
        inconclusive=cause,
        n_climbs=0,
        statuses=finding.statuses if enough else (*finding.statuses, inconclusive_status(cause)),
    )


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
    size = particles.island_sizes
    mass = np.zeros((m, k))
    some = region >= 0
    cells = (particles.island[some], region[some])
    np.add.at(mass, cells, np.exp(particles.log_weight[some] - top))
    # Islands of a longer search are larger, and count by their size.
    weight = size / size.sum()
    mean = weight @ mass
    # The variances of the islands may have any size; if they are inverse to the islands' sizes, the
    # estimate has no bias.
    error = np.sqrt(weight**2 @ (mass - mean) ** 2 / (1.0 - np.sum(weight**2)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(mean) + top, error / mean
