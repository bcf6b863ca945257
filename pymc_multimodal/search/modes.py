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

# A mode is another one than a known mode whose optima it holds if it is higher by more than this
# (nats). Conventional: the depth of a valley that parts two modes, `ModeSearch.barrier`.
NEW_MODE_RISE = 1.0


@dataclass(frozen=True)
class Modes:
    """Result of a search.

    Attributes
    ----------
    locations : array of shape (K, d)
        The modes, by log density, highest first.
    log_density : array of shape (K,)
    scale : array of shape (K, d, d)
        Lower-triangular L with ``L @ L.T`` the inverse of the negative Hessian at the mode; no
        direction is wider than the spread of the starts.
    hits : array of int, shape (K,)
        Number of starts that ended in each mode.
    optima, optimum_modes : arrays of shape (p, d) and (p,)
        All distinct optima with the mode each belongs to: a ring or a ridge has many.
    optimum_ids : array of int, shape (p,)
        Indices of the optima in `Search.optima`, which further climbs do not change; -1 for the
        central point of a runaway search.
    points, point_modes : arrays of shape (m, d) and (m,)
        Starts and points on the paths of the climbs, with the mode in which each climb ended, or
        -1.
    spread : array of shape (d,)
        Robust standard deviation of the starts.
    n_starts : int
    unseen_start_mass : float
        Estimated probability that a start lands in a basin not found: modes hit exactly once, after
        all merges, over the number of starts (Good 1953, doi:10.1093/biomet/40.3-4.237). NaN if
        modes were given. It is a share of starts, not of posterior mass.
    unseen_start_mass_upper : float
        Its upper 95 % bound; 3 / n if there are no singletons.
    singletons : array of bool, shape (K,)
        Modes hit exactly once.
    runaway : bool
        Whether no proper optimum was found, because the density grows without end (centred
        hierarchical models). ``locations`` then holds one central point.
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
        """Return the mode of `known` that each mode is, or -1.

        A mode stays the same when further climbs find more of its optima, and when one of these,
        on a ridge, is a little higher. It is another mode if it is higher by more than 1 nat.

        Parameters
        ----------
        known : Modes
            Of an earlier state of the same search.

        Returns
        -------
        array of int, shape (K,)
        """
        mode = dict(zip(known.optimum_ids.tolist(), known.optimum_modes.tolist(), strict=True))
        out = np.full(len(self), -1)
        for i, k in zip(self.optimum_ids.tolist(), self.optimum_modes.tolist(), strict=True):
            out[k] = max(out[k], mode.get(i, -1))
        higher = self.log_density > known.log_density[out] + NEW_MODE_RISE
        return np.where(higher, -1, out)

    def merged(self, group: np.ndarray) -> Modes:
        """Join the modes of each group under the highest of them.

        Parameters
        ----------
        group : array of int, shape (K,)
            Groups are numbered from 0.
        """
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
        unseen_start_mass=float("nan") if given else once / n,
        unseen_start_mass_upper=float("nan") if given else min(1.0, _upper_count(once) / n),
        singletons=hits == 1,
        statuses=_statuses(search, len(best), 0 if given else once),
    )


def _upper_count(count: int) -> float:
    """Return an upper 95 % bound of the mean of a Poisson count.

    For a count of 0 it is the rule of three, ``-log(0.05)``; otherwise the mean m for which the
    count is two standard deviations, ``2 sqrt(m)``, too low.
    """
    return 3.0 if count == 0 else count + 2 * np.sqrt(count) + 3


def _statuses(search: Search, n_modes: int, once: int) -> tuple[Status, ...]:
    """Describe what the search has met.

    Parameters
    ----------
    search : Search
    n_modes : int
        Modes that are not negligible.
    once : int
        Modes that one start has found; 0 if modes were given.
    """
    counts = search.counts
    n = counts.starts
    statuses = _cut_short(search)
    n_negligible = len(np.unique(search.optima.group)) - n_modes
    if n_negligible:
        statuses.append(
            Status("negligible", "search", f"{n_negligible} further modes have negligible mass.",
                   "They were left out.", level="info")
        )  # fmt: skip
    if counts.runaway:
        statuses.append(
            Status("runaway", "search",
                   f"{counts.runaway} of {n} climbs ended where the density still grows.",
                   "Write a hierarchical model in its non-centred form.")
        )  # fmt: skip
    if counts.steps:
        statuses.append(_step_status(counts.steps, n))
    if once:
        statuses.append(
            Status("singletons", "search",
                   f"{once} of {n_modes} modes were found by one start of {n} only, so about "
                   f"{once / n:.1%} of all starts would find a mode that was not found.",
                   "Raise ModeSearch.max_starts or give more starts.")
        )  # fmt: skip
    return tuple(statuses)


def _cut_short(search: Search) -> list[Status]:
    """Describe the climbs that ended at no optimum."""
    counts, statuses = search.counts, []
    if counts.flat:
        statuses.append(
            Status("flat", "search", f"{counts.flat} climbs ended where the density is flat.",
                   "They were not counted as modes.", level="info")
        )  # fmt: skip
    if counts.unfinished:
        statuses.append(
            Status("unfinished", "search",
                   f"{counts.unfinished} of {counts.starts} climbs were cut off by a limit of "
                   "the fit: modes may be missing.", "Raise the limit.")
        )  # fmt: skip
    return statuses


def _step_status(steps: int, n: int) -> Status:
    return Status(
        "step",
        "search",
        f"{steps} of {n} climbs ended at a step of the log density: it falls there at "
        "once, although its gradient points on.",
        "Gradients do not see steps (pm.math.switch, comparisons, rounding): write a "
        "smooth function in their place, such as pm.math.sigmoid, or sum over the cases.",
    )


def _central_point(density: Density, search: Search) -> Modes:
    """Return a start of typical log density in place of modes, if no optimum was found."""
    # The posterior mass may be where the prior draws are; the climbs have left it.
    points, n = search.starts, search.counts.starts
    logp = density.logp(points)
    typical = np.argsort(-logp)[len(logp) // 2]
    region = "one region, around a central point: modes, if there are several, are lumped together"
    if search.counts.steps > search.counts.runaway:
        ended = _step_status(search.counts.steps, n)
        ended = replace(ended, remedy=f"The fit has {region}. {ended.remedy}")
    else:
        ended = Status(
            "runaway",
            "search",
            f"none of {n} climbs reached a proper optimum: the density grows without end along "
            "some direction, or is flat.",
            f"The fit has {region}, and its weight is no weight of a mode. Write a hierarchical "
            "model in its non-centred form: then modes are told apart.",
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
        statuses=(*_cut_short(search), ended),
    )
