"""Symmetric densities: one mode of each orbit is fitted for all its images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.moves.local import MoveState
from pymc_multimodal.regions import PermutedPartition
from pymc_multimodal.search import triangular
from pymc_multimodal.status import RAISE_LIMIT, Status, counted
from pymc_multimodal.target.cells import Cells
from pymc_multimodal.target.target import Target

if TYPE_CHECKING:
    from pymc_multimodal.approximation import WeightedSample
    from pymc_multimodal.challenge import ChallengeResult
    from pymc_multimodal.evidence import Weights
    from pymc_multimodal.regions import Partition, Pilot, RegionDraws
    from pymc_multimodal.search import Modes, OptimumSet
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.group import Orbit

__all__ = [
    "Orbits",
    "broken_status",
    "cells_of",
    "confirm_images",
    "confirm_symmetry",
    "draws_of_images",
    "fold_pilot",
    "modes_of_images",
    "result_of_images",
    "statuses_of_images",
    "symmetry_status",
    "unsought_status",
    "weights_of_images",
]

# Most images that are listed as modes of their own in the results: a table of more rows is no
# longer read. Conventional.
MAX_LISTED = 12
# Unrestricted chains of a mode show that images are parts of one mode where this share of their
# positions lies at another image than that of the first position; an image counts as visited
# from the second share on. Conventional.
MIN_EXCHANGED, MIN_VISITED = 1 / 3, 0.05
# Part of the moves of the unrestricted chains, the last ones, from which this is read.
# Conventional.
LATE_SHARE = 0.25
# Draws of each region at which the symmetry is confirmed. A difference at a share p of the draws is
# met with probability 1 - (1 - p)^300, 0.95 for p = 0.01, the default `target_se`.
CONFIRMED_DRAWS = 300


def cells_of(optima: OptimumSet, modes: Modes) -> Cells | None:
    """Return the cells of a symmetry that moves some mode; None if there is none.

    Parameters
    ----------
    optima : OptimumSet
    modes : Modes
        One mode of each orbit.
    """
    if optima.symmetry is None or not len(optima):
        return None
    fixing = optima.fixing_modes(modes.locations)
    cells = Cells(optima.symmetry, modes.locations, modes.scale, fixing)
    return None if (cells.images == 1).all() else cells


def fold_pilot(
    density: Density, optima: OptimumSet, modes: Modes, pilot: Pilot
) -> tuple[Target, Modes, Pilot]:
    """Fold the density about its modes, with the points that are known of it.

    Images between which the unrestricted chains of a mode go to and fro stay in one cell.

    Parameters
    ----------
    density : Density
    optima : OptimumSet
    modes : Modes
        One mode of each orbit.
    pilot : Pilot

    Returns
    -------
    target : Target
        Without cells where there is no symmetry, or one that maps every mode onto itself.
    modes : Modes
    pilot : Pilot
    """
    if (symmetry := optima.symmetry) is None:
        return Target(density), modes, pilot
    stabilisers = optima.fixing_modes(modes.locations)
    cells = Cells(symmetry, modes.locations, modes.scale, stabilisers)
    moves, d = pilot.draws.shape[2:]
    late = pilot.draws[:, :, -max(1, int(LATE_SHARE * moves)) :]
    exchanged = [
        _exchanged_images(orbit, first, last)
        for orbit, first, last in zip(cells.orbits, pilot.draws[:, :, 0], late, strict=True)
    ]
    if any(map(len, exchanged)):
        both = [np.concatenate(pair) for pair in zip(stabilisers, exchanged, strict=True)]
        cells = Cells(symmetry, modes.locations, modes.scale, both)
    if (cells.images == 1).all():
        return Target(density), modes, pilot
    draws = cells.fold(pilot.draws.reshape(-1, d)).reshape(pilot.draws.shape)
    modes = replace(modes, points=cells.fold(modes.points))
    return Target(density, cells), modes, replace(pilot, draws=draws)


def _exchanged_images(orbit: Orbit, first: np.ndarray, late: np.ndarray) -> np.ndarray:
    """Group elements that take the first image of a chain to its late ones, shape (j, d, d).

    Chains may begin anywhere in a mode of many optima. What counts is that they change images.
    """
    d = first.shape[1]
    begun = orbit.nearest(first)
    ended = orbit.nearest(late.reshape(-1, d)).reshape(late.shape[:2])
    pair, count = np.unique(len(orbit) * begun[:, None] + ended, return_counts=True)
    start, end = np.divmod(pair, len(orbit))
    if count[start != end].sum() <= MIN_EXCHANGED * ended.size:
        return np.empty((0, d, d))
    often = (start != end) & (count > MIN_VISITED * ended.size)
    return orbit.inverses[start[often]] @ orbit.maps[end[often]]


def confirm_symmetry(
    target: Target, draws: RegionDraws, sample: WeightedSample | None, rng: np.random.Generator
) -> None:
    """Compare log densities of draws of every region with those of random images.

    Parameters
    ----------
    target : Target
        With cells.
    draws : RegionDraws
    sample : WeightedSample or None
        Its points without density are compared with their images, too.
    rng : numpy.random.Generator

    Raises
    ------
    SymmetryBroken
        If one differs.
    """
    assert target.cells is not None
    lowest = np.inf
    for x, logp in zip(draws.x, draws.logp, strict=True):
        rows = rng.integers(logp.size, size=CONFIRMED_DRAWS)
        points = x.reshape(-1, x.shape[2])[rows]
        own = logp.ravel()[rows] - target.cells.log_multiplicity(points)
        target.confirm(target.cells.move(points, rng), own)
        lowest = min(lowest, own.min())
    if sample is not None:
        target.confirm_empty(sample.x[np.isneginf(sample.logp)], lowest)


def confirm_images(
    target: Target, x: np.ndarray, images: np.ndarray, logp: np.ndarray, offered: MoveState
) -> None:
    """Compare log densities of the kernel's points with those of the images that are shown.

    Parameters
    ----------
    target : Target
    x, images : arrays of shape (n, d)
        Points of the kernel, and their images (`Orbits.randomise`).
    logp : array of shape (n,)
        Log densities of the points, as draws.
    offered : MoveState
        Points that were proposed to the kernel. Those without density are compared, too.

    Raises
    ------
    SymmetryBroken
        If one differs.
    """
    if target.cells is None or not len(x):
        return
    moved = (images != x).any(axis=1)
    target.confirm(images[moved], logp[moved])
    target.confirm_empty(offered.x[np.isneginf(offered.logp)], float(logp.min()))


# ------------------------------------------------------------------ regions and their images


@dataclass(frozen=True)
class Orbits:
    """How the regions that were fitted, one of each orbit, stand for all their images.

    Attributes
    ----------
    cells : Cells
    partition : Partition
        Of the cells into the fitted regions.
    modes : array of int, shape (K,)
        Each region's mode among those of the cells.
    """

    cells: Cells
    partition: Partition
    modes: np.ndarray

    def __repr__(self) -> str:
        """Say how many there are; the arrays are in the attributes."""
        total = counted(int(self.images.sum()), "mode")
        return f"<Orbits: {counted(len(self.modes), 'region')} for {total}>"

    def take(self, order: np.ndarray) -> Orbits:
        """Renumber the regions: new region i is old region ``order[i]``."""
        return Orbits(self.cells, PermutedPartition(self.partition, order), self.modes[order])

    @property
    def images(self) -> np.ndarray:
        """Number of images of each region, shape (K,)."""
        return self.cells.images[self.modes]

    @property
    def listed(self) -> bool:
        """Whether every image is a mode of its own in the results."""
        return int(self.images.sum()) <= MAX_LISTED

    @property
    def rows(self) -> np.ndarray:
        """Region of each mode of the results."""
        k = np.arange(len(self.modes))
        return np.repeat(k, self.images) if self.listed else k

    @property
    def first(self) -> np.ndarray:
        """First mode of the results of each region, shape (K,)."""
        return np.searchsorted(self.rows, np.arange(len(self.modes)))

    @property
    def maps(self) -> np.ndarray:
        """Group elements that take each region to its images, one for each mode of the results."""
        return np.concatenate([self.cells.orbits[k].maps for k in self.modes])

    def label(self, x: np.ndarray) -> np.ndarray:
        """Mode of the results that each row of points belongs to, shape (n,)."""
        region = self.partition.label(self.cells.fold(x))
        if not self.listed:
            return region
        label = self.first[region]
        for k in np.unique(region):
            own = region == k
            label[own] += self.cells.orbits[self.modes[k]].nearest(x[own])
        return label

    def randomise(self, points: MoveState, rng: np.random.Generator) -> MoveState:
        """Move folded points by random group elements; with their own log density and mode."""
        x = self.cells.scatter(points.x, rng)
        logp = points.logp - self.cells.log_multiplicity(points.x)
        return MoveState(x, logp, points.grad, self.label(x))


# ------------------------------------------------------------------ results with all images


def modes_of_images(orbits: Orbits, modes: Modes) -> Modes:
    """List the modes with their images."""
    rows, first, maps = orbits.rows, orbits.first, orbits.maps
    starts = modes.start_modes
    return replace(
        modes,
        locations=np.einsum("nij,nj->ni", maps, modes.locations[rows]),
        log_density=modes.log_density[rows],
        scale=triangular(maps @ modes.scale[rows]),
        hits=modes.hits[rows],
        optimum_modes=first[modes.optimum_modes],
        point_modes=np.where(modes.point_modes >= 0, first[modes.point_modes], -1),
        singletons=modes.singletons[rows],
        start_modes=None if starts is None else np.where(starts >= 0, first[starts], -1),
    )


def draws_of_images(orbits: Orbits, draws: RegionDraws) -> RegionDraws:
    """Give every image the draws of its region, moved there, with the density's own values."""
    maps = orbits.maps
    inverses = np.linalg.inv(maps)
    # The multiplicity is that of each point: a border may leave points to the cell of another mode.
    logp = tuple(
        p - orbits.cells.log_multiplicity(x.reshape(-1, x.shape[2])).reshape(p.shape)
        for x, p in zip(draws.x, draws.logp, strict=True)
    )
    draws = replace(draws, logp=logp).take(orbits.rows)
    return replace(
        draws,
        x=tuple(x @ m.T for x, m in zip(draws.x, maps, strict=True)),
        grad=tuple(g @ i if g.shape[2] else g for g, i in zip(draws.grad, inverses, strict=True)),
        centre=np.einsum("nij,nj->ni", maps, draws.centre),
    )


