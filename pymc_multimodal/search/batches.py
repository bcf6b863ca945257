"""One batch of a search: starts, climbs, merging, symmetry, and the rule that ends the search."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.search.classify import ClimbEnd, identify, identify_all
from pymc_multimodal.search.distant import DistantOptimum
from pymc_multimodal.search.merging import join_optima
from pymc_multimodal.search.optima import OptimumSet
from pymc_multimodal.search.optimise import climb_all, optimiser_for
from pymc_multimodal.search.quadratic import Evaluated
from pymc_multimodal.search.selection import are_selected, first_sample, select_starts
from pymc_multimodal.search.starts import (
    Starts,
    draw_starts,
    first_size,
    first_starts,
    start_distribution,
)
from pymc_multimodal.search.state import Search
from pymc_multimodal.search.stopping import is_settled, next_size
from pymc_multimodal.search.symmetries import check_symmetry, find_symmetry
from pymc_multimodal.status import LimitReached
from pymc_multimodal.target.density import CHUNK
from pymc_multimodal.target.group import Symmetry

if TYPE_CHECKING:
    from pymc_multimodal.search.settings import ModeSearch
    from pymc_multimodal.search.starts import StartDistribution
    from pymc_multimodal.target.density import Density

__all__ = ["begin_search", "climb_ends", "climb_from", "find_modes", "find_more_modes"]

# Climbs of the first batch that are made first: they find the curvature of modes, which makes the
# other climbs shorter (by differences each gradient costs d + 1 evaluations), and they tell what a
# climb costs where the fit has a limit.
# Measured: examples/benchmarks/constants.py
SCOUTS = 4
# Part of the first batch that is climbed from where starts are selected, which is where climbs are
# dear. Conventional: the aim is some hundred to 1,500 evaluations.
SELECTED_PART = 5
# Part of what a limit leaves for the search that the climbs of a batch may use. The rest is for
# barriers, symmetries and later batches. Conventional.
CLIMB_SHARE = 0.5
# Times that the climbs of a batch may go on in longer units, from where they ended. Conventional:
# one brings them to a normal mode, whatever its width.
MAX_WIDENINGS = 2
# Optimisers that climb from one start after the other. A limit cuts the last climbs off, and not
# the slowest ones.
ONE_BY_ONE = ("powell", "nelder_mead")
# Seed of the points at which symmetries are tested, which shall not depend on the seed of the fit.
SYMMETRY_SEED = 0


def begin_search(
    density: Density,
    settings: ModeSearch,
    symmetry: Symmetry | bool,
    rng: np.random.Generator,
) -> Search:
    """Begin a search for modes. The density is not evaluated.

    Parameters
    ----------
    density : Density
    settings : ModeSearch
    symmetry : Symmetry or bool
        Group under which all images of a mode count as one mode. True: a group is looked for after
        the first batch. False: none is.
    rng : numpy.random.Generator

    Returns
    -------
    Search

    Raises
    ------
    ModelError
        If there is no prior to draw starts from, and none were given.
    ValueError
        If given points have the wrong shape, or are not finite.
    """
    return Search.empty(start_distribution(density, settings, rng), symmetry)


def find_modes(
    density: Density, search: Search, settings: ModeSearch, rng: np.random.Generator
) -> Search:
    """Climb from one batch of starts.

    Each batch doubles the number of starts. After the first one a symmetry is looked for.

    Parameters
    ----------
    density : Density
    search : Search
        It stays valid if an exception is raised.
    settings : ModeSearch
    rng : numpy.random.Generator

    Returns
    -------
    Search
        `Search.settled` tells whether no further batch is needed.

    Raises
    ------
    LimitReached
        If a limit of the fit was reached before the density was finite at any point. Later the
        search keeps what is known.
    ModelError
        If the log density is finite at none of the first starts.
    SymmetryBroken
        If an image of an optimum has another log density.
    ValueError
        If the optimiser needs a gradient that the density does not have, or a given symmetry is
        not one of the density.
    """
    before = len(search.optima.summits(settings.negligible))
    evals, starts = density.n_logp_evals, search.counts.starts
    search = (_next_batch if starts else _first_batch)(density, search, settings, rng)
    if search.counts.starts == starts:
        return replace(search, settled=True)
    with suppress(LimitReached):
        search = join_optima(density, search, settings.barrier)
        if not search.symmetry_sought and len(search.optima):
            search = _seek_symmetry(density, search, settings)
    search = replace(search, n_evals=search.n_evals + density.n_logp_evals - evals)
    if not starts:
        search = replace(search, first_size=search.counts.starts)
    return replace(search, settled=is_settled(density, search, settings, before))


def _first_batch(
    density: Density, search: Search, settings: ModeSearch, rng: np.random.Generator
) -> Search:
    """Climb from the first batch of starts: from a few first.

    Near a limit of the fit the batch has as many starts as can be climbed from.
    """
    size = first_size(search.distribution, settings)
    if are_selected(density, settings, search.distribution):
        return _first_selected(density, search, settings, size // SELECTED_PART, rng)
    few = min(size, max(1, int(min(density.room(), SCOUTS))))
    if density.dear and density.room() == np.inf:
        # All climb side by side: few climbs would occupy few workers.
        few = size
    evals = density.n_logp_evals
    starts = first_starts(density, search.distribution, settings, rng, slice(0, few))
    search = _climb_from_starts(density, search, settings, starts)
    more = _affordable(density, size - few, (density.n_logp_evals - evals) / few)
    if more:
        with suppress(LimitReached):
            part = slice(few, few + more)
            starts = first_starts(density, search.distribution, settings, rng, part)
            search = _climb_from_starts(density, search, settings, starts)
    return search


def _first_selected(
    density: Density, search: Search, settings: ModeSearch, size: int, rng: np.random.Generator
) -> Search:
    """Climb from starts that are selected from a sample: without a limit from all at once.

    Such climbs go on side by side, and learn from one another.
    """
    size = max(1, size)
    sample = first_sample(density, search.distribution, settings, size, rng)
    search = replace(search, evaluated=Evaluated(sample.x, sample.logp))
    few = size if density.room() == np.inf else min(size, SCOUTS)
    evals = density.n_logp_evals
    starts, sample = select_starts(density, search, sample, few)
    search = _climb_from_starts(density, search, settings, starts)
    more = _affordable(density, size - few, (density.n_logp_evals - evals) / len(starts))
    if more and len(sample):
        with suppress(LimitReached):
            starts, _ = select_starts(density, search, sample, more)
            search = _climb_from_starts(density, search, settings, starts)
    return search


def _affordable(density: Density, size: int, price: float) -> int:
    """Return how many of some climbs of a price a limit allows."""
    return int(min(CLIMB_SHARE * density.room() / max(price, 1.0), size))


def _next_batch(
    density: Density, search: Search, settings: ModeSearch, rng: np.random.Generator
) -> Search:
    """Climb from a later batch of starts."""
    size = next_size(search, settings)
    size = max(1, _affordable(density, size, search.n_evals / search.counts.starts))
    images = search.optima.images()
    starts = draw_starts(density, search.distribution, settings, size, rng, images)
    return _climb_from_starts(density, search, settings, starts)


def find_more_modes(
    density: Density, search: Search, settings: ModeSearch, size: int, rng: np.random.Generator
) -> Search:
    """Climb from further starts, whether the search is settled or not.

    Parameters
    ----------
    density : Density
    search : Search
        It has an optimum; it stays valid if an exception is raised.
    settings : ModeSearch
    size : int
        Number of starts.
    rng : numpy.random.Generator

    Returns
    -------
    Search
        The starts count.

    Raises
    ------
    LimitReached
        If a limit of the fit was reached.
    ModelError
        If there is no prior to draw from.
    SymmetryBroken
        If an image of an optimum has another log density.
    """
    evals, images = density.n_logp_evals, search.optima.images()
    starts = draw_starts(density, search.distribution, settings, size, rng, images)
    search = _climb_from_starts(density, search, settings, starts)
    search = join_optima(density, search, settings.barrier)
    return replace(search, n_evals=search.n_evals + density.n_logp_evals - evals)


def climb_from(
    density: Density, search: Search, settings: ModeSearch, points: np.ndarray
) -> tuple[Search, np.ndarray]:
    """Climb from points that do not count as starts.

    Parameters
    ----------
    density : Density
    search : Search
        It stays valid if an exception is raised.
    settings : ModeSearch
    points : array of shape (n, d)

    Returns
    -------
    search : Search
    labels : array of int, shape (n,)
        Mode of `modes_of` that each climb ended in, or -1.

    Raises
    ------
    LimitReached
        If a limit of the fit was reached: some of the climbs may be cut off.
    SymmetryBroken
        If an image of an optimum has another log density.
    """
    counts = search.counts
    search, labels, cut_off = _climb(density, search, settings, points)
    if cut_off.any():
        density.check_limits(CHUNK)
    search = join_optima(density, search, settings.barrier)
    # Neither do their ends count, only the saddles that were not left.
    search = replace(search, counts=replace(counts, saddles=search.counts.saddles))
    mode = search.optima.mode_of(search.optima.summits(settings.negligible))
    return search, mode[labels]


def climb_ends(
    density: Density, distribution: StartDistribution, settings: ModeSearch, points: np.ndarray
) -> np.ndarray:
    """Climb from points, without a look at the ends: these need not be optima.

    Parameters
    ----------
    density : Density
    distribution : StartDistribution
    settings : ModeSearch
    points : array of shape (n, d)

    Returns
    -------
    array of shape (m, d)
        Ends at which the log density is finite.
    """
    search = Search.empty(distribution, False)
    climbs = climb_all(density, settings, points, search.optima, search.evaluated)
    return climbs.x[np.isfinite(climbs.logp)]


# ---------------------------------------------------------- one batch


def _climb(
    density: Density,
    search: Search,
    settings: ModeSearch,
    points: np.ndarray,
) -> tuple[Search, np.ndarray, np.ndarray]:
    """Climb from points, again in longer units where an optimum is many spreads away.

    Returns the search, the index of each point's optimum, or -1, and which climbs a limit cut off.
    """
    # Saddles are rationed by batch.
    search = replace(search, counts=replace(search.counts, escapes=0))
    for widenings in range(MAX_WIDENINGS + 1):
        climbs = climb_all(density, settings, points, search.optima, search.evaluated)
        if climbs.evaluated is not None:
            search = replace(search, evaluated=search.evaluated.joined(climbs.evaluated))
        search = _with_highest(search, climbs.x, climbs.logp)
        may_widen = widenings < MAX_WIDENINGS
        try:
            search, labels, cut_off = identify_all(
                density, search, climbs, settings.max_iter, may_widen=may_widen
            )
            break
        except DistantOptimum as distant:
            search, points = search.widened(distant.width), climbs.x
    search = replace(
        search,
        points=np.concatenate([search.points, climbs.path]),
        point_optima=np.concatenate([search.point_optima, labels[climbs.path_row]]),
    )
    return search, labels, cut_off


def _climb_from_starts(
    density: Density, search: Search, settings: ModeSearch, starts: Starts
) -> Search:
    """Climb from starts, which count."""
    if not len(starts):
        return search
    search = _with_highest(search, starts.x, starts.logp)
    if optimiser_for(density, settings) == "cobyqa":
        drawn = starts.take(np.flatnonzero(starts.at_random))
        evaluated = search.evaluated.joined(Evaluated(drawn.x, drawn.logp))
        search = replace(search, evaluated=evaluated)
    search, labels, cut_off = _climb(density, search, settings, starts.x)
    tells = (labels >= 0) & starts.at_random
    if optimiser_for(density, settings) not in ONE_BY_ONE:
        tells &= not cut_off.any()
    counts = search.counts
    return replace(
        search,
        counts=replace(
            counts,
            starts=counts.starts + len(starts),
            unfinished=counts.unfinished + int(cut_off.sum()),
        ),
        starts=np.concatenate([search.starts, starts.x]),
        start_optima=np.concatenate([search.start_optima, labels]),
        start_from_prior=np.concatenate([search.start_from_prior, starts.from_prior]),
        start_tells=np.concatenate([search.start_tells, tells]),
    )


def _with_highest(search: Search, x: np.ndarray, logp: np.ndarray) -> Search:
    """Remember the highest of some points, if it is the highest so far."""
    i = int(np.argmax(logp))
    if not np.isfinite(logp[i]) or (search.highest is not None and search.highest[1] >= logp[i]):
        return search
    return replace(search, highest=(x[i], float(logp[i])))


# ---------------------------------------------------------- symmetry


def _seek_symmetry(density: Density, search: Search, settings: ModeSearch) -> Search:
    """Look for a symmetry, or check the given one; from then on all images are one optimum."""
    search = replace(search, symmetry_sought=True)
    old, wanted = search.optima, search.symmetry_wanted
    if wanted is False:
        return search
    if isinstance(wanted, Symmetry):
        check_symmetry(wanted, density, search.starts)
        symmetry: Symmetry | None = wanted
    else:
        rng = np.random.default_rng(SYMMETRY_SEED)
        symmetry = find_symmetry(density, old.x, old.logp, search.starts, search.spread, rng)
    if symmetry is None:
        return search
    search = replace(search, optima=OptimumSet.empty(search.spread, symmetry))
    # The last entry serves the label -1.
    index = np.full(len(old) + 1, -1)
    for i in np.argsort(-old.logp):
        index[i] = search.optima.nearest(density, old.x[i : i + 1], old.logp[i : i + 1])[0]
        if index[i] < 0:
            hessian = None if density.has_gradient else old.hessian[i]
            end = ClimbEnd(old.x[i], float(old.logp[i]), True, hessian)
            search, index[i] = identify(density, search, end, settings.max_iter)
    search = replace(
        search,
        optima=search.optima.record_stabilisers(old, index),
        start_optima=index[search.start_optima],
        point_optima=index[search.point_optima],
        saddle_pairs=search.saddle_pairs[:0],
        saddle_logp=search.saddle_logp[:0],
    )
    return join_optima(density, search, settings.barrier)
