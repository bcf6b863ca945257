"""The modes that a search has found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal._text import span
from pymc_multimodal.search.statuses import (
    cut_short_statuses,
    search_statuses,
    seen_basin_mass,
    step_status,
    upper_share,
)
from pymc_multimodal.status import RAISE_LIMIT, FitError, Status, counted

if TYPE_CHECKING:
    from pymc_multimodal.search.settings import ModeSearch
    from pymc_multimodal.search.state import Search
    from pymc_multimodal.target.density import Density

__all__ = ["Modes", "highest_point", "modes_of"]

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
    unseen_start_mass_upper : float
        Upper 95 % bound of the probability that the climb from a start leads to a mode not found.
        With n climbs that ended at an optimum, it is 3 / n if no mode was hit exactly once, and
        more otherwise: the modes hit once, over n, estimate that probability (Good 1953,
        doi:10.1093/biomet/40.3-4.237). Batches that a limit cut off do not count. It is a share of
        starts, not of posterior mass; NaN if modes were given.
    seen_basin_mass : float
        A mode is found with a probability of at least 95 % if its basin (the points from which
        climbs lead to it) holds this share of the prior: 3 / n for n climbs from prior draws that
        ended at an optimum, and 1 for fewer than three. A basin with a smaller share may hold any
        part of the posterior. NaN if no start was drawn from the prior.
    singletons : array of bool, shape (K,)
        Modes hit exactly once.
    runaway : bool
        Whether no proper optimum was found, because the density grows without end (centred
        hierarchical models). ``locations`` then holds one central point.
    statuses : tuple of Status
    starts, start_modes : arrays of shape (n, d) and (n,), or None
        Starts in the order of the climbs, with the mode in which each climb ended, or -1. None
        where no search was made, or an earlier version has saved the fit.
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
    unseen_start_mass_upper: float
    seen_basin_mass: float
    singletons: np.ndarray
    runaway: bool = False
    statuses: tuple[Status, ...] = field(default=())
    starts: np.ndarray | None = None
    start_modes: np.ndarray | None = None

    @classmethod
    def described(
        cls, x: np.ndarray, logp: np.ndarray, scale: np.ndarray, hits: np.ndarray | None = None
    ) -> Modes:
        """Return points as modes, each with a normal density around it, that no search has found.

        Parameters
        ----------
        x : array of shape (K, d)
        logp : array of shape (K,)
        scale : array of shape (K, d, d)
            Lower-triangular factors of covariances.
        hits : array of int, shape (K,), optional
            Climbs that ended at each; by default nothing is known of them.
        """
        k, unknown = len(x), float("nan")
        return cls(
            locations=x,
            log_density=logp,
            scale=scale,
            hits=np.ones(k, dtype=int) if hits is None else hits,
            optima=x,
            optimum_modes=np.arange(k),
            optimum_ids=np.arange(k),
            points=x[:0],
            point_modes=np.zeros(0, dtype=int),
            spread=np.ones(x.shape[1]),
            n_starts=0 if hits is None else int(hits.sum()),
            unseen_start_mass_upper=unknown,
            seen_basin_mass=unknown,
            singletons=np.zeros(k, dtype=bool) if hits is None else hits == 1,
        )

    def __len__(self) -> int:
        return len(self.locations)

    def __repr__(self) -> str:
        """Say how many there are; the arrays are in the attributes."""
        k, d = self.locations.shape
        return (
            f"<Modes: {counted(k, 'mode')} in {counted(d, 'coordinate')} from "
            f"{counted(self.n_starts, 'start')}, log density {span(self.log_density)}>"
        )

    @property
    def log_mass(self) -> np.ndarray:
        """Laplace's approximation of the log mass, without ``(d / 2) log(2 pi)``, shape (K,)."""
        volume = np.log(np.diagonal(self.scale, axis1=1, axis2=2)).sum(axis=1)
        out: np.ndarray = self.log_density + volume
        return out

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
        starts = self.start_modes
        return replace(
            self,
            locations=self.locations[first],
            log_density=self.log_density[first],
            scale=self.scale[first],
            hits=hits,
            optimum_modes=group[self.optimum_modes],
            point_modes=labels,
            singletons=hits == 1,
            start_modes=None if starts is None else np.where(starts >= 0, group[starts], -1),
        )

    def take(self, order: np.ndarray) -> Modes:
        """Renumber the modes: new mode i is old mode ``order[i]``; modes that are not named go."""
        rank, starts = np.full(len(self), -1), self.start_modes
        rank[order] = np.arange(len(order))
        kept = rank[self.optimum_modes] >= 0
        return replace(
            self,
            locations=self.locations[order],
            log_density=self.log_density[order],
            scale=self.scale[order],
            hits=self.hits[order],
            optima=self.optima[kept],
            optimum_modes=rank[self.optimum_modes[kept]],
            optimum_ids=self.optimum_ids[kept],
            point_modes=np.where(self.point_modes >= 0, rank[self.point_modes], -1),
            singletons=self.singletons[order],
            start_modes=None if starts is None else np.where(starts >= 0, rank[starts], -1),
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
    tells = search.start_tells
    best = optima.summits(settings.negligible)
    mode = optima.mode_of(best)
    labels = mode[search.start_optima]
    hits = np.bincount(labels[labels >= 0], minlength=len(best))
    told = np.bincount(labels[tells & (labels >= 0)], minlength=len(best))
    unseen = upper_share(int(np.sum(told == 1)), int(tells.sum()))
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
        n_starts=counts.starts,
        unseen_start_mass_upper=float("nan") if given else unseen,
        seen_basin_mass=seen_basin_mass(search),
        singletons=hits == 1,
        statuses=search_statuses(search, hits, float("nan") if given else unseen),
        starts=search.starts,
        start_modes=labels,
    )


