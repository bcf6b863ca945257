"""The result of a fit from its last state."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.fit.answer import answer_of, laplace_answer, sample_answer
from pymc_multimodal.fit.emulated_fit import emulated_fit
from pymc_multimodal.fit.images import (
    Orbits,
    broken_status,
    draws_of_images,
    modes_of_images,
    result_of_images,
    statuses_of_images,
    symmetry_status,
    unsought_status,
    weights_of_images,
)
from pymc_multimodal.fit.result import Fit
from pymc_multimodal.fit.steps import STEPS
from pymc_multimodal.regions import unknown_spread
from pymc_multimodal.search import (
    MAX_MISSING_SHARE,
    dropped_gradient_status,
    has_rare_modes,
    missing_share,
    missing_statuses,
    modes_of,
)
from pymc_multimodal.status import (
    RAISE_LIMIT,
    Status,
    counted,
    of_one_region,
    under_a_limit,
)

if TYPE_CHECKING:
    from pymc_multimodal.fit.answer import Answer
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.settings import FitConfig
    from pymc_multimodal.fit.state import State

__all__ = ["finish"]

# R-hat from which on the chains of a region are apart by three times their own spread: they are
# where they began. Measured: bridges between such chains were wrong by forty orders of magnitude
# (ten products of Student-t densities in 50 dimensions, R-hat of 8 and more); two bananas with
# R-hat below 2 have weights within 0.05, and a kernel whose local moves are adapted.
APART_R_HAT = 3.0


def finish(state: State, run: Run) -> Fit:
    """Put the regions in the order of their weights, list their images, and collect the statuses.

    Parameters
    ----------
    state : State
        The last one. Without weights, the result is that of its fallback; without a fallback,
        or where a limit left the chains of several regions where they began, that of the first
        answer's sample, or of the modes alone. Where a limit left some of them there, it is that of
        the sample if its tail index is one of reliable ratios.
    run : Run

    Returns
    -------
    Fit
    """
    if state.judged is not None:
        return emulated_fit(run, state.judged, state.screening, _missing(state, run))
    if state.by_units is not None:
        return state.by_units
    best = state.presentable
    if best is None or (run.cut and _nothing_moved(best)):
        answer = sample_answer(state, run) or laplace_answer(state, run)
    elif run.cut and _sample_says_more(best):
        answer = sample_answer(best, run) or answer_of(best, run)
    else:
        answer = answer_of(best, run)
    orbits = _orbits(answer)
    # A region whose images are listed is placed by the weight of one image.
    share = orbits.images if orbits is not None and orbits.listed else 1
    order = np.argsort(-answer.weights.weight / share, kind="stable")
    answer = answer.take(order)
    modes, draws, chains = answer.modes, answer.draws, answer.chains
    weights, result, statuses = answer.weights, answer.challenge, list(answer.statuses)
    # Tempering and climbs of a challenge have looked for what the search has missed.
    missing = _missing(state, run) if result is None else 0.0
    if missing > MAX_MISSING_SHARE:
        weights = weights.without_errors()
    # A search that its share of a limit ended is no fit that stopped: it has a status of its own.
    complete = not any(step.due(state, run.settings) for step in STEPS if step.share == 1.0)
    statuses += run.statuses(float(np.max(weights.weight_se)), complete=complete)
    if orbits is not None:
        orbits = orbits.take(order)
        statuses = [symmetry_status(orbits), *statuses_of_images(orbits, statuses)]
        if orbits.listed:
            modes, draws = modes_of_images(orbits, modes), draws_of_images(orbits, draws)
            weights, chains = weights_of_images(orbits, weights), chains.take(orbits.rows)
            result = None if result is None else result_of_images(orbits, result)
    if state.screening is not None:
        statuses += state.screening.statuses
    if not any(s.code == "unfinished" for s in statuses):
        statuses += _unfinished_search(state, run.settings)
    if missing > MAX_MISSING_SHARE:
        statuses = missing_statuses(statuses, missing)
    if state.gradient_dropped:
        statuses.append(dropped_gradient_status())
    if state.symmetry_broken:
        statuses = [broken_status(), *statuses]
    elif run.settings.symmetry and not state.search.symmetry_sought:
        statuses.append(unsought_status())
    statuses = under_a_limit(statuses)
    if len(answer.modes) == 1:
        statuses = of_one_region(statuses)
    density, evaluations = run.density, None
    if density.history is not None:
        evaluations = density.history.evaluations(density.names, outputs=False)
    return Fit(
        config=replace(
            run.settings, generator=run.settings.generator_for(density), evaluations=None
        ),
        names=density.names,
        modes=modes,
        draws=draws,
        chains=chains,
        weights=weights,
        kernel=answer.kernel,
        challenge=result,
        screening=state.screening,
        statuses=tuple(statuses),
        n_logp_evals=run.evals,
        n_grad_evals=run.gradient_evals,
        seconds=run.seconds(),
        evals_by_step=run.evals_by_step(),
        orbits=orbits,
        evaluations=evaluations,
    )


def _nothing_moved(state: State) -> bool:
    """Tell whether no region's chains have moved enough to say anything of its weight."""
    chains = state.chains
    if state.ends_early or chains is None or len(chains.records) == 1:
        return False
    return bool((unknown_spread(chains) & (chains.r_hat > APART_R_HAT) | chains.negligible).all())


def _sample_says_more(state: State) -> bool:
    """Tell whether the first answer's sample is better known than chains of which some stayed."""
    found, chains = state.approximation, state.chains
    if state.ends_early or found is None or chains is None:
        return False
    stayed = unknown_spread(chains) & ~chains.negligible
    return bool(stayed.any()) and found.verdict.reliable


def _missing(state: State, run: Run) -> float:
    """Return the share of the starts whose modes the search may have missed (`missing_share`)."""
    search = state.search
    if not len(search.optima):
        return 0.0
    found = modes_of(run.density, search, run.settings.modes)
    return missing_share(search, found, state.screening)


def _orbits(answer: Answer) -> Orbits | None:
    """Return the orbits of the regions; None where the density is not folded."""
    if (cells := answer.cells) is None:
        return None
    return Orbits(cells, answer.partition, cells.mode_of(answer.modes.locations))


def _left_rare_modes(state: State, settings: FitConfig) -> bool:
    """Tell whether a limit left out the further starts that modes of few starts ask for."""
    limited = settings.max_evals is not None or settings.max_seconds is not None
    search = state.search
    if not limited or state.screened or state.price is not None or not len(search.optima):
        return False
    return search.distribution.points is None and has_rare_modes(search, settings.modes)


def _unfinished_search(state: State, settings: FitConfig) -> list[Status]:
    """Say that a limit ended the search before its own rule was met, or left out further starts."""
    starts = counted(state.search.counts.starts, "start")
    if not state.search.settled:
        cause = f"the search for modes ended after {starts}: its share of a limit was used up."
        return [Status("unfinished", "search", cause, f"Modes may be missing. {RAISE_LIMIT}")]
    if _left_rare_modes(state, settings):
        cause = (
            f"a limit left no room for further starts: few of {starts} led to some modes of mass, "
            "and modes that are as rare may be missing."
        )
        return [Status("unfinished", "search", cause, RAISE_LIMIT)]
    return []
