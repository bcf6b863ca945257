"""Functions that fit a model, and that draw with all chains at once in the main process."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import pymc as pm
from pymc.progress_bar import create_simple_progress
from pymc.stats.convergence import (
    SamplerWarning,
    WarningType,
    log_warnings,
    run_convergence_checks,
)

from pymc_multimodal import checks, kernel
from pymc_multimodal._compat import get_dataset
from pymc_multimodal.fit import Fit
from pymc_multimodal.plugin.chain import record
from pymc_multimodal.plugin.fitting import fit_model, load_fit
from pymc_multimodal.plugin.inference_data import KeptDraws, to_inference_data
from pymc_multimodal.plugin.locks import globally_locked
from pymc_multimodal.plugin.mixing import mixing_warning
from pymc_multimodal.plugin.settings import (
    FitSettings,
    fit_config,
    refuse_beside_fit,
    resolve_seed,
    split_settings,
    with_fit_settings,
)
from pymc_multimodal.plugin.traces import check_var_names
from pymc_multimodal.target import Target

__all__ = ["fit", "sample"]

_log = logging.getLogger("pymc.multimodal")

# Proposals of all chains that are evaluated in one batch, at least. A batch costs less than the
# same points one by one. Conventional: eight chunks of `Density`.
PROPOSALS_AT_ONCE = 256
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
        Keywords of `FitSettings`: generator, modes, regions, local, challenge, symmetry, target_se,
        max_evals, max_seconds, random_seed, workers, progressbar, quiet, compile_kwargs.

    Returns
    -------
    Fit
        Plain data; it can be pickled, and passed with the same model to ``sample(fit=...)`` or
        ``MultimodalDiffusion(fit=...)``.

    Raises
    ------
    ModelError
        If the model cannot be sampled.
    FitError
        If a worker process died.
    TypeError, ValueError
        If there is no such keyword, or a setting has the wrong type or is out of range.
    """
    fit_settings, run = split_settings(fit, settings)
    config = fit_config(fit_settings, quiet=run.quiet)
    return fit_model(pm.modelcontext(model), config, run)[1]


@with_fit_settings
@globally_locked
def sample(
    draws: int = 1000,
    *,
    tune: int = 0,
    chains: int = 4,
    cores: int | None = None,
    model: pm.Model | None = None,
    fit: Fit | None = None,
    var_names: Sequence[str] | None = None,
    compute_convergence_checks: bool = True,
    idata_kwargs: Mapping[str, Any] | None = None,
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
        Chains; they run together in one process.
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
    **settings
        Keywords of `FitSettings`: generator, modes, regions, local, challenge, symmetry, target_se,
        max_evals, max_seconds, random_seed, workers, progressbar, quiet, compile_kwargs.
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
        If `fit` was made for another model or other data, or a worker process died.
    TypeError, ValueError
        If there is no such keyword, or a setting has the wrong type or is out of range.

    Notes
    -----
    An interruption (Ctrl-C) after the regions were weighed for the first time ends the fit; one
    while chains run ends the chains. The result is then made of what there is. Threads that sample
    at the same time wait for each other.
    """
    for name, value, least in (("draws", draws, 1), ("tune", tune, 0), ("chains", chains, 1)):
        checks.count("sample", name, value, least)
    fit_settings, run = split_settings(sample, settings)
    model = pm.modelcontext(model)
    check_var_names(model, var_names)
    if fit is None:
        config = fit_config(fit_settings, quiet=run.quiet)
        density, fit = fit_model(model, config, run)
        seed = config.random_seed
    else:
        given = fit_settings.pop("random_seed", None)
        density = load_fit(model, refuse_beside_fit(fit, fit_settings), run)
        # Two calls without a seed get different draws; the seed of the fit is not used again.
        seed = resolve_seed(given)
        if given is None and not run.quiet:
            _log.info("sample(fit=...) was given no seed: the chains use random_seed=%d.", seed)
    # The second number tells the stream of the chains from the streams of the fit.
    rng = np.random.default_rng([seed, 1])
    began = time.monotonic()
    try:
        x, stats = _run_chains(
            fit, fit.target(density), (chains, tune, draws), rng, run.shows_progress
        )
    finally:
        density.close()
    kept = KeptDraws(x, stats, tune=tune, seconds=time.monotonic() - began)
    idata = to_inference_data(model, fit, kept, var_names=var_names, idata_kwargs=idata_kwargs)
    if compute_convergence_checks:
        _check_convergence(idata, model, quiet=run.quiet)
        _check_mixing(stats["mode"], fit)
    return idata


def _run_chains(
    fit: Fit,
    target: Target,
    sizes: tuple[int, int, int],
    rng: np.random.Generator,
    progressbar: bool,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Run all chains; an interruption returns the draws made so far, as in PyMC.

    Parameters
    ----------
    fit : Fit
    target : Target
    sizes : tuple of int
        Chains, draws to discard, draws to keep.
    rng : numpy.random.Generator
    progressbar : bool

    Returns
    -------
    x : array of shape (chains, draws, d)
    stats : dict of arrays of shape (chains, draws)
    """
    chains, tune, draws = sizes
    step = fit.kernel
    state = kernel.init(target, step, fit.starts(chains, rng), rng)
    x = np.empty((chains, draws, target.dim))
    stats = {name: np.empty((chains, draws)) for name in ("lp", "accepted", "log_ratio")}
    stats["mode"] = np.empty((chains, draws), dtype=int)
    n = chains * step.jumps  # proposals of one draw
    block = max(1, PROPOSALS_AT_ONCE // n)  # draws whose proposals are evaluated together
    done = -tune
    try:
        with (progress := create_simple_progress(progressbar=progressbar)):
            task = progress.add_task("Sampling", total=tune + draws)
            while done < draws:
                proposals = kernel.propose(target, step, n * min(block, draws - done), rng)
                for first in range(0, len(proposals.minus_log_q), n):
                    proposed = kernel.rows(proposals, slice(first, first + n))
                    state, accepted = kernel.step(target, step, state, proposed, rng, done)
                    if done >= 0:
                        x[:, done], values = record(fit, state, accepted, rng)
                        for name, value in values.items():
                            stats[name][:, done] = value
                    done += 1
                progress.update(task, completed=tune + done)
    except KeyboardInterrupt:
        if done < 1:
            raise
        _log.warning("Interrupted: returning the %d draws made so far.", done)
    kept = max(done, 0)
    return x[:, :kept], {name: s[:, :kept] for name, s in stats.items()}


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