def weights_of_images(orbits: Orbits, weights: Weights) -> Weights:
    """Give every image an equal share of its region's weight."""
    share, log_m = 1.0 / orbits.images[orbits.rows], np.log(orbits.images)[orbits.rows]
    weights = weights.take(orbits.rows)
    return replace(
        weights,
        weight=weights.weight * share,
        weight_se=weights.weight_se * share,
        interval=weights.interval * share[:, None],
        log_evidence=weights.log_evidence - log_m,
        bounds=weights.bounds - log_m[:, None],
        iterations=tuple(i - m for i, m in zip(weights.iterations, log_m, strict=True)),
    )


def result_of_images(orbits: Orbits, result: ChallengeResult) -> ChallengeResult:
    """Give every image an equal share of its region's mass."""
    log_m = np.log(orbits.images)[orbits.rows]
    result = result.take(orbits.rows)
    return replace(result, log_mass=result.log_mass - log_m)


def statuses_of_images(orbits: Orbits, statuses: list[Status]) -> list[Status]:
    """Repeat what is said of a region for each of its images."""
    repeated = []
    for s in statuses:
        rows = [None] if s.mode is None else np.flatnonzero(orbits.rows == s.mode)
        repeated += [replace(s, mode=None if row is None else int(row)) for row in rows]
    return repeated


# ------------------------------------------------------------------ statuses


def symmetry_status(orbits: Orbits) -> Status:
    """Say which symmetry was used."""
    symmetry, total = orbits.cells.symmetry, int(orbits.images.sum())
    n = len(symmetry.elements)
    what = "; ".join(symmetry.descriptions) or "as given"
    return Status(
        "symmetry",
        "fit",
        f"the density is symmetric under a group of {n} elements ({what}): "
        f"{counted(len(orbits.modes), 'fitted region', ('stands', 'stand'))} for "
        f"{counted(total, 'mode')}.",
        "relabel(idata) orders the components; symmetry=False fits every mode by itself.",
        level="info",
    )


def broken_status() -> Status:
    """Say that a symmetry was given up."""
    return Status(
        "symmetry",
        "fit",
        "a point was met whose image under the symmetry has another log density: everything was "
        "fitted again without symmetry.",
        "symmetry=False avoids the first of the two fits.",
        level="info",
    )


def unsought_status() -> Status:
    """Say that a limit came before a symmetry was looked for."""
    return Status(
        "symmetry",
        "fit",
        "a limit was reached before a symmetry was looked for: copies of a mode count one by one, "
        "and some may be missing.",
        RAISE_LIMIT,
        level="info",
    )
