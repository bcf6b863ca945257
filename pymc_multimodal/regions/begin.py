"""The first state of the chains of all regions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.moves.local import state_at
from pymc_multimodal.regions.chains import ChainRecord, Chains, extend_chains
from pymc_multimodal.regions.pilot import starting_points
from pymc_multimodal.regions.regimes import (
    AUTOCORRELATION_TIMES,
    try_jumps,
    with_jump_acceptance,
)
from pymc_multimodal.regions.warmup import warm_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.moves.jumps import JumpDensity
    from pymc_multimodal.regions.chains import RegionSampler
    from pymc_multimodal.regions.pilot import Pilot
    from pymc_multimodal.search import Modes

__all__ = ["begin_chains"]

# Acceptance of jumps from which on a first guess of a region's density stands for the region, whose
# chains then need no warm-up. Measured: examples/benchmarks/constants.py
GUESS_ACCEPTANCE = 0.85
# Acceptance from which on chains also propose from the guess, after their warm-up; and the local
# moves that their records then need, since jumps show nothing of tails that they do not propose.
# Measured: examples/benchmarks/calibration.py
USEFUL_ACCEPTANCE, USEFUL_MOVES = 0.2, 100.0


def begin_chains(
    sampler: RegionSampler,
    modes: Modes,
    pilot: Pilot,
    first_jumps: Sequence[JumpDensity],
    visit: np.ndarray | None,
    rng: np.random.Generator,
) -> Chains:
    """Start the chains of all regions, warm them up and make the first batch of draws.

    Parameters
    ----------
    sampler : RegionSampler
    modes : Modes
    pilot : Pilot
    first_jumps : sequence of JumpDensity
        A guess of each region's density, or none at all. Regions whose chains accept nearly all
        of its draws begin in regime 1, without the long warm-up that chains without gradients
        need.
    visit : array of shape (n, d), optional
        Points that some chains of their regions start from.
    rng : numpy.random.Generator

    Returns
    -------
    Chains
        With `LocalSampling.draws` draws of each chain; fewer after a limit of the fit.
    """
    k, settings = sampler.n_regions, sampler.settings
    n, target, partition = settings.chains, sampler.target, sampler.partition
    x = starting_points(target, partition, modes, pilot, visit, n, rng)
    region = np.repeat(np.arange(k), settings.chains)
    state = state_at(sampler.target, x.reshape(-1, sampler.target.dim), region)
    lowest = _lowest(sampler, visit)
    empty = ChainRecord.empty(state.take(np.arange(settings.chains)))
    chains = Chains(
        state=state,
        parameters=pilot.parameters,
        records=(empty,) * k,
        r_hat=np.full(k, np.inf),
        ess=np.zeros(k),
        regime=np.zeros(k, dtype=int),
        jumps=dict(enumerate(first_jumps)),
        jump_acceptance=((),) * k,
        draws_per_move=np.ones(k, dtype=int),
        min_moves=np.zeros(k),
        negligible=np.zeros(k, dtype=bool),
        required=np.ones(k),
        border_ends=(np.empty((0, sampler.target.dim)),) * k,
        lowest=lowest,
    )
    chains, acceptance = try_jumps(sampler, chains, np.arange(k), rng)
    good, useful = acceptance >= GUESS_ACCEPTANCE, acceptance >= USEFUL_ACCEPTANCE
    min_moves = np.where(good, AUTOCORRELATION_TIMES, USEFUL_MOVES)
    chains = replace(
        with_jump_acceptance(chains, np.flatnonzero(useful), acceptance),
        jumps={i: q for i, q in enumerate(first_jumps) if useful[i]},
        regime=useful.astype(int),
        min_moves=np.where(useful, min_moves, 0.0),
    )
    chains = warm_up(sampler, chains, np.flatnonzero(~good), settings.windows, rng)
    return extend_chains(sampler, chains, np.arange(k), settings.draws, rng)


def _lowest(sampler: RegionSampler, visit: np.ndarray | None) -> np.ndarray:
    """Log density of the lowest point to visit in each region, inf without any: shape (K,)."""
    lowest = np.full(sampler.n_regions, np.inf)
    if visit is not None and len(visit):
        np.minimum.at(lowest, sampler.partition.label(visit), sampler.target.logp(visit))
    return lowest
