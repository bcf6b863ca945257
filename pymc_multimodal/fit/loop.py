"""The loop of a fit: run the next step that is due, until none is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pymc_multimodal.fit.checkpoint import Checkpoint
from pymc_multimodal.fit.conditioned import conditioned_fit
from pymc_multimodal.fit.emulated import judge_outputs, price_density
from pymc_multimodal.fit.emulated_fit import emulated_fit
from pymc_multimodal.fit.finish import finish
from pymc_multimodal.fit.forecast import forecast, preview
from pymc_multimodal.fit.result import Fit
from pymc_multimodal.fit.run import Report, Run
from pymc_multimodal.fit.state import State
from pymc_multimodal.fit.steps import STEPS, FindModes, Step
from pymc_multimodal.fit.structured import refuse_units, structured_fit
from pymc_multimodal.proposals import noted_devices
from pymc_multimodal.search import begin_search
from pymc_multimodal.status import GradientMisleads, LimitReached, SymmetryBroken

if TYPE_CHECKING:
    from pymc_multimodal.fit.settings import FitConfig
    from pymc_multimodal.search import Search
    from pymc_multimodal.target.density import Density

__all__ = ["fit_density"]

Save: TypeAlias = "Callable[[Run, State | None], None]"
"""Keeps the newest state."""


def fit_density(
    density: Density,
    settings: FitConfig,
    *,
    report: Report = lambda stage, text: None,
    share: float = 1.0,
    checkpoint: Checkpoint | None = None,
) -> Fit:
    """Run every step of `STEPS` that is due, and make the result.

    Parameters
    ----------
    density : Density
    settings : FitConfig
    report : callable
        ``report(stage, text)`` is called when a step begins. The stages "plan", "preview" and
        "forecast" are no steps: their text says what is to come, or what has been found.
    share : float
        Part of the limits that the fit may use, in (0, 1].
    checkpoint : Checkpoint, optional
        The file from which a fit that was killed goes on.

    Returns
    -------
    Fit

    Raises
    ------
    FitError
        If a limit is reached before the density is known at any point, or the checkpoint is of
        another fit.
    OSError
        If the checkpoint cannot be written when the fit begins.
    ModelError
        If the density is finite at no starting point.
    KeyboardInterrupt
        If the user interrupts (Ctrl-C) and there are no weights of the regions yet.

    Notes
    -----
    At a limit, or after an interruption, the result is made from the newest state with weights.
    Before there are weights it is made from the sample of the first answer, or without one from the
    modes alone, by Laplace's approximation.
    """
    run, has_gradient = Run(density, settings, report, share), density.has_gradient
    try:
        if checkpoint is None:
            return _fit(run, None, lambda run, state: None)
        with checkpoint.following(run) as known:
            if isinstance(known, Fit):
                return known
            return checkpoint.finish(run, _fit(run, known, checkpoint.save))
    finally:
        # While outputs are evaluated there is no gradient.
        density.has_gradient = has_gradient and density.outputs is None


def _fit(run: Run, state: State | None, save: Save) -> Fit:
    """Emulate the outputs of an expensive simulator, or run the steps from a state that is known.

    Before the first state, what was under way begins again: it draws the same random numbers, and
    a price that was measured is known.
    """
    if state is not None:
        return _run_steps(run, state, save)
    run.parts.keep = partial(save, run, None)
    with run.uncounted():
        run.density.prepare()
    price = price_density(run)
    if price is not None:
        save(run, None)
        refuse_units(run)
        judged = judge_outputs(run, price)
        if judged is not None:
            return emulated_fit(run, judged)
    else:
        # A run that was killed afterwards knows that one of them came to nothing.
        for name, fitted in (("structure", structured_fit), ("conditional", conditioned_fit)):
            fit = None if run.made(name) else fitted(run)
            if fit is not None:
                return fit
    state = _first_state(run)
    if price is not None:
        state = replace(state, price=price, search=_with_known(state.search, run))
    return _run_steps(run, state, save)


def _run_steps(run: Run, state: State, save: Save) -> Fit:
    while True:
        try:
            save(run, state)
            run.parts.keep = partial(save, run, state)
            step = next_step(state, run)
            if step is None:
                return finish(state, run)
            state = run_step(step, state, run)
            if step.name == FindModes.name and state.search.settled:
                _foretell(state, run)
        except LimitReached:
            # The step's work is lost. The next step is one that is still allowed.
            assert step is not None
            run.note_cut()
            run.stop_if_refused(1.0 if step.needed(state) else step.share_of(state))
        except SymmetryBroken:
            state = _first_state(run, symmetry_broken=True)
        except GradientMisleads:
            run.density.has_gradient = False
            state = _first_state(run, gradient_dropped=True)
        except KeyboardInterrupt:
            if state.presentable is None or run.interrupted:
                raise
            run.interrupt()


def _foretell(state: State, run: Run) -> None:
    """Report what the search has found, and what the rest costs at least."""
    for stage, text in (("preview", preview(state, run)), ("forecast", forecast(state, run))):
        if text:
            run.report(stage, text)


def _with_known(search: Search, run: Run) -> Search:
    """Return the search with the highest point that is known already, if there is one."""
    assert run.density.history is not None
    known = run.density.history.evaluations(run.density.names, outputs=False)
    finite = np.flatnonzero(np.isfinite(known.logp))
    if not len(finite):
        return search
    i = finite[np.argmax(known.logp[finite])]
    return replace(search, highest=(known.x[i], float(known.logp[i])))


def next_step(state: State, run: Run) -> Step | None:
    """Return the first step that is due and allowed; None if there is none.

    A step is allowed until the part `Step.share_of` of a limit is used up, and until the limit
    itself if a result needs it. A step that is not allowed is skipped: later steps may run.
    """
    if run.done or state.judged is not None or state.by_units is not None:
        return None
    for step in STEPS:
        if step.due(state, run.settings) and (
            step.needed(state) or not run.limit_reached(step.share_of(state))
        ):
            return step
    return None


def run_step(step: Step, state: State, run: Run) -> State:
    """Run one step. A limit ends it by `LimitReached`, wherever it is."""
    run.report(step.name, step.describe(state, run.settings))
    refuse = not step.needed(state)
    with run.recorded(step.name), run.limits(step.share_of(state), refuse=refuse):
        with run.ended(f"The step {step.name!r}"), noted_devices() as used:
            after = step(state, run)
    return replace(after, devices=tuple(sorted({*after.devices, *used}))) if used else after


def _first_state(
    run: Run, *, symmetry_broken: bool = False, gradient_dropped: bool = False
) -> State:
    settings = run.settings
    wanted = False if symmetry_broken else settings.symmetry
    if wanted is True and run.density.history is not None:
        # What images save costs nothing where the emulated posterior is integrated.
        wanted = False
    with run.recorded("begin"):
        search = begin_search(run.density, settings.modes, wanted, run.rng("begin"))
    return State.begun(search, symmetry_broken=symmetry_broken, gradient_dropped=gradient_dropped)
