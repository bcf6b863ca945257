"""Warm-up of the chains inside the regions, before draws count."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.moves.adaptation import (
    Window,
    adapt_metrics,
    adapt_step_sizes,
    trajectory_lengths,
)
from pymc_multimodal.moves.local import MoveState, state_at
from pymc_multimodal.regions.heights import plausible_floor
from pymc_multimodal.regions.pilot import WARM_UP_SHRINK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.moves.adaptation import WindowRecord
    from pymc_multimodal.moves.local import MoveParameters
    from pymc_multimodal.regions.chains import Chains, RegionSampler
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["warm_up"]

# Ends of moves turned back at a region's border that are kept of each region, the latest ones.
# Conventional: many more than chains that start there.
MAX_BORDER_ENDS = 256
# One in so many chains of a region is moved to where others were turned back at its border: the
# parts that chains are divided into then have some of them each. Conventional.
CROSSING_STRIDE = 4


def warm_up(
    sampler: RegionSampler,
    chains: Chains,
    regions: np.ndarray,
    windows: Sequence[int],
    rng: np.random.Generator,
) -> Chains:
    """Adapt the moves of some regions.

    Parameters
    ----------
    sampler : RegionSampler
    chains : Chains
    regions : array of int
    windows : sequence of int
        Moves of each window; after a limit of the fit only the first, and that cut short.
    rng : numpy.random.Generator

    Returns
    -------
    Chains
        With new positions, parameters and ends of moves at borders; no draw is recorded.
    """
    if not len(regions):
        return chains
    target, accept = sampler.target, sampler.settings.target_accept
    rows = np.isin(chains.state.region, regions)
    state, parameters, ends = chains.state.take(rows), chains.parameters, chains.border_ends
    for i, moves in enumerate(windows):
        if i and target.exhausted():
            break
        window = Window(moves, accept, shrink=1.0 if i else WARM_UP_SHRINK)
        state, record, parameters = adapt_step_sizes(
            target, state, parameters, window, rng, label=sampler.label
        )
        state = _restart_stranded(state, chains.lowest, target.dim, rng)
        ends = _with_border_ends(ends, record)
        if i + 1 < len(windows):
            state = _start_beyond_borders(target, state, ends, rng)
            state = _restart_stranded(state, chains.lowest, target.dim, rng)
            parameters = adapt_metrics(target, record, state.region, parameters, sampler.centre)
        parameters = _with_lengths(sampler, parameters, chains.regime, regions)
    state = chains.state.put(state, rows)
    return replace(chains, state=state, parameters=parameters, border_ends=ends)


def _with_lengths(
    sampler: RegionSampler, parameters: MoveParameters, regime: np.ndarray, regions: np.ndarray
) -> MoveParameters:
    """Set the trajectory lengths of some regions by their step sizes."""
    lengths = trajectory_lengths(
        sampler.target, parameters.step_size, regime, sampler.settings.max_leapfrog
    )
    leapfrog = parameters.leapfrog.copy()
    leapfrog[regions] = lengths[regions]
    return replace(parameters, leapfrog=leapfrog)


def _with_border_ends(ends: tuple[np.ndarray, ...], record: WindowRecord) -> tuple[np.ndarray, ...]:
    """Add the ends of moves that were turned back at a border to those of the region beyond."""
    turned = (record.into >= 0) & (record.into < len(ends))
    end, into = record.end[turned], record.into[turned]
    out = list(ends)
    for k in np.unique(into):
        out[k] = np.concatenate([out[k], end[into == k]])[-MAX_BORDER_ENDS:]
    return tuple(out)


def _start_beyond_borders(
    target: LogDensity,
    state: MoveState,
    border_ends: tuple[np.ndarray, ...],
    rng: np.random.Generator,
) -> MoveState:
    """Move some chains of each region to where chains of others were turned back at its border.

    Where a border cuts through a mode, the piece beyond belongs to a region whose own chains
    may never get there. R-hat detects that only if some chains start there.
    """
    rows, points = [], []
    for k in np.unique(state.region):
        own, ends = np.flatnonzero(state.region == k), border_ends[k]
        n = min(len(own) // CROSSING_STRIDE, len(ends))
        rows.append(rng.choice(own, size=n, replace=False))
        points.append(ends[rng.choice(len(ends), size=n, replace=False)])
    row, x = np.concatenate(rows), np.concatenate(points)
    if not len(row):
        return state
    return state.put(state_at(target, x, state.region[row]), row)


def _restart_stranded(
    state: MoveState, lowest: np.ndarray, d: int, rng: np.random.Generator
) -> MoveState:
    """Restart chains outside of the support, or far below the others, from one of the others.

    Those as low as the points that chains of their region have to visit stay where they are.
    """
    x, logp, grad = state.x.copy(), state.logp.copy(), state.grad.copy()
    for k in np.unique(state.region):
        rows = np.flatnonzero(state.region == k)
        floor = plausible_floor(min(float(np.median(logp[rows])), float(lowest[k])), d)
        stranded = rows[~(logp[rows] > floor)]
        healthy = np.setdiff1d(rows, stranded)
        if len(stranded) and len(healthy):
            source = rng.choice(healthy, size=len(stranded))
            x[stranded], logp[stranded], grad[stranded] = x[source], logp[source], grad[source]
    return MoveState(x, logp, grad, state.region)
