"""The rule that ends a search: how many starts the next batch has, and whether there is one."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.search.optimise import optimiser_for
from pymc_multimodal.search.selection import are_selected

if TYPE_CHECKING:
    from pymc_multimodal.search.settings import ModeSearch
    from pymc_multimodal.search.state import Search
    from pymc_multimodal.target.density import Density

__all__ = ["RARE_MASS", "has_rare_modes", "is_settled", "next_size", "rare_modes"]

# Starts that every mode is to be found by; of this many starts and more, 2 starts. A basin that one
# start in fifty falls into may have a neighbour that one in a few hundred falls into.
# Measured: examples/benchmarks/constants.py
MIN_HITS, MANY_STARTS, MIN_HITS_OF_MANY = 10, 1024, 2
# Fewest starts of a search by L-BFGS, as long as the search has cost fewer evaluations than this, a
# small part of a fit: climbs to known optima of nearly normal modes cost one or two evaluations.
# Measured: examples/benchmarks/missed.py; docs/calibration.rst says what 128 starts had missed.
MIN_STARTS, CHEAP_EVALS = 512, 5_000
# The same where modes have several optima each, as ridges have, of which more starts tell whether
# they are one mode. Measured: as above.
RIDGE_EVALS = 20_000
# Of so many starts and more, the search ends as well if the modes that fewer than two starts led to
# hold at most this share of the mass of all modes, by Laplace's approximation: these modes over all
# starts estimate the mass of those that were not found, as their number does the unseen share of
# starts (Good 1953). Conventional: a tenth of the error that is asked for by default.
SMALL_MASS = 1e-3
# Most starts by default, six doublings of the first batch. There are more, so many for each mode,
# where less than this share of the starts leads to unknown modes; the modes found once, over all
# starts, estimate it (Good 1953). Measured: examples/benchmarks/growth.py; of 1,000 modes 4,096
# starts find 961, 8,192 find 998 and 16,384 all.
MAX_STARTS, STARTS_PER_MODE, MAX_SINGLETONS = 4096, 16, 0.1
# Modes are rare that fewer starts than these led to; they matter if they hold more than this share
# of the mass, by Laplace's approximation. Measured: examples/benchmarks/missed.py. In seed 161 a
# mode of weight 0.19 has 0.0009 of the starts, and the rarest others 0.006: 32 starts of these are
# 5 of the former. With 16, a search in three missed it, with 32 none of twenty.
RARE_HITS, RARE_MASS = 32, 0.01
# Starts that modes of this mass have to be found by when the search ends, without a warning.
# Conventional: where a mode was found by three starts, another one that is as rare was found by
# none with a probability of 5 %.
FEW_HITS = 4
# Fewest batches, in sizes of the first one. Conventional: a second batch tells whether the first
# one found everything.
MIN_BATCHES = 2
# Fewest starts of a search by selected starts, as long as it has cost fewer evaluations than this.
# Measured: of two normals in 4 and 8 dimensions, 24 to 48 starts missed one in 4 of 10 searches.
SELECTED_STARTS, SELECTED_EVALS = 96, 1_000
# The number does not matter where there are several modes, each found by so many starts. Measured:
# in 25 random simulators (examples/benchmarks/simulator_random.py) and 40 searches of two modes,
# every mode was found by the first 14 starts, and the rarest of two by 5 of 24.
SELECTED_HITS = 5


def next_size(search: Search, settings: ModeSearch) -> int:
    """Return the size of the next batch: as many starts as there were so far."""
    starts, most = search.counts.starts, settings.max_starts
    if most is None:
        summits = search.optima.summits(settings.negligible)
        modes = search.optima.mode_of(summits)[search.start_optima]
        hits = np.bincount(modes[modes >= 0], minlength=len(summits))
        few = np.count_nonzero(hits == 1) < MAX_SINGLETONS * starts
        most = max(MAX_STARTS, STARTS_PER_MODE * len(summits) if few else 0)
    return min(starts, most - starts)


def is_settled(density: Density, search: Search, settings: ModeSearch, before: int) -> bool:
    """Tell whether no further batch is needed.

    Parameters
    ----------
    density, search, settings
        As for `find_modes`.
    before : int
        Number of modes before the last batch.
    """
    n = search.counts.starts
    given = search.distribution.points is not None or isinstance(settings.starts, Integral)
    if given or next_size(search, settings) <= 0:
        return True
    summits = search.optima.summits(settings.negligible)
    enough = n >= MIN_BATCHES * search.first_size and len(summits) <= before
    ridges = 1 < len(summits) < len(search.optima)
    cheap = search.n_evals < (RIDGE_EVALS if ridges else CHEAP_EVALS)
    if optimiser_for(density, settings) == "lbfgs" and cheap:
        enough &= n >= MIN_STARTS
    modes = search.optima.mode_of(summits)[search.start_optima]
    hits = np.bincount(modes[modes >= 0], minlength=len(summits))
    dear = are_selected(density, settings, search.distribution)
    rare = len(summits) < 2 or int(hits.min()) < SELECTED_HITS
    if dear and rare and search.n_evals < SELECTED_EVALS:
        enough &= n >= SELECTED_STARTS
    wanted = MIN_HITS_OF_MANY if dear or n >= MANY_STARTS else MIN_HITS
    if n >= max(MANY_STARTS, MIN_BATCHES * search.first_size) and len(summits):
        log_mass = search.optima.log_mass[summits]
        mass = np.exp(log_mass - log_mass.max())
        if mass[hits < MIN_HITS_OF_MANY].sum() <= SMALL_MASS * mass.sum():
            return True
    return enough and int(hits.min(initial=n)) >= wanted


def has_rare_modes(search: Search, settings: ModeSearch) -> bool:
    """Tell whether modes of some mass were found by few starts: others may be missing.

    Parameters
    ----------
    search : Search
        It has an optimum.
    settings : ModeSearch
    """
    return rare_modes(search, settings, RARE_HITS)[1] > RARE_MASS


def rare_modes(search: Search, settings: ModeSearch, hits: int = FEW_HITS) -> tuple[int, float]:
    """Return how many modes fewer starts have led to, and their share of the mass by Laplace.

    Modes that no start has led to do not count: they were found by their values, or by draws.

    Parameters
    ----------
    search : Search
        It has an optimum.
    settings : ModeSearch
    hits : int
        Starts that a mode is not rare from.
    """
    summits = search.optima.summits(settings.negligible)
    modes = search.optima.mode_of(summits)[search.start_optima]
    found = np.bincount(modes[modes >= 0], minlength=len(summits))
    rare = (found > 0) & (found < hits)
    log_mass = search.optima.log_mass[summits]
    mass = np.exp(log_mass - log_mass.max())
    return int(rare.sum()), float(mass[rare].sum() / mass.sum())
