"""Functions that fit a model, and that draw with all chains at once in the main process."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
import pymc as pm
from pymc.stats.convergence import (
    SamplerWarning,
    WarningType,
    log_warnings,
    run_convergence_checks,
)

from pymc_multimodal import checks, kernel
from pymc_multimodal._compat import get_dataset
from pymc_multimodal.fit import Fit, FitConfig, confirm_images
from pymc_multimodal.plugin.arguments import (
    check_idata_kwargs,
    check_var_names,
    limits_blas,
    model_given,
    with_backend,
)
from pymc_multimodal.plugin.fitting import continuous_model, fit_model, load_fit
from pymc_multimodal.plugin.foresight import foreseeable, foreseen
from pymc_multimodal.plugin.inference_data import KeptDraws, to_inference_data, with_discrete
from pymc_multimodal.plugin.interrupts import Interrupts
from pymc_multimodal.plugin.keywords import without_refused
from pymc_multimodal.plugin.locks import globally_locked
from pymc_multimodal.plugin.mixing import mixing_warning
from pymc_multimodal.plugin.record import NOT_SYMMETRIC, record
from pymc_multimodal.plugin.settings import (
    FitSettings,
    RunOptions,
    fit_config,
    refuse_beside_fit,
    resolve_seed,
    split_settings,
    with_fit_settings,
)
from pymc_multimodal.status import FitError, LimitReached, SymmetryBroken, counted
from pymc_multimodal.target import Density, Limits

__all__ = ["fit", "sample"]

_log = logging.getLogger("pymc.multimodal")

# Proposals of all chains that are evaluated in one batch, at least. A batch costs less than the
# same points one by one. Conventional: eight chunks of `Density`.
PROPOSALS_AT_ONCE = 256
# Chains where the number is None. PyMC's default for as many cores.
DEFAULT_CHAINS = 4
# Part of what a limit leaves for draws that one block of proposals may use. Conventional.
BLOCK_SHARE = 0.1
# Part of max_evals and max_seconds that the fit of `sample` may use; the rest is for its draws.
# Conventional.
FIT_SHARE = 0.75
# Draws of each chain from which on PyMC's convergence checks are run. With fewer, PyMC calls them
# too few for its checks (pymc.stats.convergence).
MIN_CHECKED_DRAWS = 100


@with_fit_settings
def fit(model: pm.Model | None = None, **settings: Unpack[FitSettings]) -> Fit:
    """Find, sample and weigh the modes of a model, without drawing from it.

    Parameters
    ----------
    model : pymc.Model, optional
        By default the one on the context stack.
    **settings
        Keywords of `FitSettings`: generator, modes, regions, local, first_answer, emulation,
        evaluations, challenge, structure, symmetry, target_se, max_evals, max_seconds, random_seed,
        checkpoint, workers, progressbar, progressbar_theme, quiet, compile_kwargs.

    Returns
    -------
    Fit
        Plain data; ``fit.save(path)`` and ``Fit.load(path)`` keep it in a file. It is passed with
        the same model to ``sample(fit=...)`` or ``MultimodalDiffusion(fit=...)``.

    Raises
    ------
    ModelError
        If the model cannot be sampled.
    FitError
        If a worker process died, or an evaluation did not return after `max_seconds` and there
        were no weights of the modes yet; if a limit was reached before the log density was known
        at any point; if the checkpoint is damaged, or of another fit.
    TypeError, ValueError
        If there is no such keyword, or a setting has the wrong type or is out of range.
    OSError
        If the checkpoint cannot be written, or read.
    """
    fit_settings, run = split_settings(fit, settings)
    model = model_given("fit", model)
    config = fit_config("fit", fit_settings, quiet=run.quiet, seed=run.seed)
    return fit_model(model, config, run)[1]


@with_fit_settings
@globally_locked
@limits_blas
def sample(
    draws: int = 1000,
    *,
    tune: int | None = 0,
    chains: int | None = 4,
    cores: int | None = None,
    model: pm.Model | None = None,
    fit: Fit | None = None,
    var_names: Sequence[str] | None = None,
    compute_convergence_checks: bool = True,
    idata_kwargs: Mapping[str, Any] | None = None,
    blas_cores: int | str | None = None,
    backend: str | None = None,
    **settings: Unpack[FitSettings],
) -> Any:
    """Draw from a posterior with several modes.

    Parameters
    ----------
    draws : int
        Draws of each chain that are kept.
    tune : int
        Draws of each chain that are discarded first. None are needed: chains start inside of the
        modes.
    chains : int
        Chains; they run together in one process. Of the same seed and fit, a shorter run has the
        first draws of a longer one.
    cores : int, optional
        Changes nothing; it is accepted because ``pm.sample`` has it. `workers` spreads expensive
        evaluations over processes.
    model : pymc.Model, optional
        By default the one on the context stack.
    fit : Fit, optional
        An earlier fit of the same model and data, used in place of a new one. Settings of a fit are
        refused beside it.
    var_names : sequence of str, optional
        Variables to keep in the posterior.
    compute_convergence_checks : bool
        Whether to run PyMC's checks on the draws.
    idata_kwargs : mapping, optional
        Passed to ``pymc.to_inference_data``.
    blas_cores : int, optional
        Threads of BLAS; ``"auto"``, PyMC's default, and None leave them as they are.
    backend : {"numba", "c", "jax"}, optional
        PyTensor's backend, as in PyMC 6: short for ``compile_kwargs={"mode": ...}``.
    **settings
        Keywords of `FitSettings`: generator, modes, regions, local, first_answer, emulation,
        evaluations, challenge, structure, symmetry, target_se, max_evals, max_seconds, random_seed,
        checkpoint, workers, progressbar, progressbar_theme, quiet, compile_kwargs.
        `random_seed` is the seed of the fit and of the chains; beside `fit`, of the chains alone.

    Returns
    -------
    InferenceData or DataTree
        What ``pm.sample`` writes, with the groups `modes` and `mode_posterior`.

    Raises
    ------
    ModelError
        If the model cannot be sampled.
    FitError
        If `fit` was made for another model or other data, or a worker process died, or an
        evaluation of the fit did not return after `max_seconds`; if a limit was reached before the
        log density was known at any point; if the checkpoint is damaged, or of another fit; if
        draws show that `fit` has used a symmetry that the model lacks somewhere.
    TypeError, ValueError
        If there is no such keyword, or a setting has the wrong type or is out of range.
    OSError
        If the checkpoint cannot be written, or read.

    Notes
    -----
    An interruption (Ctrl-C) after the regions were weighed for the first time ends the fit; one
    while chains run ends the chains. The result is then made of what there is: all chains have the
    same number of draws. One while the result is made leaves out PyMC's checks; a second one ends
    at once. Threads that sample at the same time wait for each other.

    A checkpoint keeps the fit. Chains begin again from it, with the same draws; what they have
    evaluated is kept where an evaluation takes 10 ms or more.
    """
    fit_settings, run = split_settings(sample, without_refused(settings))
    tune, chains = tune or 0, DEFAULT_CHAINS if chains is None else chains
    for name, value, least in (("draws", draws, 1), ("tune", tune, 0), ("chains", chains, 1)):
        checks.count("sample", name, value, least)
    if cores is not None:
        checks.count("sample", "cores", cores)
    checks.flag("sample", "compute_convergence_checks", compute_convergence_checks)
    check_idata_kwargs("sample", idata_kwargs)
    run = replace(run, compile_kwargs=with_backend("sample", backend, run.compile_kwargs))
    model = model_given("sample", model)
    check_var_names("sample", var_names, [v.name for v in model.unobserved_RVs], "the model")
    model = continuous_model(model, run)
    config = None
    if fit is None:
        config = fit_config("sample", fit_settings, quiet=run.quiet, seed=run.seed)
        density, fit = fit_model(model, config, run, share=FIT_SHARE)
        seed, limits = config.random_seed, _limits_of_draws(config, fit)
    else:
        given = fit_settings.pop("random_seed", None)
        # Two calls without a seed get different draws; the seed of the fit is not used again.
        seed = resolve_seed(given)
        density = load_fit(model, refuse_beside_fit("sample", fit, fit_settings, run), run)
        limits = Limits()
        if given is None and not run.quiet:
            _log.info("sample(fit=...) was given no seed: the chains use random_seed=%d.", seed)
    # The second number tells the stream of the chains from the streams of the fit.
    rng = np.random.default_rng([seed, 1])
    began, sizes = time.monotonic(), (chains, tune, draws)
    with Interrupts() as interrupts:
        try:
            with density.within(limits), run.keeping_draws(density):
                x, stats, tuned = _run_chains(fit, density, sizes, rng, run, interrupts)
        except SymmetryBroken:
            if config is None:
                raise FitError(NOT_SYMMETRIC) from None
            _log.warning("%s This is done now.", NOT_SYMMETRIC)
            config = _without_symmetry(config, density, fit, began)
            # The checkpoint is that of the first fit.
            run = replace(run, checkpoint=None)
            density.close()
            density, fit = fit_model(model, config, run, share=FIT_SHARE)
            with density.within(_limits_of_draws(config, fit)):
                x, stats, tuned = _run_chains(fit, density, sizes, rng, run, interrupts)
        finally:
            density.close()
        # The third stream is that of the discrete variables. A shorter run has the same ones.
        x = with_discrete(model, x.swapaxes(0, 1), np.random.default_rng([seed, 2])).swapaxes(0, 1)
        kept = KeptDraws(x, stats, tune=tuned, seconds=time.monotonic() - began)
        idata = to_inference_data(model, fit, kept, var_names=var_names, idata_kwargs=idata_kwargs)
        if compute_convergence_checks and not interrupts.pressed:
            try:
                interrupts.release()
                _check_convergence(idata, model, quiet=run.quiet)
                _check_mixing(stats["mode"], fit)
            except KeyboardInterrupt:
                _log.warning("Interrupted: the draws are complete, convergence was not checked.")
    return idata


def _without_symmetry(config: FitConfig, density: Density, fit: Fit, began: float) -> FitConfig:
    """Return the settings of a second fit, without symmetry: what is left of the limits.

    Parameters
    ----------
    config : FitConfig
        Settings of the first fit.
    density : Density
        That of the first fit and of its draws, with its count of evaluations.
    fit : Fit
    began : float
        When the draws began (`time.monotonic`).
    """
    evals, seconds = config.max_evals, config.max_seconds
    if evals is not None:
        evals = max(1, evals - density.n_logp_evals)
    if seconds is not None:
        spent = sum(fit.seconds.values()) + time.monotonic() - began
        # Less than a moment is no limit that a fit can be given.
        seconds = max(1e-3, seconds - spent)
    return replace(config, symmetry=False, max_evals=evals, max_seconds=seconds)


def _run_chains(
    fit: Fit,
    density: Density,
    sizes: tuple[int, int, int],
    rng: np.random.Generator,
    run: RunOptions,
    interrupts: Interrupts,
) -> tuple[np.ndarray, dict[str, np.ndarray], int]:
    """Run all chains; an interruption returns the draws made so far, as in PyMC.

    Parameters
    ----------
    fit : Fit
    density : Density
    sizes : tuple of int
        Chains, draws to discard, draws to keep.
    rng : numpy.random.Generator
    run : RunOptions
    interrupts : Interrupts
        Ctrl-C is held back from the last draw on.

    Returns
    -------
    x : array of shape (chains, draws, d)
    stats : dict of arrays of shape (chains, draws)
    tuned : int
        Draws of each chain that were discarded.
    """
    chains, tune, draws = sizes
    step, target = fit.kernel, fit.target(density)
    with density.within(Limits()):
        state = kernel.init(target, step, fit.starts(chains, rng), rng)
    x = np.empty((chains, draws, target.dim))
    stats = {name: np.empty((chains, draws)) for name in ("lp", "accepted", "log_ratio")}
    stats["mode"] = np.empty((chains, draws), dtype=int)
    n = chains * step.jumps  # proposals of one draw
    ahead = foreseeable(fit, density)
    each = max(n, chains if ahead else 1)  # evaluations of one draw
    # Draws of which the proposals are evaluated together. Those that are foreseen do not depend on
    # how many these are: workers get one each.
    block = max(1, max(PROPOSALS_AT_ONCE, density.n_workers if ahead else 1) // each)
    # Near a limit they are fewer: evaluations of a block that is cut off are lost.
    block = max(1, int(min(block, BLOCK_SHARE * density.room() / each)))
    done, tuned = -tune, tune

    def advance() -> None:
        nonlocal state, done
        # Whole blocks: a shorter run uses the same random numbers as a longer one.
        proposals, used = kernel.propose(target, step, n * block, rng), target
        first, size, folded = max(done, 0), min(block, draws - done), []
        if ahead:
            used = foreseen(fit, target, state, range(done, done + size), rng)
        for i in range(size):
            proposed = kernel.rows(proposals, slice(i * n, (i + 1) * n))
            state, accepted = kernel.step(used, step, state, proposed, rng, done)
            if done >= 0:
                if target.cells is not None:
                    folded.append(state.points.x)
                x[:, done], values = record(fit, state, accepted, rng)
                for name, value in values.items():
                    stats[name][:, done] = value
            done += 1
        if folded:
            images, lp = x[:, first:done].reshape(-1, target.dim), stats["lp"][:, first:done]
            points = np.stack(folded, axis=1).reshape(images.shape)
            confirm_images(target, points, images, lp.ravel(), proposals.points)

    try:
        with (progress := run.progress()):
            task = progress.add_task("Sampling", total=tune + draws)
            while done < draws:
                advance()
                progress.update(task, completed=tune + done)
        interrupts.hold()
    except LimitReached:
        if done < 1:
            # A result needs one draw of each chain: the point where the chain is.
            tuned, done = tune + min(done, 0), 1
            x[:, 0], values = record(fit, state, np.zeros(chains), rng)
            for name, value in values.items():
                stats[name][:, 0] = value
        _log.warning(
            "sample() stopped at its limit: %d of %d draws of each chain were made. Raise "
            "max_evals or max_seconds, or draw more with sample(fit=...).", done, draws,
        )  # fmt: skip
    except KeyboardInterrupt:
        if done < 1:
            raise
        _log.warning(
            "Interrupted: returning what was made so far, %s of each chain.", counted(done, "draw")
        )
    kept = max(done, 0)
    return x[:, :kept], {name: s[:, :kept] for name, s in stats.items()}, tuned


def _limits_of_draws(config: FitConfig, fit: Fit) -> Limits:
    """Return what a fit has left of its limits for the draws."""
    left = Limits()
    if config.max_evals is not None:
        left = replace(left, last_evals=config.max_evals)
    if config.max_seconds is not None:
        spent = sum(fit.seconds.values())
        left = replace(left, last_time=time.monotonic() + config.max_seconds - spent)
    return left


def _check_convergence(idata: Any, model: pm.Model, *, quiet: bool) -> None:
    """Run PyMC's checks, which need free variables, two chains and enough draws."""
    posterior = get_dataset(idata, "posterior")
    kept = {v.name for v in model.free_RVs} & set(posterior.data_vars)
    if kept and posterior.sizes["chain"] > 1 and posterior.sizes["draw"] >= MIN_CHECKED_DRAWS:
        found = run_convergence_checks(idata, model)
        log_warnings([w for w in found if not (quiet and w.level == "info")])


def _check_mixing(mode: np.ndarray, fit: Fit) -> None:
    """Warn where chains visit the modes otherwise than the weights say."""
    if mode.shape[0] > 1 and mode.shape[1] >= MIN_CHECKED_DRAWS:
        text = mixing_warning(mode, fit)
        if text is not None:
            log_warnings([SamplerWarning(WarningType.CONVERGENCE, text, "warn")])
