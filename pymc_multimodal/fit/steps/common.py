"""What several steps need."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation import (
    DRAWS_OF_MODE,
    FirstAnswer,
    LeftOut,
    negligible_modes,
)
from pymc_multimodal.fit.state import known
from pymc_multimodal.proposals import with_hidden_modes
from pymc_multimodal.regions import RegionSampler
from pymc_multimodal.search import modes_of
from pymc_multimodal.target.target import Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.state import Division, State
    from pymc_multimodal.proposals import RegionDensity, RegionFit
    from pymc_multimodal.regions import RegionDraws
    from pymc_multimodal.search import Modes, Search

__all__ = [
    "FEW_MODES",
    "fit_regions",
    "leaving_out",
    "new_modes_of_mass",
    "region_sampler",
    "without_negligible",
]

# Modes from which on those of next to no mass are left out before the others are approximated, and
# from which on chains that are to refute a precise answer are half as many. Conventional.
FEW_MODES = 16
# Chains of a region propose from a network when so many times their draws are the most allowed.
# Measured: examples/benchmarks/calibration.py; trained earlier, networks cost more than the
# draws that they save.
NETWORK_DRAWS = 2
# Part of the evaluations that a limit leaves with which modes of next to no mass are looked for at
# most. Conventional: as for the first sample of a mixture.
ROOM_SHARE = 0.25


def without_negligible(
    search: Search, modes: Modes, asked: np.ndarray, run: Run, rng: np.random.Generator
) -> Search:
    """Leave out modes that a few draws of each show to hold next to no mass.

    Near a limit of the fit all modes stay.

    Parameters
    ----------
    search : Search
    modes : Modes
        Those of the search.
    asked : array of bool, shape (K,)
        Modes that may be left out.
    run : Run
    rng : numpy.random.Generator
    """
    if DRAWS_OF_MODE * len(modes) > ROOM_SHARE * run.density.room():
        return search
    optima = search.optima
    target = Target(run.density, run.cells(optima, modes))
    starts, target_se = search.distribution, run.settings.target_se
    small = negligible_modes(target, modes, starts, asked, target_se, rng, LeftOut.of(optima))
    return leaving_out(search, modes, small)


def leaving_out(search: Search, modes: Modes, small: np.ndarray) -> Search:
    """Leave the optima of some of K modes out of a search; `small` is a bool array, shape (K,)."""
    ids = modes.optimum_ids[small[modes.optimum_modes]]
    return replace(search, optima=search.optima.leaving_out(ids))


def new_modes_of_mass(search: Search, before: Modes, run: Run, rng: np.random.Generator) -> Search:
    """Leave out those of the new modes that hold next to no mass, where there is a first answer.

    Parameters
    ----------
    search : Search
    before : Modes
        Known earlier.
    run : Run
    rng : numpy.random.Generator
    """
    settings = run.settings
    modes = modes_of(run.density, search, settings.modes)
    if modes.runaway or not (
        isinstance(settings.first_answer, FirstAnswer) and settings.may_end_early
    ):
        return search
    new = modes.counterparts(before) < 0
    return without_negligible(search, modes, new, run, rng) if new.any() else search


def region_sampler(state: State, run: Run) -> RegionSampler:
    """Return the fixed inputs of the chains of the regions."""
    division = known(state.division)
    return RegionSampler(
        state.target(run.density),
        division.partition,
        run.settings.local,
        division.modes.locations,
        partial(_fit_jumps, run, division),
    )


def fit_regions(
    run: Run,
    division: Division,
    draws: RegionDraws,
    regions: np.ndarray,
    rng: np.random.Generator,
    previous: Sequence[RegionDensity | None],
    *,
    network: bool,
) -> RegionFit:
    """Fit a normalised density to each of some regions.

    Modes that the draws do not show, but that hold mass, have a part in it.

    Parameters
    ----------
    run : Run
    division : Division
    draws : RegionDraws
    regions : array of int
        Region i of the draws is this region of the division.
    rng : numpy.random.Generator
    previous : sequence of RegionDensity or None
        Densities fitted before.
    network : bool
        Whether networks may be trained; none is trained near a limit.
    """
    fitter = run.settings.generator_for(run.density).regional
    if not network or run.density.exhausted():
        fitter = fitter.without_network()
    fit = fitter.fit_regions(draws, run.density.period, rng, previous)
    if division.modes.runaway:
        return fit
    row = np.full(division.partition.n_regions, -1)
    row[regions] = np.arange(len(regions))
    return with_hidden_modes(fit, draws, division.folded_modes, row[division.region_of_mode])


def _fit_jumps(
    run: Run,
    division: Division,
    draws: RegionDraws,
    regions: np.ndarray,
    rng: np.random.Generator,
    previous: Sequence[RegionDensity | None],
) -> Sequence[RegionDensity]:
    """Fit what chains propose from; networks are the last resort."""
    longest = max(x.shape[1] for x in draws.x)
    last = NETWORK_DRAWS * longest >= run.settings.local.max_draws
    tried = any(q is not None for q in previous)
    network = tried and last
    return fit_regions(run, division, draws, regions, rng, previous, network=network).densities
