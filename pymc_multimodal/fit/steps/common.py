"""What several steps need."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pymc_multimodal.fit.state import known
from pymc_multimodal.regions import RegionSampler

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.state import State
    from pymc_multimodal.proposals import RegionDensity, RegionFit
    from pymc_multimodal.regions import RegionDraws

__all__ = ["fit_regions", "region_sampler"]


def region_sampler(state: State, run: Run) -> RegionSampler:
    """Return the fixed inputs of the chains of the regions."""
    division = known(state.division)
    return RegionSampler(
        state.target(run.density),
        division.partition,
        run.settings.local,
        division.modes.locations,
        partial(_fit_jumps, run),
    )


def fit_regions(
    run: Run,
    draws: RegionDraws,
    rng: np.random.Generator,
    previous: Sequence[RegionDensity | None],
) -> RegionFit:
    """Fit a normalised density to each region; no network is trained near a limit."""
    fitter = run.settings.generator_for(run.density).regional
    if run.density.exhausted():
        fitter = fitter.without_network()
    return fitter.fit_regions(draws, run.density.period, rng, previous)


def _fit_jumps(
    run: Run,
    draws: RegionDraws,
    rng: np.random.Generator,
    previous: Sequence[RegionDensity | None],
) -> Sequence[RegionDensity]:
    return fit_regions(run, draws, rng, previous).densities
