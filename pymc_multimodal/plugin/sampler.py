"""The backend: all chains at once in the main process."""

from __future__ import annotations

import logging
import time
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import pymc as pm
from pymc.progress_bar import create_simple_progress
from pymc.stats.convergence import log_warnings, run_convergence_checks

from pymc_multimodal import kernel as _kernel
from pymc_multimodal._compat import get_dataset
from pymc_multimodal.fit import Fit
from pymc_multimodal.model.compiled import globally_locked
from pymc_multimodal.plugin.inference_data import check_var_names, to_inference_data
from pymc_multimodal.plugin.step import fit_model, make_config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymc_multimodal.target.density import Density

__all__ = ["fit", "sample"]

_log = logging.getLogger("pymc.multimodal")


def fit(
    model: pm.Model | None = None,
    *,
    generator: Any = None,
    modes: Any = None,
    regions: Any = None,
    local: Any = None,
    challenge: Any = None,
    symmetry: Any = None,
    target_se: float = 0.01,
    max_evals: int | None = None,
    max_seconds: float | None = None,
    workers: int = 1,
    random_seed: Any = None,
    progressbar: bool = True,
    quiet: bool = False,
    compile_kwargs: Mapping[str, Any] | None = None,
) -> Fit:
    """Find, sample and weigh the modes of a model, without drawing from it.

    Parameters
    ----------
    model : pymc.Model, optional
        By default the one on the context stack.
    generator, modes, regions, local, challenge, symmetry : optional
        See `MultimodalDiffusion`.
    target_se, max_evals, max_seconds, workers : optional
        See `MultimodalDiffusion`.
    random_seed : int, optional
        A fit without one draws it, records it and says so.
    progressbar, quiet : bool
    compile_kwargs : mapping, optional
        Passed to ``pymc.compile``.

    Returns
    -------
    Fit
        Plain data; it can be pickled and passed to ``sample(fit=...)`` or
        ``MultimodalDiffusion(fit=...)`` with the same model.

    Raises
    ------
    ModelError
        If the model cannot be sampled.
    FitError
        If a worker process died.
    TypeError, ValueError
        If a setting has the wrong type, or is out of range.
    """
    config = make_config(
        random_seed,
        quiet,
        generator=generator,
        modes=modes,
        regions=regions,
        local=local,
        challenge=challenge,
        symmetry=symmetry,
        target_se=target_se,
        max_evals=max_evals,
        max_seconds=max_seconds,
    )
    return fit_model(
        pm.modelcontext(model),
        config,
        workers=workers,
        progressbar=progressbar,
        quiet=quiet,
        compile_kwargs=compile_kwargs,
    )[1]


