"""The loop of a fit: run the next step that is due, until none is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymc_multimodal.fit.finish import finish
from pymc_multimodal.fit.run import Report, Run
from pymc_multimodal.fit.state import State
from pymc_multimodal.fit.steps import STEPS, Step
from pymc_multimodal.search import begin_search
from pymc_multimodal.status import EvaluationHung, LimitReached, SymmetryBroken

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
    """Run every step of `STEPS` that is due, and make the result.

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
        If the user interrupts (Ctrl-C) and there are no weights of the regions yet.
    EvaluationHung
        If an evaluation does not return after ``max_seconds``, a result needs it, and there are no
        weights of the regions yet.

    Notes
    -----
    A limit and an interruption act alike. Afterwards only steps run that a result needs, and the
    result is made from the newest state with weights.
    """
    run = Run(density, settings, report)
    with run.limits_attached():
        state = _first_state(run)
        while True:
            try:
                step = next_step(state, run)
                if step is None:
                    return finish(state, run)
                state = run_step(step, state, run)
            except EvaluationHung:
                if state.presentable is not None:
                    return finish(state, run)
                raise
            except LimitReached:
                if step is None or step.needed(state):
                    raise
            except SymmetryBroken:
                state = _first_state(run, symmetry_broken=True)
            except KeyboardInterrupt:
                if state.presentable is None or run.interrupted:
                    raise
                run.interrupt()


def next_step(state: State, run: Run) -> Step | None:
    """Return the first step that is due and allowed; None if there is none.

    A step is allowed until the part `Step.share` of a limit is used up, and beyond if a result
    needs it. A step that is not allowed is skipped: later steps may run.
    """
    for step in STEPS:
        if not step.due(state, run.settings):
            continue
        if step.needed(state) or not run.limit_reached(step.share):
            return step
        if run.over_limit and state.presentable is not None:
            return None
    return None


def run_step(step: Step, state: State, run: Run) -> State:
    """Run one step. A limit ends it by `LimitReached`, unless the step is needed."""
    run.report(step.name, step.describe(state, run.settings))
    with run.recorded(step.name), run.density.limited(not step.needed(state)):
        return step(state, run)


def _first_state(run: Run, *, symmetry_broken: bool = False) -> State:
    settings = run.settings
    wanted = False if symmetry_broken else settings.symmetry
    with run.recorded("begin"):
        search = begin_search(run.density, settings.modes, wanted, run.rng("begin"))
    return State.begun(search, symmetry_broken=symmetry_broken)
