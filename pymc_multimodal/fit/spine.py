"""The spine of a fit: the next step that is due, until none is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymc_multimodal.fit.finish import finish
from pymc_multimodal.fit.run import Report, Run
from pymc_multimodal.fit.state import State
from pymc_multimodal.fit.steps import STEPS, Step
from pymc_multimodal.search import begin_search
from pymc_multimodal.status import LimitReached, SymmetryBroken

if TYPE_CHECKING:
    from pymc_multimodal.fit.result import Fit
    from pymc_multimodal.fit.settings import FitConfig
    from pymc_multimodal.target.density import Density

__all__ = ["fit_density"]


def fit_density(
    density: Density,
    settings: FitConfig,
    *,
    report: Report = lambda stage, text: None,
) -> Fit:
    """Make every step of `STEPS` that is due, and the result.

    Parameters
    ----------
    density : Density
    settings : FitConfig
    report : callable
        ``report(stage, text)`` is called when a step begins.

    Returns
    -------
    Fit

    Raises
    ------
    ModelError
        If the density is finite at no starting point.
    KeyboardInterrupt
        If the user interrupts (Ctrl-C) before the regions are weighed.

    Notes
    -----
    A limit and an interruption are one mechanism: from then on only steps are made without which
    there is no result, and the result is made from the last state in which the regions were
    weighed.
    """
    run = Run(density, settings, report)
    with run.limits_known():
        state = _begun(run)
        while (step := next_step(state, run)) is not None:
            try:
                state = make(step, state, run)
            except LimitReached:
                run.stopped = run.limit_reached()
            except SymmetryBroken:
                state = _begun(run, symmetry_broken=True)
            except KeyboardInterrupt:
                if state.best is None:
                    raise
                run.interrupt()
        return finish(state, run)


def next_step(state: State, run: Run) -> Step | None:
    """Return the first step that is due and allowed; None if there is none.

    When a limit is reached, a step is allowed if there is no result without it.
    """
    for step in STEPS:
        if not step.due(state, run.settings):
            continue
        if step.needed(state) or not run.limit_reached(step.share):
            return step
        if limit := run.limit_reached():
            run.stopped = limit
            if state.best is not None:
                return None
    return None


def make(step: Step, state: State, run: Run) -> State:
    """Make one step; where it can be left out, a limit ends it by `LimitReached`."""
    run.report(step.name, step.describe(state, run.settings))
    with run.recorded(step.name), run.density.limited(not step.needed(state)):
        return step(state, run)


def _begun(run: Run, *, symmetry_broken: bool = False) -> State:
    settings = run.settings
    wanted = False if symmetry_broken else settings.symmetry
    search = begin_search(run.density, settings.modes, wanted, run.rng("begin"))
    return State.begun(search, symmetry_broken=symmetry_broken)