@globally_locked
def sample(
    draws: int = 1000,
    *,
    tune: int = 0,
    chains: int = 4,
    cores: int | None = None,
    model: pm.Model | None = None,
    fit: Fit | None = None,
    random_seed: Any = None,
    progressbar: bool = True,
    quiet: bool = False,
    var_names: Sequence[str] | None = None,
    compute_convergence_checks: bool = True,
    idata_kwargs: Mapping[str, Any] | None = None,
    compile_kwargs: Mapping[str, Any] | None = None,
    generator: Any = None,
    modes: Any = None,
    regions: Any = None,
    local: Any = None,
    challenge: Any = None,
    symmetry: Any = None,
    target_se: float = 0.01,
    max_evals: int | None = None,
    max_seconds: float | None = None,
    workers: int = 1,
) -> Any:
    """Draw from a posterior with several modes.

    Parameters
    ----------
    draws : int
        Draws kept of each chain.
    tune : int
        Draws discarded first; chains start inside the modes, so none are needed.
    chains : int
        Chains, all run together.
    cores : int, optional
        Accepted for likeness with ``pm.sample``; chains share one batch, so it changes
        nothing. `workers` spreads expensive evaluations over processes.
    model : pymc.Model, optional
        By default the one on the context stack.
    fit : Fit, optional
        An earlier fit of the same model and data; its settings stand.
    random_seed : int, optional
        Seed of the fit and of the chains; with `fit`, of the chains alone. Without one, a seed
        is drawn and logged.
    progressbar, quiet : bool
    var_names : sequence of str, optional
        Variables to keep in the posterior.
    compute_convergence_checks : bool
        Run PyMC's checks on the draws.
    idata_kwargs, compile_kwargs : mapping, optional
        Passed to ``pymc.to_inference_data`` and ``pymc.compile``.
    generator, modes, regions, local, challenge, symmetry : optional
        See `MultimodalDiffusion`.
    target_se, max_evals, max_seconds, workers : optional
        See `MultimodalDiffusion`.

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
        If a setting has the wrong type, or is out of range.

    Notes
    -----
    An interruption (Ctrl-C) once the regions are weighed ends the fit, one while drawing the
    drawing, with what there is by then. Threads that sample at the same time take turns.
    """
    for name, value, least in (("draws", draws, 1), ("tune", tune, 0), ("chains", chains, 1)):
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name}={value!r} must be an integer of at least {least}.")
    model = pm.modelcontext(model)
    check_var_names(model, var_names)
    reused = fit is not None
    config = fit.config if isinstance(fit, Fit) else make_config(
        random_seed,
        quiet,
        generator=generator,
        modes=modes,
        regions=regions,
        local=local,
        challenge=challenge,
        symmetry=symmetry,
        target_se=target_se,
        max_evals=max_evals,
        max_seconds=max_seconds,
    )  # fmt: skip
    density, fit = fit_model(
        model,
        config,
        fit=fit,
        workers=workers,
        progressbar=progressbar,
        quiet=quiet,
        compile_kwargs=compile_kwargs,
    )
    seed = config.random_seed
    if reused:
        # A fit that is used twice without a seed shall not give the same draws twice.
        seed = make_config(random_seed, quiet=True).random_seed
        if random_seed is None and not quiet:
            _log.info("sample(fit=...) was given no seed: the chains use random_seed=%d.", seed)
    # A stream of its own, so that the chains do not repeat the fit's numbers.
    rng = np.random.default_rng([seed, 1])
    began = time.monotonic()
    try:
        x, stats = _run(density, fit, draws, tune, chains, rng, progressbar and not quiet)
    finally:
        density.close()
    idata = to_inference_data(
        model,
        fit,
        x,
        stats,
        seconds=time.monotonic() - began,
        tune=tune,
        var_names=var_names,
        idata_kwargs=idata_kwargs,
    )
    # PyMC's checks look at free variables, and fail where none was kept.
    free = {v.name for v in model.free_RVs} & set(get_dataset(idata, "posterior").data_vars)
    if compute_convergence_checks and free and chains > 1 and x.shape[1] >= 100:
        found = run_convergence_checks(idata, model)
        log_warnings([w for w in found if not (quiet and w.level == "info")])
    return idata


def _run(
    density: Density,
    fit: Fit,
    draws: int,
    tune: int,
    chains: int,
    rng: np.random.Generator,
    progressbar: bool,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Run all chains; an interrupt returns what there is, as PyMC does."""
    kernel, target = fit.kernel, fit.target(density)
    state = _kernel.init(target, kernel, fit.starts(chains, rng), rng)
    x = np.empty((chains, draws, target.dim))
    stats = {
        "lp": np.empty((chains, draws)),
        "mode": np.empty((chains, draws), dtype=int),
        "accepted": np.empty((chains, draws)),
        "log_ratio": np.empty((chains, draws)),
    }
    n = chains * kernel.jumps
    block = max(1, 256 // n)
    done = -tune
    progress = create_simple_progress(progressbar=progressbar)
    try:
        with progress:
            task = progress.add_task("Sampling", total=tune + draws)
            while done < draws:
                proposals = _kernel.propose(target, kernel, n * min(block, draws - done), rng)
                for first in range(0, len(proposals.minus_log_q), n):
                    offered = _kernel.rows(proposals, slice(first, first + n))
                    state, accepted = _kernel.step(target, kernel, state, offered, rng, done)
                    if done >= 0:
                        cloud = fit.randomise_image(state.points, rng)
                        x[:, done] = cloud.x
                        stats["lp"][:, done] = cloud.logp
                        stats["mode"][:, done] = cloud.region
                        stats["accepted"][:, done] = accepted
                        stats["log_ratio"][:, done] = state.log_ratio
                    done += 1
                progress.update(task, completed=tune + done)
    except KeyboardInterrupt:
        if done < 1:
            raise
        _log.warning("Interrupted: returning the %d draws made so far.", done)
    kept = max(done, 0)
    return x[:, :kept], {name: s[:, :kept] for name, s in stats.items()}
