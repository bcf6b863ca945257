"""One round of the challenge: a tempered search, what it says of a fit, and further climbs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.challenge.assess import MIN_ISLANDS, assess_particles
from pymc_multimodal.challenge.climbs import (
    climb_starts,
    climb_within,
    missing_log_mass,
    unknown_modes,
)
from pymc_multimodal.challenge.reference import Reference
from pymc_multimodal.challenge.statuses import inconclusive_status, unknown_modes_status
from pymc_multimodal.challenge.tempered import tempered_smc
from pymc_multimodal.search import modes_of
from pymc_multimodal.status import LimitReached

if TYPE_CHECKING:
    from pymc_multimodal.challenge.result import ChallengeResult, FitCandidate
    from pymc_multimodal.challenge.settings import Challenge
    from pymc_multimodal.challenge.tempered import Particles
    from pymc_multimodal.search import ModeSearch, Search
    from pymc_multimodal.target.density import Density

__all__ = ["ChallengeState", "begin_challenge", "challenge", "extend_particles"]

# Particles of the pilot, from which the schedule of temperatures is learned: 32 below 12,000
# evaluations, 64 below 20,000, 128 from there on. In many dimensions there are many temperatures,
# and 128 particles would use up all evaluations. Measured: examples/benchmarks/constants.py
PILOT_SIZES, PILOT_EVALS = (32, 64, 128), (12_000, 20_000)
# Fewest particles of an island; particles of an island from which on there are eight islands, and
# not four; particles of one search at most. Measured: examples/benchmarks/constants.py
MIN_ISLAND_SIZE, FULL_ISLAND_SIZE, MAX_PARTICLES = 8, 32, 4096
# Evaluations of the further climbs, in units of those of the tempered search. Conventional: see
# `Challenge.climbs`.
CLIMBS_SHARE = 2


@dataclass(frozen=True)
class ChallengeState:
    """What the challenges of a fit and of its successors have found.

    Attributes
    ----------
    counterexamples : array of shape (n, d)
        Points that proved fits incomplete, of all rounds after which the fit is done again.
    rounds_left : int
        How often the fit may still be done again.
    repeat : bool
        Whether the last fit was proved incomplete and has to be done again.
    pilot, particles : Particles or None
        Endpoints of the search that learned the schedule of temperatures, and of all later ones.
    particle_evals : float
        Evaluations that one particle costs.
    missed_by_first_fit : float
        Share of the search's mass in places that the first fit did not know; NaN if not known yet.
    fit_evals : int
        Evaluations of the fit at the end of the last challenge.
    n_climbs : int
        Further climbs so far.
    """

    counterexamples: np.ndarray
    rounds_left: int
    repeat: bool = False
    pilot: Particles | None = None
    particles: Particles | None = None
    particle_evals: float = 0.0
    missed_by_first_fit: float = float("nan")
    fit_evals: int = 0
    n_climbs: int = 0


def begin_challenge(settings: Challenge, dim: int) -> ChallengeState:
    """Return the state before the first challenge of a fit in `dim` dimensions."""
    return ChallengeState(np.empty((0, dim)), settings.rounds)


def challenge(
    candidate: FitCandidate,
    search: Search,
    state: ChallengeState,
    settings: Challenge,
    modes: ModeSearch,
    fit_evals: int,
    rng: np.random.Generator,
) -> tuple[ChallengeState, Search, ChallengeResult]:
    """Try to prove a fit incomplete.

    A tempered search that does not depend on the fit spends a share of the fit's evaluations. Its
    particles are compared with the fit. Then climbs to modes are made from where the first search
    did not begin.

    Parameters
    ----------
    candidate : FitCandidate
    search : Search
        The search for modes so far.
    state : ChallengeState
    settings : Challenge
    modes : ModeSearch
        Settings of the climbs.
    fit_evals : int
        Evaluations of the fit so far, earlier challenges included.
    rng : numpy.random.Generator
        Three are spawned from it: for the tempered search, the moves from its particles, and the
        climbs.

    Returns
    -------
    state : ChallengeState
        ``state.repeat`` tells whether the fit has to be done again: there are counterexamples, and
        rounds were left.
    search : Search
        With the climbs that were made.
    result : ChallengeResult

    Raises
    ------
    LimitReached
        If the density refuses evaluations and a limit of the fit is reached before the result is
        known. A limit reached during the further climbs only ends these.
    SymmetryBroken
        If an image of a particle has another log density.
    """
    density = candidate.target.density
    before = density.n_logp_evals
    n_evals = max(settings.share * (fit_evals - state.fit_evals), settings.min_evals)
    particle_rng, move_rng, climb_rng = rng.spawn(3)
    reference = Reference(search.centre, search.spread, density.period)
    state = extend_particles(density, reference, state, n_evals, particle_rng)
    assert state.pilot is not None
    search, result = assess_particles(
        candidate, search, modes, state.pilot, state.particles, move_rng
    )
    if np.isfinite(result.missed_by_fit):
        if np.isfinite(state.missed_by_first_fit):
            result = replace(result, missed_by_fit=state.missed_by_first_fit)
        state = replace(state, missed_by_first_fit=result.missed_by_fit)
    if settings.climbs and not candidate.known.runaway:
        try:
            starts = climb_starts(
                density, search.optima.images(), _intermediate(state), reference,
                settings.climbs, climb_rng,
            )  # fmt: skip
        except LimitReached:
            starts = np.empty((0, density.dim))
        search, n_climbs = climb_within(density, search, modes, starts, CLIMBS_SHARE * n_evals)
        if n_climbs:
            result = _with_climbs(candidate, search, modes, result, n_climbs)
    state = replace(
        state,
        fit_evals=fit_evals + density.n_logp_evals - before,
        n_climbs=state.n_climbs + result.n_climbs,
    )
    return _next_round(state, result), search, replace(result, n_climbs=state.n_climbs)


def extend_particles(
    density: Density,
    reference: Reference,
    state: ChallengeState,
    n_evals: float,
    rng: np.random.Generator,
) -> ChallengeState:
    """Search with about `n_evals` evaluations more.

    The search depends on a fit by its number of particles alone.

    Parameters
    ----------
    density : Density
    reference : Reference
        Where the particles begin.
    state : ChallengeState
    n_evals : float
    rng : numpy.random.Generator

    Returns
    -------
    ChallengeState
        Without more particles if the evaluations suffice for too few, or if no particle is inside
        of the support.

    Raises
    ------
    LimitReached
        If the density refuses evaluations and a limit of the fit is reached.
    """
    before = density.n_logp_evals
    if (pilot := state.pilot) is None:
        size = PILOT_SIZES[int(np.searchsorted(PILOT_EVALS, n_evals, side="right"))]
        pilot = tempered_smc(density, reference, 1, size, rng)
        price = (density.n_logp_evals - before) / len(pilot)
        state = replace(state, pilot=pilot, particle_evals=price)
    left = n_evals - (density.n_logp_evals - before)
    n = int(min(left / state.particle_evals, MAX_PARTICLES))
    islands = MIN_ISLANDS if n >= FULL_ISLAND_SIZE * MIN_ISLANDS else MIN_ISLANDS // 2
    if n < MIN_ISLAND_SIZE * islands or not pilot.arrived:
        return state
    more = tempered_smc(density, reference, islands, n // islands, rng, pilot.schedule)
    if not np.isfinite(more.log_weight).any():
        return state
    known = state.particles
    return replace(state, particles=more if known is None else known.joined(more))


def _intermediate(state: ChallengeState) -> np.ndarray:
    """Return the intermediate particles of all searches, shape (m, d)."""
    runs = [run for run in (state.pilot, state.particles) if run is not None]
    return np.concatenate([run.intermediate for run in runs])


def _with_climbs(
    candidate: FitCandidate,
    search: Search,
    modes: ModeSearch,
    result: ChallengeResult,
    n_climbs: int,
) -> ChallengeResult:
    """Add what further climbs found to the result of a tempered search."""
    found = modes_of(candidate.target.density, search, modes)
    unknown = unknown_modes(candidate, search, found)
    statuses = result.statuses
    if result.inconclusive:
        old = inconclusive_status(result.inconclusive)
        new = inconclusive_status(result.inconclusive, n_climbs)
        statuses = tuple(new if s == old else s for s in statuses)
    if unknown.any() and unknown_modes_status() not in statuses:
        statuses = (unknown_modes_status(), *statuses)
    return replace(
        result,
        counterexamples=np.concatenate([result.counterexamples, found.locations[unknown]]),
        gap=np.maximum(result.gap, missing_log_mass(candidate, search, found, unknown)),
        n_climbs=n_climbs,
        statuses=statuses,
    )


def _next_round(state: ChallengeState, result: ChallengeResult) -> ChallengeState:
    """Return the state after a challenge: whether the fit is done again, and from which points."""
    if not len(result.counterexamples) or not state.rounds_left:
        return replace(state, repeat=False)
    return replace(
        state,
        counterexamples=np.concatenate([state.counterexamples, result.counterexamples]),
        rounds_left=state.rounds_left - 1,
        repeat=True,
    )
