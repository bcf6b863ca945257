"""When a region's moves change: jumps are fitted, trajectories get longer, records are dropped."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.moves.adaptation import fit_metric
from pymc_multimodal.moves.jumps import MixtureProposal, jump
from pymc_multimodal.regions.chains import (
    draws_of,
    extend_chains,
    jumps_of,
    largest_r_hat,
    n_draws,
)
from pymc_multimodal.regions.warmup import warm_up

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymc_multimodal.moves.jumps import JumpDensity
    from pymc_multimodal.regions.chains import Chains, RegionSampler
    from pymc_multimodal.regions.draws import RegionDraws
    from pymc_multimodal.regions.settings import LocalSampling

__all__ = [
    "advance_chains",
    "connect_regions",
    "escalate_regions",
    "short_regions",
    "try_jumps",
    "with_jump_acceptance",
]

# Acceptance of jumps from which on they carry chains through their region, so that trajectories
# need not be longer. Measured: examples/benchmarks/constants.py
WORKING_ACCEPTANCE = 0.15
# Rounds of jumps that acceptance is estimated from, and after a limit of the fit: with 16 chains an
# acceptance of one half is then known within 0.04, or 0.09. Conventional.
TRIAL_ROUNDS, MIN_TRIAL_ROUNDS = 10, 2
# Autocorrelation times of the local moves that a record with jumps has to last. Conventional.
AUTOCORRELATION_TIMES = 20.0
# Leapfrog steps that are enough for that: the autocorrelation time of chains that have not mixed is
# overestimated. Measured: examples/benchmarks/constants.py
MAX_RECORD_STEPS = 3200.0
# Leapfrog steps that cost as much as a jump and its draw; and most draws between two local moves.
# Measured: examples/benchmarks/constants.py
STEPS_PER_DRAW, MAX_DRAWS_PER_MOVE = 5, 8
# A region is far from passing where its R-hat is above this, or its ESS is less than this share of
# its draws. Measured: examples/benchmarks/constants.py
FAR_RHAT, FAR_EFFICIENCY = 1.05, 0.02
# Chains of a region with jumps stay stuck where their ESS is less than this share of their draws.
# Measured: examples/benchmarks/constants.py
STUCK_EFFICIENCY = 0.15
# A refitted jump density has to be accepted so many times as often as the one before, or no further
# one is fitted. Measured: examples/benchmarks/constants.py
MIN_GAIN = 1.3
# Effective draws that a better jump density is fitted from, and most jump densities of a region.
# Measured: examples/benchmarks/constants.py
MIN_FIT_ESS, MAX_FITS = 100, 4
# Smallest random factor of step sizes in regimes 1 and 2: curved regions are stiffer in their tails
# than where the step size was adapted, and chains that never shorten their steps do not enter them.
# Measured: examples/benchmarks/constants.py
VARIED_STEPS = 0.1
# Last windows of the warm-up that are repeated when a region's moves change. Conventional: one for
# the metric, one for the step size.
REPEATED_WINDOWS = 2


# ------------------------------------------------------------------ jumps


def try_jumps(
    sampler: RegionSampler, chains: Chains, regions: np.ndarray, rng: np.random.Generator
) -> tuple[Chains, np.ndarray]:
    """Let the chains of some regions jump; also the share of jumps they accept, shape (K,)."""
    if not chains.jumps:
        return chains, np.zeros(sampler.n_regions)
    rounds = MIN_TRIAL_ROUNDS if sampler.target.exhausted() else TRIAL_ROUNDS
    rows = np.isin(chains.state.region, regions)
    state = chains.state.take(rows)
    share = np.zeros(len(state.x))
    for _ in range(rounds):
        state, accepted = jump(sampler.target, state, chains.jumps, rng, label=sampler.label)
        share += accepted / rounds
    total = np.bincount(state.region, share, minlength=sampler.n_regions)
    count = np.bincount(state.region, minlength=sampler.n_regions)
    return replace(chains, state=chains.state.put(state, rows)), total / np.maximum(count, 1)


def with_jump_acceptance(chains: Chains, regions: np.ndarray, acceptance: np.ndarray) -> Chains:
    """Note the acceptance of new jump densities, and set how often local moves are made.

    Local moves shall not cost much more than jumps that work.
    """
    history, per_move = list(chains.jump_acceptance), chains.draws_per_move.copy()
    for k in regions:
        history[k] = (*history[k], float(acceptance[k]))
    ratio = np.round(chains.parameters.leapfrog[regions] / STEPS_PER_DRAW)
    per_move[regions] = np.where(
        acceptance[regions] >= WORKING_ACCEPTANCE, np.clip(ratio, 1, MAX_DRAWS_PER_MOVE), 1
    )
    return replace(chains, jump_acceptance=tuple(history), draws_per_move=per_move)


# ------------------------------------------------------------------ one pass


def short_regions(chains: Chains, settings: LocalSampling, until: int | None = None) -> np.ndarray:
    """Regions that do not pass their checks and have fewer draws than the limit.

    Parameters
    ----------
    chains : Chains
    settings : LocalSampling
    until : int, optional
        Most draws of each chain, `LocalSampling.max_draws` by default.

    Returns
    -------
    array of int
        Empty where nothing is left to do.
    """
    drawn = n_draws(chains)
    converged = chains.r_hat <= largest_r_hat(chains, settings)
    converged &= chains.ess >= chains.required * settings.min_ess
    lasted = drawn / chains.draws_per_move >= chains.min_moves
    limit = settings.max_draws if until is None else min(until, settings.max_draws)
    return np.flatnonzero(~(converged & lasted | chains.negligible) & (drawn < limit))


def advance_chains(
    sampler: RegionSampler, chains: Chains, rng: np.random.Generator, until: int | None = None
) -> Chains:
    """Work once on every region that `short_regions` returns.

    Regions that gain more by better moves than by more draws are escalated; the others get twice
    the draws they have.

    Parameters
    ----------
    sampler : RegionSampler
    chains : Chains
    rng : numpy.random.Generator
    until : int, optional
        Most draws of each chain, `LocalSampling.max_draws` by default. With such a limit no
        region is escalated.

    Returns
    -------
    Chains
    """
    short, drawn = short_regions(chains, sampler.settings, until), n_draws(chains)
    slow = [k for k in short if until is None and _gains_by_escalation(sampler, chains, int(k))]
    if slow:
        chains = escalate_regions(sampler, chains, np.array(slow), rng)
    rest = np.setdiff1d(short, slow)
    for size in np.unique(drawn[rest]):
        chains = extend_chains(sampler, chains, rest[drawn[rest] == size], int(size), rng)
    return chains


def _gains_by_escalation(sampler: RegionSampler, chains: Chains, k: int) -> bool:
    """Tell whether a region that does not pass gains more by better moves than by more draws."""
    settings, drawn = sampler.settings, len(chains.records[k])
    if drawn < 2 * settings.draws:
        return False
    accepted, efficiency = chains.jump_acceptance[k], chains.ess[k] / (drawn * settings.chains)
    if len(accepted) < 2:
        return bool(chains.r_hat[k] > FAR_RHAT or efficiency < FAR_EFFICIENCY)
    # A jump density that often fails, or leaves chains stuck, may be fitted better to draws that
    # were better themselves. Where a new fit was no better, none is tried again.
    learns = len(accepted) == 2 or accepted[-1] > MIN_GAIN * accepted[-2]
    # Chains that are stuck never have as many effective draws: near the limit any are enough.
    enough = chains.ess[k] >= MIN_FIT_ESS or 2 * drawn >= settings.max_draws
    return bool(learns and efficiency < STUCK_EFFICIENCY and enough and len(accepted) < MAX_FITS)


# ------------------------------------------------------------------ changes of moves


def escalate_regions(
    sampler: RegionSampler, chains: Chains, regions: np.ndarray, rng: np.random.Generator
) -> Chains:
    """Change regions to the next regime, and make a fresh record.

    Metric and jump density are fitted to all draws so far, step sizes are varied, and where
    jumps are rarely accepted in regime 1 trajectories become longer (regime 2).

    Parameters
    ----------
    sampler : RegionSampler
    chains : Chains
    regions : array of int
    rng : numpy.random.Generator

    Returns
    -------
    Chains
    """
    settings, draws = sampler.settings, draws_of(sampler, chains).take(regions)
    parameters, min_moves = chains.parameters, chains.min_moves.copy()
    scale, shortest = parameters.scale.copy(), parameters.shortest.copy()
    for i, k in enumerate(regions):
        scale[k] = _metric_of(sampler, draws, i, scale[k])
        shortest[k] = VARIED_STEPS
        min_moves[k] = _min_moves(chains, int(k))
    chains = replace(
        chains.without_records(regions),
        parameters=replace(parameters, scale=scale, shortest=shortest),
        min_moves=min_moves,
        jumps=_refitted_jumps(sampler, chains, draws, regions, rng),
    )
    chains, acceptance = try_jumps(sampler, chains, regions, rng)
    regime = chains.regime.copy()
    longer = (regime == 1) & (acceptance < WORKING_ACCEPTANCE)
    regime[regions] += ((regime == 0) | longer)[regions]
    chains = replace(chains, regime=regime)
    chains = warm_up(sampler, chains, regions, settings.windows[-REPEATED_WINDOWS:], rng)
    chains = with_jump_acceptance(chains, regions, acceptance)
    return extend_chains(sampler, chains, regions, 2 * settings.draws, rng)


def _metric_of(sampler: RegionSampler, draws: RegionDraws, i: int, scale: np.ndarray) -> np.ndarray:
    """Metric by all draws of region i of `draws`, and their gradients."""
    target = sampler.target
    x = target.unroll(draws.x[i], draws.centre[i]).reshape(-1, target.dim)
    grad = draws.grad[i].reshape(len(x), -1) if target.has_gradient else None
    return fit_metric(x, grad, scale)


def _refitted_jumps(
    sampler: RegionSampler,
    chains: Chains,
    draws: RegionDraws,
    regions: np.ndarray,
    rng: np.random.Generator,
) -> Mapping[int, JumpDensity]:
    """Fit jump densities to some regions; proposals from neighbours are kept."""
    if sampler.fit_jumps is None:
        return chains.jumps
    jumps, previous = dict(chains.jumps), jumps_of(chains)
    fitted = sampler.fit_jumps(draws, regions, rng, [previous[k] for k in regions])
    for k, q in zip(regions, fitted, strict=True):
        before = jumps.get(int(k))
        if isinstance(before, MixtureProposal):
            q = MixtureProposal(q, before.others)
        jumps[int(k)] = q
    return jumps


def _min_moves(chains: Chains, k: int) -> float:
    """Local moves that a record with jumps needs, by the time that local moves alone take.

    Where jumps worked before, the estimate is that of the moves before them.
    """
    accepted, record = chains.jump_acceptance[k], chains.records[k]
    if accepted and accepted[-1] >= WORKING_ACCEPTANCE:
        return float(chains.min_moves[k])
    time = record.logp.size / max(chains.ess[k], 1.0)
    return min(AUTOCORRELATION_TIMES * time, MAX_RECORD_STEPS / chains.parameters.leapfrog[k])


def connect_regions(
    sampler: RegionSampler,
    chains: Chains,
    cross_proposals: Mapping[int, tuple[JumpDensity, Sequence[JumpDensity]]],
    rng: np.random.Generator,
) -> Chains:
    """Let chains of regions propose from their neighbours' densities too.

    Chains that could not reach a piece of their region now jump there. Their records are dropped,
    since they may hold such pieces in any proportion, and so are the draws in which the
    pieces fill up; then a first batch of draws is made. Nothing is done where all these regions
    were connected before.

    Parameters
    ----------
    sampler : RegionSampler
    chains : Chains
    cross_proposals : mapping of int to (JumpDensity, sequence of JumpDensity)
        Each region's own density and those of its neighbours.
    rng : numpy.random.Generator

    Returns
    -------
    Chains
    """
    new = np.array(
        [k for k in cross_proposals if not isinstance(chains.jumps.get(k), MixtureProposal)],
        dtype=int,
    )
    if not len(new):
        return chains
    draws, jumps, min_moves = sampler.settings.draws, dict(chains.jumps), chains.min_moves.copy()
    for k in new:
        min_moves[k] = _min_moves(chains, int(k))
        jumps[int(k)] = MixtureProposal(*cross_proposals[int(k)])
    chains = replace(chains, jumps=jumps, min_moves=min_moves)
    chains = extend_chains(sampler, chains, new, draws, rng).without_records(new)
    return extend_chains(sampler, chains, new, draws, rng)
