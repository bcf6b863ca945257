"""Short unrestricted chains from every mode: they shape the regions and start their chains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.moves.adaptation import Warmup, first_step
from pymc_multimodal.moves.local import MoveParameters, MoveState, state_at
from pymc_multimodal.regions.settings import LocalSampling

if TYPE_CHECKING:
    from pymc_multimodal.regions.partition import Partition
    from pymc_multimodal.search import Modes
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["Pilot", "explore", "starting_points"]


@dataclass(frozen=True)
class Pilot:
    """Short unrestricted chains from every mode.

    Attributes
    ----------
    draws : array of shape (K, chains, moves, d)
    tuning : MoveParameters
    """

    draws: np.ndarray
    tuning: MoveParameters

    def merged(self, group: np.ndarray) -> Pilot:
        """Join the chains of modes of one group, thinned to as many as one mode has."""
        chains = self.draws.shape[1]
        draws, first = [], []
        for g in range(group.max() + 1):
            members = np.flatnonzero(group == g)
            pool = self.draws[members].swapaxes(0, 1).reshape(-1, *self.draws.shape[2:])
            draws.append(pool[:chains])
            first.append(members[0])
        tuning = self.tuning.take(np.array(first))
        return Pilot(np.stack(draws), tuning)


def explore(
    density: LogDensity, modes: Modes, config: LocalSampling, rng: np.random.Generator
) -> Pilot:
    """Run short unrestricted chains from every mode, to see how far its region reaches."""
    k, d, chains = len(modes), density.dim, config.chains
    region = np.repeat(np.arange(k), chains)
    if modes.runaway:
        finite = modes.points[np.isfinite(density.logp(modes.points))]
        cloud = state_at(density, finite[rng.integers(len(finite), size=chains)], region)
    else:
        cloud = _around_optima(density, modes, region, rng)
    steps = np.full(k, first_step(density))
    tuning = MoveParameters(modes.scale, steps, np.full(k, 1), np.full(k, 0.75))
    warm = Warmup(density, config.target_accept, config.max_leapfrog, None)
    half = config.explore_moves // 2
    cloud, _, tuning = warm.window(cloud, tuning, half, rng, shrink=0.3)
    tuning = warm.lengthen(tuning, gear=0)
    cloud, record, tuning = warm.window(cloud, tuning, config.explore_moves - half, rng)
    draws = record.x.reshape(len(record.x), k, chains, d).transpose(1, 2, 0, 3)
    return Pilot(draws, tuning)


def _around_optima(
    density: LogDensity, modes: Modes, region: np.ndarray, rng: np.random.Generator
) -> MoveState:
    """Points scattered about every optimum of each mode, no lower than its typical draws."""
    first = np.empty((len(region), density.dim))
    for k in range(len(modes)):
        rows = np.flatnonzero(region == k)
        own = modes.optima[modes.optimum_modes == k]
        # All optima in turn: a ring or a merged pair of summits must be entered everywhere.
        first[rows] = own[rng.permutation(len(own))[np.arange(len(rows)) % len(own)]]
    base = state_at(density, first, region)
    noise = np.einsum("nij,nj->ni", modes.scale[region], rng.standard_normal(first.shape))
    size = np.full(len(region), 0.7)
    cloud = base
    for _ in range(6):
        far = state_at(density, first + size[:, None] * noise, region)
        good = far.logp > base.logp - density.dim - 5.0
        keep = good[:, None]
        cloud = MoveState(
            np.where(keep, far.x, cloud.x),
            np.where(good, far.logp, cloud.logp),
            np.where(keep, far.grad, cloud.grad),
            region,
        )
        if good.all():
            break
        # Points already placed stay: their noise is spent.
        noise[good] = 0.0
        first[good] = far.x[good]
        size = size / 3
    return cloud


def starting_points(
    density: LogDensity,
    partition: Partition,
    modes: Modes,
    pilot: Pilot,
    config: LocalSampling,
    rng: np.random.Generator,
    visit: np.ndarray | None = None,
) -> np.ndarray:
    """Spread starting points across each region, shape (K, chains, d).

    Half are ends of the unrestricted chains, half points that the optimisers passed: R-hat
    is blind for chains that all start in one place. Where there are points to `visit`, of
    shape (n, d), every fourth chain starts there.
    """
    k, chains, _, d = pilot.draws.shape
    label = partition.label
    path = modes.points
    path_label = label(path) if len(path) else np.empty(0, dtype=int)
    path_logp = density.logp(path) if len(path) else np.empty(0)
    x = np.empty((k, chains, d))
    for mode in range(k):
        ends = pilot.draws[mode, :, -1]
        inside = label(ends) == mode
        near = ends[inside] if inside.any() else modes.locations[mode][None]
        # A point hundreds of nats below the mode is no start for a chain of this region.
        floor = modes.log_density[mode] - 25.0 - 2.0 * d
        far = path[(path_label == mode) & (modes.point_modes == mode) & (path_logp > floor)]
        if label(near[:1])[0] != mode:
            # The classifier gives this mode's own summit away: its region may be elsewhere.
            near = far if len(far) else near
        x[mode] = near[rng.integers(len(near), size=chains)]
        if len(far):
            half = chains // 2
            x[mode, ::2][:half] = far[rng.integers(len(far), size=half)]
        if visit is not None and len(visit):
            own = visit[label(visit) == mode]
            rows = np.arange(1, chains, 4)
            if len(own):
                # All chains, those of the bridge too, may start in the piece that was missed.
                x[mode, rows] = own[rng.integers(len(own), size=len(rows))]
    return x
