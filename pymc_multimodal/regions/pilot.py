"""Short unrestricted chains from every mode: they shape the regions and start their chains."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.moves.adaptation import (
    Window,
    adapt_step_sizes,
    first_step,
    trajectory_lengths,
)
from pymc_multimodal.moves.local import MoveParameters, MoveState, state_at
from pymc_multimodal.regions.heights import plausible_floor

if TYPE_CHECKING:
    from pymc_multimodal.regions.partition import Partition
    from pymc_multimodal.regions.settings import LocalSampling
    from pymc_multimodal.search import Modes
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["Pilot", "explore", "first_parameters", "prolonged", "starting_points"]

# Smallest random factor of step sizes in regime 0. Measured: examples/benchmarks/constants.py
EVEN_STEPS = 0.75
# Smallest second factor of step sizes in a first window, which frees points that start far from the
# bulk. Measured: examples/benchmarks/constants.py
WARM_UP_SHRINK = 0.3
# Spread of first points about an optimum, in standard deviations of the Laplace approximation;
# what it is divided by where points are too low; and how often that is tried.
# Measured: examples/benchmarks/constants.py
SCATTER, SCATTER_DIVISOR, SCATTER_TRIALS = 0.7, 3, 6
# Log share of a Gaussian's draws that are lower than first points may be: exp(-4) is 2 %, so that
# step sizes are adapted to the bulk from the first move on. Conventional.
SCATTER_LOG_SHARE = 4.0
# Length of chains that are continued, in units of the first ones. Conventional.
LONGER = 4
# Every so many chains one starts at a point that is to be visited: a piece that was missed then has
# chains in each part of the divided chains. Conventional.
VISIT_STRIDE = 4


@dataclass(frozen=True)
class Pilot:
    """Short unrestricted chains from every mode.

    Attributes
    ----------
    draws : array of shape (K, chains, moves, d)
    logp : array of shape (K, chains, moves)
        Log densities of the draws.
    parameters : MoveParameters
    """

    draws: np.ndarray
    logp: np.ndarray
    parameters: MoveParameters

    def take(self, rows: np.ndarray) -> Pilot:
        """Return some modes, in the order of `rows`: new mode i is old mode ``rows[i]``."""
        return Pilot(self.draws[rows], self.logp[rows], self.parameters.take(rows))

    def merged(self, group: np.ndarray) -> Pilot:
        """Join the chains of the modes of a group; each group keeps as many as one mode has.

        Parameters
        ----------
        group : array of int, shape (K,)
            Group of each mode, numbered from 0.
        """
        chains = self.draws.shape[1]
        draws, logp, first = [], [], []
        for g in range(group.max() + 1):
            members = np.flatnonzero(group == g)
            pool = self.draws[members].swapaxes(0, 1).reshape(-1, *self.draws.shape[2:])
            draws.append(pool[:chains])
            logp.append(self.logp[members].swapaxes(0, 1).reshape(-1, self.logp.shape[2])[:chains])
            first.append(members[0])
        return Pilot(np.stack(draws), np.stack(logp), self.parameters.take(np.array(first)))


def explore(
    target: LogDensity, modes: Modes, settings: LocalSampling, rng: np.random.Generator
) -> Pilot:
    """Run short unrestricted chains from every mode, to see how far its region reaches.

    Parameters
    ----------
    target : LogDensity
    modes : Modes
    settings : LocalSampling
    rng : numpy.random.Generator

    Returns
    -------
    Pilot
    """
    k, d, chains = len(modes), target.dim, settings.chains
    region = np.repeat(np.arange(k), chains)
    if modes.runaway:
        finite = modes.points[np.isfinite(target.logp(modes.points))]
        state = state_at(target, finite[rng.integers(len(finite), size=chains)], region)
    else:
        state = _around_optima(target, modes, region, rng)
    parameters = first_parameters(target, modes.scale)
    half = settings.explore_moves // 2
    accept = settings.target_accept
    first = Window(half, accept, WARM_UP_SHRINK)
    state, _, parameters = adapt_step_sizes(target, state, parameters, first, rng, label=None)
    leapfrog = trajectory_lengths(
        target, parameters.step_size, np.zeros(k, dtype=int), settings.max_leapfrog
    )
    parameters = replace(parameters, leapfrog=leapfrog)
    rest = Window(settings.explore_moves - half, accept)
    state, record, parameters = adapt_step_sizes(target, state, parameters, rest, rng, label=None)
    draws = record.x.reshape(len(record.x), k, chains, d).transpose(1, 2, 0, 3)
    logp = record.logp.reshape(-1, k, chains).transpose(1, 2, 0)
    return Pilot(draws, logp, parameters)


def prolonged(
    target: LogDensity, pilot: Pilot, settings: LocalSampling, rng: np.random.Generator
) -> Pilot:
    """Continue the chains of every mode.

    Parameters
    ----------
    target : LogDensity
    pilot : Pilot
    settings : LocalSampling
    rng : numpy.random.Generator

    Returns
    -------
    Pilot
        With the further draws alone.
    """
    k, chains, _, d = pilot.draws.shape
    state = state_at(target, pilot.draws[:, :, -1].reshape(-1, d), np.repeat(np.arange(k), chains))
    window = Window(LONGER * settings.explore_moves, settings.target_accept)
    _, record, parameters = adapt_step_sizes(
        target, state, pilot.parameters, window, rng, label=None
    )
    draws = record.x.reshape(len(record.x), k, chains, d).transpose(1, 2, 0, 3)
    logp = record.logp.reshape(-1, k, chains).transpose(1, 2, 0)
    return Pilot(draws, logp, parameters)


def first_parameters(target: LogDensity, scale: np.ndarray) -> MoveParameters:
    """Return parameters of local moves before any adaptation: single steps.

    Parameters
    ----------
    target : LogDensity
    scale : array of shape (K, d, d)
        Lower-triangular factors of the modes' covariances.

    Returns
    -------
    MoveParameters
    """
    k = len(scale)
    return MoveParameters(
        scale, np.full(k, first_step(target)), np.ones(k, dtype=int), np.full(k, EVEN_STEPS)
    )


def _around_optima(
    target: LogDensity, modes: Modes, region: np.ndarray, rng: np.random.Generator
) -> MoveState:
    """Scatter points about every optimum of each mode, no lower than typical draws of the mode."""
    first = np.empty((len(region), target.dim))
    for k, rows in enumerate(_rows_by_mode(region, len(modes))):
        own = modes.optima[modes.optimum_modes == k]
        # All optima in turn: a ring or a merged pair of summits must be entered everywhere.
        first[rows] = own[rng.permutation(len(own))[np.arange(len(rows)) % len(own)]]
    base = state_at(target, first, region)
    noise = np.einsum("nij,nj->ni", modes.scale[region], rng.standard_normal(first.shape))
    size = np.full(len(region), SCATTER)
    state = base
    for _ in range(SCATTER_TRIALS):
        far = state_at(target, first + size[:, None] * noise, region)
        good = far.logp > plausible_floor(base.logp, target.dim, SCATTER_LOG_SHARE)
        keep = good[:, None]
        state = MoveState(
            np.where(keep, far.x, state.x),
            np.where(good, far.logp, state.logp),
            np.where(keep, far.grad, state.grad),
            region,
        )
        if good.all():
            break
        # Points that are high enough stay where they are in later trials.
        noise[good] = 0.0
        first[good] = far.x[good]
        size = size / SCATTER_DIVISOR
    return state


def starting_points(
    target: LogDensity,
    partition: Partition,
    modes: Modes,
    pilot: Pilot,
    visit: np.ndarray | None,
    chains: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Spread starting points across each region.

    Half of a region's points are ends of its mode's unrestricted chains, half are points of
    plausible height that the optimisers passed: R-hat detects nothing where all chains start in
    one place.

    Parameters
    ----------
    target : LogDensity
    partition : Partition
    modes : Modes
    pilot : Pilot
    visit : array of shape (n, d), optional
        Points that every fourth chain of their regions starts from.
    chains : int
        Chains of each region.
    rng : numpy.random.Generator

    Returns
    -------
    array of shape (K, chains, d)
    """
    k, explored, _, d = pilot.draws.shape
    points = modes.points
    region = partition.label(points) if len(points) else np.empty(0, dtype=int)
    logp = target.logp(points) if len(points) else np.empty(0)
    x = np.empty((k, chains, d))
    # Labels of all points at once: each call compares its points with all regions.
    last = pilot.draws[:, :, -1]
    last_region = partition.label(last.reshape(-1, d)).reshape(k, explored)
    own_region = partition.label(modes.locations)
    visited = visit if visit is not None and len(visit) else np.empty((0, d))
    visit_region = partition.label(visited) if len(visited) else np.empty(0, dtype=int)
    by_mode = _rows_by_mode(modes.point_modes, k)
    for mode in range(k):
        floor = plausible_floor(float(modes.log_density[mode]), d)
        rows = by_mode[mode]
        passed = points[rows[(region[rows] == mode) & (logp[rows] > floor)]]
        inside = last_region[mode] == mode
        near = last[mode][inside] if inside.any() else modes.locations[mode][None]
        if not inside.any() and own_region[mode] != mode and len(passed):
            # The classifier puts the mode itself into another region.
            near = passed
        x[mode] = near[rng.integers(len(near), size=chains)]
        if len(passed):
            half = chains // 2
            x[mode, ::2][:half] = passed[rng.integers(len(passed), size=half)]
        own = visited[visit_region == mode]
        some = np.arange(1, chains, VISIT_STRIDE)
        if len(own):
            x[mode, some] = own[rng.integers(len(own), size=len(some))]
    return x


def _rows_by_mode(mode: np.ndarray, k: int) -> list[np.ndarray]:
    """Return the rows of each of k modes, in their order; -1 is no mode."""
    order = np.argsort(mode, kind="stable")
    return np.split(order, np.searchsorted(mode[order], np.arange(k + 1)))[1:-1]
