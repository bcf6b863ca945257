"""The modes that a search has found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.status import Status

__all__ = ["Modes"]

# Nats by which a summit has to rise above those of a known mode to be a new one, though there is no
# valley between them: as many as a valley of `ModeSearch.barrier` is deep.
CLEARLY = 1.0


@dataclass(frozen=True)
class Modes:
    """Result of the search.

    Attributes
    ----------
    locations : array of shape (K, d)
        The modes, by log density, highest first.
    log_density : array of shape (K,)
    scale : array of shape (K, d, d)
        Lower-triangular L with ``L @ L.T`` the inverse of the negative Hessian at the mode,
        directions without curvature limited to the spread of the starts.
    hits : array of shape (K,)
        Starts that ended in each mode.
    optima, optimum_modes : arrays of shape (p, d) and (p,)
        All distinct optima with the mode each belongs to: a ring or a ridge has many.
    points, point_modes : arrays of shape (m, d) and (m,)
        Starts and points on the optimisers' paths, with the mode in which each ended.
    spread : array of shape (d,)
        Robust standard deviation of the starts.
    n_starts : int
    unseen_start_mass : float
        Estimated probability that a start lands in a basin not found (Good-Turing: modes hit
        exactly once, after all merges, for each start); NaN when modes were given. It speaks
        of starts, not of posterior mass.
    unseen_start_mass_upper : float
        Its upper 95 % bound; 3 / n when there are no singletons.
    singletons : array of bool, shape (K,)
        Modes hit exactly once.
    runaway : bool
        No proper optimum was found: the density grows without end (centred hierarchical
        models). ``locations`` then holds one central point.
    statuses : tuple of Status
    """

    locations: np.ndarray
    log_density: np.ndarray
    scale: np.ndarray
    hits: np.ndarray
    optima: np.ndarray
    optimum_modes: np.ndarray
    points: np.ndarray
    point_modes: np.ndarray
    spread: np.ndarray
    n_starts: int
    unseen_start_mass: float
    unseen_start_mass_upper: float
    singletons: np.ndarray
    runaway: bool = False
    statuses: tuple[Status, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.locations)

    def counterparts(self, known: Modes) -> np.ndarray:
        """Mode of `known` that each mode is, though more of its optima were found; shape (K,).

        A later climb on a ridge may end a little higher; one clearly higher is another mode (-1).
        """
        at = {x.tobytes(): k for x, k in zip(known.optima, known.optimum_modes, strict=True)}
        out = np.full(len(self), -1)
        for x, k in zip(self.optima, self.optimum_modes, strict=True):
            out[k] = max(out[k], at.get(x.tobytes(), -1))
        higher = self.log_density > known.log_density[out] + CLEARLY
        return np.where(higher, -1, out)

    def merged(self, group: np.ndarray) -> Modes:
        """Join modes of one group under the highest of them; groups are numbered from 0."""
        first = np.array([np.flatnonzero(group == g)[0] for g in range(group.max() + 1)])
        hits = np.bincount(group, self.hits).astype(int)
        labels = np.where(self.point_modes >= 0, group[self.point_modes], -1)
        return replace(
            self,
            locations=self.locations[first],
            log_density=self.log_density[first],
            scale=self.scale[first],
            hits=hits,
            optimum_modes=group[self.optimum_modes],
            point_modes=labels,
            singletons=hits == 1,
        )

    def take(self, order: np.ndarray) -> Modes:
        """Renumber the modes: new mode i is old mode ``order[i]``."""
        rank = np.argsort(order)
        return replace(
            self,
            locations=self.locations[order],
            log_density=self.log_density[order],
            scale=self.scale[order],
            hits=self.hits[order],
            optimum_modes=rank[self.optimum_modes],
            point_modes=np.where(self.point_modes >= 0, rank[self.point_modes], -1),
            singletons=self.singletons[order],
        )
