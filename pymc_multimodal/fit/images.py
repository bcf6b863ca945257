"""From modes to orbits and back: what is fitted once stands for all its images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pymc_multimodal.moves.local import MoveState
from pymc_multimodal.search import triangular
from pymc_multimodal.status import Status
from pymc_multimodal.target.cells import Cells
from pymc_multimodal.target.errors import same_density
from pymc_multimodal.target.target import Target

if TYPE_CHECKING:
    from pymc_multimodal.challenge import ChallengeResult
    from pymc_multimodal.evidence import Weights
    from pymc_multimodal.regions.draws import RegionDraws
    from pymc_multimodal.regions.partition import Partition
    from pymc_multimodal.regions.pilot import Pilot
    from pymc_multimodal.search import Modes, OptimumSet
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.group import Orbit

__all__ = ["Orbits", "fold_pilot"]

# All images are modes of their own in the results where there are no more than these.
MAX_LISTED = 12
# Images to which this part of a mode's unrestricted chains went are the mode itself, if a
# third of them changed images.
VISITED, MIXED = 0.05, 1 / 3


def fold_pilot(
    density: Density, optima: OptimumSet, modes: Modes, pilot: Pilot
) -> tuple[Target, Modes, Pilot]:
    """Fold the density about its modes, with the points that are known of it.

    Images between which the unrestricted chains of a mode go to and fro are not parted.

    Parameters
    ----------
    density : Density
    optima : OptimumSet
        Where it has no symmetry, or one that maps every mode onto itself, everything is
        returned as it is.
    modes : Modes
        One mode of each orbit.
    pilot : Pilot

    Returns
    -------
    density : Density
    modes : Modes
    pilot : Pilot
    """
    if (symmetry := optima.symmetry) is None:
        return Target(density), modes, pilot
    fixing = optima.fixing_modes(modes.locations)
    cells = Cells(symmetry, modes.locations, modes.scale, fixing)
    moves, d = pilot.draws.shape[2:]
    late = pilot.draws[:, :, -max(1, moves // 4) :]
    joined = [_mixing(*pair) for pair in zip(cells.orbits, pilot.draws[:, :, 0], late, strict=True)]
    if any(map(len, joined)):
        both = [np.concatenate(pair) for pair in zip(fixing, joined, strict=True)]
        cells = Cells(symmetry, modes.locations, modes.scale, both)
    if (cells.images == 1).all():
        return Target(density), modes, pilot
    draws = cells.fold(pilot.draws.reshape(-1, d)).reshape(pilot.draws.shape)
    modes = replace(modes, points=cells.fold(modes.points))
    return Target(density, cells), modes, replace(pilot, draws=draws)


def _mixing(orbit: Orbit, began: np.ndarray, late: np.ndarray) -> np.ndarray:
    """Elements that take the image where a chain began to those where it came, (j, d, d).

    Chains may begin anywhere in a mode of many optima: what counts is that they change images.
    """
    d = began.shape[1]
    first = orbit.nearest(began)
    last = orbit.nearest(late.reshape(-1, d)).reshape(late.shape[:2])
    way, count = np.unique(len(orbit) * first[:, None] + last, return_counts=True)
    start, end = np.divmod(way, len(orbit))
    if count[start != end].sum() <= MIXED * last.size:
        return np.empty((0, d, d))
    often = (start != end) & (count > VISITED * last.size)
    return orbit.inverses[start[often]] @ orbit.maps[end[often]]


@dataclass(frozen=True)
class Orbits:
    """How the regions that were fitted, one of each orbit, stand for all their images.

    Attributes
    ----------
    cells : Cells
    partition : Partition
        Of the cells into the fitted regions, in their final order.
    modes : array of int, shape (K,)
        Each region's mode among those of the cells.
    """

    cells: Cells
    partition: Partition
    modes: np.ndarray

    @classmethod
    def of(cls, target: Target, partition: Partition, modes: Modes) -> Orbits | None:
        """Take the orbits of a folded target, None for any other.

        Parameters
        ----------
        target : Target
        partition : Partition
        modes : Modes
            Of the regions.
        """
        if (cells := target.cells) is None:
            return None
        return cls(cells, partition, cells.mode_of(modes.locations))

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
        """Region behind each mode of the results."""
        k = np.arange(len(self.modes))
        return np.repeat(k, self.images) if self.listed else k

    @property
    def _first(self) -> np.ndarray:
        """First row of each region."""
        return np.searchsorted(self.rows, np.arange(len(self.modes)))

    def label(self, x: np.ndarray) -> np.ndarray:
        """Mode (row of the results) that each row of points belongs to, shape (n,)."""
        region = self.partition.label(self.cells.fold(x))
        if not self.listed:
            return region
        out = self._first[region]
        for k in np.unique(region):
            own = region == k
            out[own] += self.cells.orbits[self.modes[k]].nearest(x[own])
        return out

    def holds(
        self, density: Density, local: RegionDraws, rng: np.random.Generator, n: int = 64
    ) -> bool:
        """Check the symmetry once more, at n draws of every region."""
        for x, logp in zip(local.x, local.logp, strict=True):
            rows = rng.integers(logp.size, size=n)
            here = x.reshape(-1, x.shape[2])[rows]
            own = logp.ravel()[rows] - self.cells.log_multiplicity(here)
            if not same_density(density.logp(self.cells.scatter(here, rng)), own):
                return False
        return True

    def scatter(self, cloud: MoveState, rng: np.random.Generator) -> MoveState:
        """Move folded points by random elements: with their own log density and mode again."""
        x = self.cells.scatter(cloud.x, rng)
        logp = cloud.logp - self.cells.log_multiplicity(cloud.x)
        return MoveState(x, logp, cloud.grad, self.label(x))

    def status(self) -> Status:
        """Say what was found."""
        symmetry = self.cells.symmetry
        n = len(symmetry.elements)
        what = "; ".join(symmetry.descriptions) or "as given"
        return Status(
            "symmetry",
            "modes",
            f"the density is symmetric under a group of {n} elements ({what}): "
            f"{len(self.modes)} fitted regions stand for {int(self.images.sum())} modes.",
            "relabel(idata) orders the components; symmetry=False does without.",
            level="info",
        )

    def shown(
        self, modes: Modes, local: RegionDraws, weights: Weights, verdict: ChallengeResult | None
    ) -> tuple[Modes, RegionDraws, Weights, ChallengeResult | None]:
        """List all images, each with its equal share, if they are few."""
        rows, first = self.rows, self._first
        if not self.listed or len(rows) == len(first):
            return modes, local, weights, verdict
        maps = np.concatenate([self.cells.orbits[k].maps for k in self.modes])
        inverses = np.linalg.inv(maps)
        log_m = np.log(self.images)[rows]
        moved = replace(
            modes,
            locations=np.einsum("nij,nj->ni", maps, modes.locations[rows]),
            log_density=modes.log_density[rows],
            scale=_moved_scale(maps, modes.scale[rows]),
            hits=modes.hits[rows],
            optimum_modes=first[modes.optimum_modes],
            point_modes=np.where(modes.point_modes >= 0, first[modes.point_modes], -1),
            singletons=modes.singletons[rows],
        )
        # Of each point, and not of its region: a border may leave points to another orbit's.
        local = replace(local, logp=tuple(
            p - self.cells.log_multiplicity(x.reshape(-1, x.shape[2])).reshape(p.shape)
            for x, p in zip(local.x, local.logp, strict=True)
        ))  # fmt: skip
        local = local.take(rows)
        local = replace(
            local,
            x=tuple(x @ m.T for x, m in zip(local.x, maps, strict=True)),
            grad=tuple(g @ i if g.shape[2] else g
                       for g, i in zip(local.grad, inverses, strict=True)),
            centre=np.einsum("nij,nj->ni", maps, local.centre),
        )  # fmt: skip
        if verdict is not None:
            verdict = verdict.take(rows)
            verdict = replace(verdict, log_mass=verdict.log_mass - log_m)
        return moved, local, self._shared(weights), verdict

    def _shared(self, weights: Weights) -> Weights:
        share, log_m = 1.0 / self.images[self.rows], np.log(self.images)[self.rows]
        weights = weights.take(self.rows)
        return replace(
            weights,
            weight=weights.weight * share,
            weight_se=weights.weight_se * share,
            interval=weights.interval * share[:, None],
            log_evidence=weights.log_evidence - log_m,
            iterations=tuple(i - m for i, m in zip(weights.iterations, log_m, strict=True)),
        )


def broken_status() -> Status:
    """Say that a symmetry was given up."""
    return Status(
        "symmetry",
        "modes",
        "the density looked symmetric at first, but is not at all of its modes: everything was "
        "fitted again without symmetry.",
        "symmetry=False spares the first fit.",
        level="info",
    )


def spread_statuses(orbits: Orbits | None, statuses: list[Any]) -> list[Any]:
    """Say of every image what was said of the region that was fitted."""
    if orbits is None:
        return statuses
    out = []
    for s in statuses:
        rows = [None] if s.mode is None else np.flatnonzero(orbits.rows == s.mode)
        out += [replace(s, mode=None if row is None else int(row)) for row in rows]
    return out


def _moved_scale(maps: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return triangular(maps @ scale)
