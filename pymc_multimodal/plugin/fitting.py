"""From a PyMC model to a fit of it, with progress, a summary and warnings."""

from __future__ import annotations

import logging
import sys
import threading
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec

import pymc as pm
from pymc.stats.convergence import SamplerWarning, WarningType, log_warnings

from pymc_multimodal.fit import Fit, FitConfig, fit_density
from pymc_multimodal.model import (
    MarginalModel,
    check_model,
    check_structure,
    density_of,
    dimension,
    improper_statuses,
    imputed,
    marginal_of,
    rows_of,
)
from pymc_multimodal.plugin.compilation import evaluates, with_limited_evaluations
from pymc_multimodal.plugin.interrupts import Interrupts
from pymc_multimodal.plugin.locks import globally_locked
from pymc_multimodal.plugin.progress import COMPILING, IMPORTING, FitProgress
from pymc_multimodal.plugin.settings import RunOptions
from pymc_multimodal.plugin.tables import summary_line
from pymc_multimodal.proposals import needs_torch
from pymc_multimodal.search import check_points, given_by_array, given_by_name
from pymc_multimodal.status import counted, told
from pymc_multimodal.target import Density, Structure, engine_name

__all__ = ["continuous_model", "fit_model", "load_fit"]

_log = logging.getLogger("pymc.multimodal")

# Seconds of a compilation after which a hint is given. Conventional.
LONG_COMPILATION = 15.0
_COMPILATION_HINT = (
    "The model is still being compiled. compile_kwargs={'mode': 'FAST_COMPILE'} compiles sooner, "
    "into a slower function; a second run of the same model finds much of it compiled."
)
_EVALUATION_HINT = (
    "The model has been compiled, and has not returned from its evaluation at the initial point. "
    "max_seconds limits the time of an evaluation."
)
_IMPUTED = (
    "The model imputes missing data (%s). Each value is a coordinate of the search, and one with "
    "two explanations doubles the number of modes. Missing responses say nothing of the "
    "parameters: leave them out, and draw them afterwards with pm.sample_posterior_predictive. "
    "Sum or integrate over missing covariates where a formula is known."
)


def continuous_model(model: pm.Model, run: RunOptions) -> pm.Model:
    """Return the model whose density is fitted, and say so if discrete variables are summed over.

    Raises
    ------
    ModelError
        If it has discrete variables and cannot be sampled. Other models are checked when they are
        compiled.
    """
    if not model.discrete_value_vars:
        return model
    check_model(model)
    marginal = marginal_of(model)
    if isinstance(marginal, MarginalModel) and not run.quiet:
        _log.info(
            "Summing over the discrete variables %s. They are drawn afterwards, given the others.",
            ", ".join(map(str, marginal.discrete)),
        )
    return marginal


@globally_locked
def fit_model(
    model: pm.Model, config: FitConfig, run: RunOptions, share: float = 1.0
) -> tuple[Density, Fit]:
    """Compile the density of a model and fit it; threads wait for each other.

    Parameters
    ----------
    model : pymc.Model
    config : FitConfig
    run : RunOptions
    share : float
        Part of the limits that the fit may use.

    Returns
    -------
    density : Density
        Its worker processes are stopped.
    fit : Fit
    """
    model = continuous_model(model, run)
    if given_by_array(config.modes):
        check_points(config.modes, dimension(model))
    elif named := given_by_name(config.modes):
        rows_of(model, named)
    if isinstance(config.structure, Structure):
        check_structure(model, config.structure)
    if not run.quiet and (missing := imputed(model)):
        _log.info(
            _IMPUTED, ", ".join(f"{counted(n, 'value')} in {name}" for name, n in missing.items())
        )
    with Interrupts() as interrupts:
        with FitProgress(run, config.max_evals, config.max_seconds) as progress:
            density = _compiled(model, run, progress, config.max_seconds)
            try:
                _start_workers(density, run, progress)
                _import_torch(config, progress)
                progress.watch(density)
                fit = fit_density(
                    density,
                    config,
                    report=progress.report,
                    share=share,
                    checkpoint=run.checkpoint,
                )
                interrupts.hold()
            finally:
                density.close()
    fit = replace(fit, statuses=(*fit.statuses, *improper_statuses(model, "info")))
    if not run.quiet:
        _log.info(summary_line(fit))
    log_warnings([
        SamplerWarning(WarningType.CONVERGENCE, text, "warn")
        for text in told([s for s in fit.statuses if s.level == "warning"])
    ])  # fmt: skip
    return density, fit


@globally_locked
def load_fit(model: pm.Model, fit: Fit, run: RunOptions) -> Density:
    """Compile the density of a model for which there is a fit.

    Raises
    ------
    FitError
        If the fit is of another model, or of other data.
    """
    model = continuous_model(model, run)
    with FitProgress(run, transient=True) as progress:
        density = _compiled(model, run, progress)
        try:
            _start_workers(density, run, progress)
            fit.check_density(density)
        except BaseException:
            density.close()
            raise
    return density


def _compiled(
    model: pm.Model, run: RunOptions, progress: FitProgress, max_seconds: float | None = None
) -> Density:
    """Compile the density of a model, and say so.

    `max_seconds` limits each evaluation at the initial point, and no compilation.
    """
    progress.report("compile", COMPILING)
    thread = threading.get_ident()

    def say_why_it_lasts() -> None:
        if evaluates(sys._current_frames().get(thread)):
            progress.say(_EVALUATION_HINT)
        elif not run.compile_kwargs:
            progress.say(_COMPILATION_HINT)

    hint = threading.Timer(LONG_COMPILATION, say_why_it_lasts)
    hint.daemon = True
    if not run.quiet:
        hint.start()
    try:
        density = with_limited_evaluations(
            max_seconds, model, density_of,
            model, workers=run.workers, compile_kwargs=run.compile_kwargs,
        )  # fmt: skip
    finally:
        hint.cancel()
    if not density.has_gradient:
        progress.say("The model has no gradient: searching and sampling by density values alone.")
    return density


def _import_torch(config: FitConfig, progress: FitProgress) -> None:
    """Import torch where the generator needs it, and say so.

    That takes seconds, once in a process, and cannot be interrupted. Like compiling, it is not
    counted by the limits. Where torch is missing, the fit has a status.
    """
    if config.generator is None or not needs_torch(config.generator):
        return
    if "torch" not in sys.modules and find_spec("torch") is not None:
        progress.report("torch", IMPORTING)
        import_module("torch")


def _start_workers(density: Density, run: RunOptions, progress: FitProgress) -> None:
    """Start the worker processes, if any, and say so.

    They compile the model, too: like compiling it here, that is not counted.
    """
    if density.shared:
        text = f"workers of {engine_name(density.workers)} load the model"
        if isinstance(density.workers, int):
            text = f"starting {counted(density.workers, 'worker')}, each of which loads the model"
        progress.report("workers", text)
    density.start_workers()