def _central_point(density: Density, search: Search) -> Modes:
    """Return a start of typical log density in place of modes, if no optimum was found."""
    # The posterior mass may be where the prior draws are; the climbs have left it.
    points, n = search.starts, search.counts.starts
    logp = density.logp(points)
    typical = np.argsort(-logp)[len(logp) // 2]
    region = "one region, around a central point: modes, if there are several, are lumped together"
    if search.counts.steps > search.counts.runaway:
        ended = step_status(search.counts.steps, n)
        ended = replace(ended, remedy=f"The fit has {region}. {ended.remedy}")
    else:
        ended = Status(
            "runaway",
            "search",
            f"none of {counted(n, 'climb')} reached a proper optimum: the density grows without "
            "end along some direction, or is flat.",
            f"The fit has {region}, and its weight is no weight of a mode. Write a hierarchical "
            "model in its non-centred form: then modes are told apart.",
        )
    statuses = (*cut_short_statuses(search), ended)
    return _single_point(search, points[typical], logp[typical], statuses)


def highest_point(search: Search) -> Modes:
    """Return the highest known point in place of modes, for a search in which no climb has ended.

    Parameters
    ----------
    search : Search

    Returns
    -------
    Modes

    Raises
    ------
    FitError
        If the density is known at no point.
    """
    if search.highest is None:
        raise FitError(
            "The limit of the fit was reached before the log density was known at any point: "
            "raise max_evals or max_seconds."
        )
    unfinished = Status(
        "unfinished",
        "search",
        f"no climb from {counted(search.counts.starts, 'start')} had ended in a proper optimum "
        "when the limit of the fit was reached: the only mode is the highest point that is known.",
        RAISE_LIMIT,
    )
    modes = _single_point(search, *search.highest, (unfinished,))
    # No climb has ended there.
    return replace(modes, hits=np.zeros(1, dtype=int))


def _single_point(
    search: Search, x: np.ndarray, logp: float, statuses: tuple[Status, ...]
) -> Modes:
    """Return one point in place of modes."""
    return Modes(
        locations=x[None],
        log_density=np.array([logp]),
        scale=np.diag(search.spread)[None],
        hits=np.array([search.counts.starts]),
        optima=x[None],
        optimum_modes=np.zeros(1, dtype=int),
        optimum_ids=np.array([-1]),
        points=search.starts,
        point_modes=np.zeros(len(search.starts), dtype=int),
        spread=search.spread,
        n_starts=search.counts.starts,
        unseen_start_mass_upper=float("nan"),
        seen_basin_mass=float("nan"),
        singletons=np.zeros(1, dtype=bool),
        runaway=True,
        statuses=statuses,
    )
