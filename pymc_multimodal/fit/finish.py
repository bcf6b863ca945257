"""The result of a fit from its last state."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.fit.choose_kernel import choose_kernel
from pymc_multimodal.fit.images import (
    Orbits,
    broken_status,
    draws_of_images,
    modes_of_images,
    result_of_images,
    statuses_of_images,
    symmetry_status,
    weights_of_images,
)
from pymc_multimodal.fit.result import Fit
from pymc_multimodal.fit.state import known
from pymc_multimodal.fit.steps import STEPS
from pymc_multimodal.kernel import Kernel, make_kernel
from pymc_multimodal.proposals import RegionalMixture
from pymc_multimodal.regions import diagnostics_of
from pymc_multimodal.status import Status

if TYPE_CHECKING:
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.state import Division, State

__all__ = ["finish"]


def finish(state: State, run: Run) -> Fit:
    """Put the regions in the order of their weights, list their images, and collect the statuses.

    Parameters
    ----------
    state : State
        The last one; if it is not presentable, the result is that of its fallback.
    run : Run

    Returns
    -------
    Fit
    """
    best = known(state.presentable)
    division, weights = known(best.division), best.final_weights
    orbits = _orbits(division)
    # A region whose images are listed is placed by the weight of one image.
    share = orbits.images if orbits is not None and orbits.listed else 1
    order = np.argsort(-weights.weight / share, kind="stable")
    statuses = _region_statuses(best, run, order)
    # A search that its share of a limit ended is no fit that stopped: it has a status of its own.
    complete = not any(step.due(state, run.settings) for step in STEPS if step.share == 1.0)
    statuses += run.statuses(float(np.max(weights.weight_se)), complete=complete)
    kernel, kernel_statuses = _kernel(best, run)
    kernel, statuses = kernel.take(order), [*statuses, *kernel_statuses]
    modes, draws = division.modes.take(order), known(best.draws).take(order)
    chains = diagnostics_of(known(best.chains), run.settings.local).take(order)
    weights, result = weights.take(order), best.challenge_result
    result = None if result is None else result.take(order)
    if orbits is not None:
        orbits = orbits.take(order)
        statuses = [symmetry_status(orbits), *statuses_of_images(orbits, statuses)]
        if orbits.listed:
            modes, draws = modes_of_images(orbits, modes), draws_of_images(orbits, draws)
            weights, chains = weights_of_images(orbits, weights), chains.take(orbits.rows)
            result = None if result is None else result_of_images(orbits, result)
    if not best.search.settled:
        statuses.append(_unsettled_status(best.search.counts.starts))
    if state.symmetry_broken:
        statuses = [broken_status(), *statuses]
    return Fit(
        config=replace(run.settings, generator=run.settings.generator_for(run.density)),
        names=run.density.names,
        modes=modes,
        draws=draws,
        chains=chains,
        weights=weights,
        kernel=kernel,
        challenge=result,
        statuses=tuple(statuses),
        n_logp_evals=run.evals,
        n_grad_evals=run.gradient_evals,
        seconds=run.seconds(),
        orbits=orbits,
    )


def _orbits(division: Division) -> Orbits | None:
    """Return the orbits of the regions; None where the density is not folded."""
    if (cells := division.cells) is None:
        return None
    return Orbits(cells, division.partition, cells.mode_of(division.modes.locations))


def _kernel(state: State, run: Run) -> tuple[Kernel, list[Status]]:
    """Return the kernel; where a limit left it out, one of the regional proposals.

    Such a kernel is chosen without evaluations.
    """
    if state.kernel is not None:
        return state.kernel, []
    weights, draws = state.final_weights, known(state.draws)
    generator = state.generator or RegionalMixture(
        known(state.samples).fitted.densities, weights.weight
    )
    kernel = make_kernel(known(state.division).partition, known(state.chains).parameters, generator)
    target, rng = state.target(run.density), run.rng("kernel")
    return choose_kernel(target, kernel, draws, weights, rng, samples=known(state.samples))


def _unsettled_status(n_starts: int) -> Status:
    return Status(
        "unfinished",
        "search",
        f"the search for modes ended after {n_starts} starts: its share of a limit was used up.",
        "Modes may be missing: raise the limit.",
    )


def _region_statuses(state: State, run: Run, order: np.ndarray) -> list[Status]:
    """Collect what the steps have said, with the regions' final numbers."""
    found = [
        *known(state.division).partition.statuses,
        *diagnostics_of(known(state.chains), run.settings.local).statuses,
        *known(state.weights).statuses,
        *(state.cross_check.statuses if state.cross_check is not None else ()),
        *known(state.samples).fitted.statuses,
        *(state.challenge_result.statuses if state.challenge_result is not None else ()),
        *(known(state.generator).fallbacks if state.generator is not None else ()),
        *state.kernel_statuses,
    ]
    rank = np.argsort(order)
    found = [s if s.mode is None else replace(s, mode=int(rank[s.mode])) for s in found]
    return [*known(state.division).modes.statuses, *found]
