"""The modes that a search has found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.status import Status

if TYPE_CHECKING:
    from pymc_multimodal.search.settings import ModeSearch
    from pymc_multimodal.search.state import Search
    from pymc_multimodal.target.density import Density

__all__ = ["Modes", "modes_of"]

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
    optimum_ids : array of int, shape (p,)
        Their indices in the search's `OptimumSet`, which a later search does not change; -1 for
        the central point of a runaway search.
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
    optimum_ids: np.ndarray
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
        mode = dict(zip(known.optimum_ids.tolist(), known.optimum_modes.tolist(), strict=True))
        out = np.full(len(self), -1)
        for i, k in zip(self.optimum_ids.tolist(), self.optimum_modes.tolist(), strict=True):
            out[k] = max(out[k], mode.get(i, -1))
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


def modes_of(density: Density, search: Search, settings: ModeSearch) -> Modes:
    """Return the modes that a search has found.

    Parameters
    ----------
    density : Density
        Evaluated only if no optimum was found, at the starts.
    search : Search
        After its first batch.
    settings : ModeSearch

    Returns
    -------
    Modes
    """
    optima, counts = search.optima, search.counts
    if not len(optima):
        return _central_point(density, search)
    given = settings.locations is not None
    best = optima.summits(settings.negligible)
    mode = optima.mode_of(best)
    labels = mode[search.start_optima]
    hits = np.bincount(labels[labels >= 0], minlength=len(best))
    n, once = counts.starts, int(np.sum(hits == 1))
    unseen = once / n
    # Poisson bound on the number of singletons; the rule of three when there are none.
    upper = min(1.0, 3.0 / n if once == 0 else (once + 2 * np.sqrt(once) + 3) / n)
    ids = np.flatnonzero(mode >= 0)
    return Modes(
        locations=optima.x[best],
        log_density=optima.logp[best],
        scale=optima.scale[best],
        hits=hits,
        optima=optima.x[ids],
        optimum_modes=mode[ids],
        optimum_ids=ids,
        points=search.points,
        point_modes=mode[search.point_optima],
        spread=search.spread,
        n_starts=n,
        unseen_start_mass=float("nan") if given else unseen,
        unseen_start_mass_upper=float("nan") if given else upper,
        singletons=hits == 1,
        statuses=_statuses(search, len(best), 0 if given else once),
    )


def _statuses(search: Search, n_modes: int, once: int) -> tuple[Status, ...]:
    """Say what was met: `n_modes` modes that matter, of which `once` were found by one start."""
    counts = search.counts
    n = counts.starts
    statuses = _cut_short(search)
    n_negligible = len(np.unique(search.optima.group)) - n_modes
    if n_negligible:
        statuses.append(
            Status("negligible", "modes", f"{n_negligible} further optima hold next to no mass.",
                   "They were left out.", level="info")
        )  # fmt: skip
    if counts.runaway:
        statuses.append(
            Status("runaway", "modes", f"{counts.runaway} of {n} starts ran away uphill.",
                   "A hierarchical model may want its non-centred form.")
        )  # fmt: skip
    if once:
        statuses.append(
            Status("singletons", "modes",
                   f"{once} of {n_modes} modes were found by one start of {n} only, so "
                   f"about {once / n:.1%} of the starts' basins are unseen.",
                   "Raise ModeSearch.max_starts or give more starts.")
        )  # fmt: skip
    return tuple(statuses)


def _cut_short(search: Search) -> list[Status]:
    """Say which climbs ended nowhere."""
    counts, statuses = search.counts, []
    if counts.flat:
        statuses.append(
            Status("flat", "modes", f"{counts.flat} starts ended where the density is flat.",
                   "They were not counted as modes.", level="info")
        )  # fmt: skip
    if counts.unfinished:
        statuses.append(
            Status("unfinished", "modes",
                   f"{counts.unfinished} of {counts.starts} climbs were cut off by a limit of "
                   "the fit: modes may be missing.", "Raise the limit.")
        )  # fmt: skip
    return statuses


def _central_point(density: Density, search: Search) -> Modes:
    """Return a start of typical log density in place of modes, if no optimum was found."""
    # Prior draws are where the mass may be; the climbs' paths lead away from it.
    points, n = search.starts, search.counts.starts
    logp = density.logp(points)
    typical = np.argsort(-logp)[len(logp) // 2]
    runaway = Status(
        "runaway",
        "modes",
        f"none of {n} starts reached a proper optimum: the density grows without end along some "
        "direction, or is flat.",
        "Sampled from short chains as one region; a hierarchical model wants its non-centred form.",
    )
    return Modes(
        locations=points[typical][None],
        log_density=logp[typical][None],
        scale=np.diag(search.spread)[None],
        hits=np.array([n]),
        optima=points[typical][None],
        optimum_modes=np.zeros(1, dtype=int),
        optimum_ids=np.array([-1]),
        points=points,
        point_modes=np.zeros(len(points), dtype=int),
        spread=search.spread,
        n_starts=n,
        unseen_start_mass=float("nan"),
        unseen_start_mass_upper=float("nan"),
        singletons=np.zeros(1, dtype=bool),
        runaway=True,
        statuses=(*_cut_short(search), runaway),
    )
