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

# Chains of a region propose from a network when so many times their draws are the most allowed.
# Measured: examples/benchmarks/calibration.py; trained earlier, networks cost more than the
# draws that they save.
NETWORK_DRAWS = 2


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
    *,
    network: bool,
) -> RegionFit:
    """Fit a normalised density to each region.

    Parameters
    ----------
    run : Run
    draws : RegionDraws
    rng : numpy.random.Generator
    previous : sequence of RegionDensity or None
        Densities fitted before.
    network : bool
        Whether networks may be trained; none is trained near a limit.
    """
    fitter = run.settings.generator_for(run.density).regional
    if not network or run.density.exhausted():
        fitter = fitter.without_network()
    return fitter.fit_regions(draws, run.density.period, rng, previous)


def _fit_jumps(
    run: Run,
    draws: RegionDraws,
    rng: np.random.Generator,
    previous: Sequence[RegionDensity | None],
) -> Sequence[RegionDensity]:
    """Fit what chains propose from; networks are the last resort."""
    longest = max(x.shape[1] for x in draws.x)
    last = NETWORK_DRAWS * longest >= run.settings.local.max_draws
    tried = any(q is not None for q in previous)
    return fit_regions(run, draws, rng, previous, network=tried and last).densities
