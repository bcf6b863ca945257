"""The evidence of a model from draws that PyMC has made of its posterior."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr

from pymc_multimodal import checks
from pymc_multimodal._compat import get_dataset, group_names
from pymc_multimodal.evidence import NORMAL_QUANTILE, LogEvidence, evidence_of_draws
from pymc_multimodal.fit import Fit
from pymc_multimodal.model import (
    compiling,
    density_of,
    improper_statuses,
    marginal_of,
    observed_values,
    same_data,
    unconstrained_rows,
    variables_of,
)
from pymc_multimodal.plugin.arguments import check_compile_kwargs, draws_given, model_given
from pymc_multimodal.plugin.locks import globally_locked
from pymc_multimodal.status import Status, counted
from pymc_multimodal.target import Density, check_workers, following_joblib

__all__ = ["log_evidence", "recorded_evidence"]

_log = logging.getLogger("pymc.multimodal")

# Fewest draws of all chains together, and of each. Conventional: half of them are fitted to.
MIN_DRAWS, MIN_DRAWS_OF_CHAIN = 100, 8
# Draws at which the log density is compared with the sampler's own. Conventional.
N_COMPARED = 20
# Difference of log densities, in nats and relative to their size, above which they are not the
# same. Conventional: a transformation there and back costs digits near the border of a support.
TOLERANCE, RELATIVE_TOLERANCE = 1e-3, 1e-5
# Share of draws on the border of their support that is let through. Conventional: it is an error of
# as many nats.
MAX_ON_BORDER = 0.01
# Stats of step methods that leave the log density of NUTS behind, because they move after it.
_OTHER_STEPS = {"scaling", "nstep_out", "accept"}


@globally_locked
def log_evidence(
    idata: Any,
    model: pm.Model | None = None,
    *,
    max_draws: int = 20_000,
    n_proposals: int | None = None,
    random_seed: int | np.random.Generator | None = None,
    workers: Any = None,
    compile_kwargs: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> LogEvidence:
    """Estimate the log evidence of a model from draws of its posterior, by bridge sampling.

    The draws may be those of any sampler: ``pm.sample``, ``pm.sample_smc``, this package. Mixtures
    are fitted to one half of each chain and bridged with the other half, and the other way round.
    Discrete variables are summed over; their draws are not used.

    Parameters
    ----------
    idata : InferenceData, DataTree or Fit
        Draws with the group `posterior`, which holds every free variable; 100 at least, several
        thousand for an error of a hundredth. Of a fit, its own log evidence is returned, after a
        model that is given was compared with it.
    model : pymc.Model, optional
        The model that was sampled; by default the one on the context stack. Without any, the log
        evidence that the group `modes` holds is returned.
    max_draws : int
        Draws of all chains together; longer chains are thinned evenly.
    n_proposals : int, optional
        Proposals; as many as draws by default. The log density is evaluated once at each draw and
        at each proposal.
    random_seed : int or numpy.random.Generator, optional
    workers : int or object, optional
        Processes that share the evaluations (in a script, under ``if __name__ == "__main__":``), or
        an engine, as in :class:`FitSettings`.
    compile_kwargs : mapping, optional
        Passed to ``pymc.compile``.
    quiet : bool
        Whether to log nothing but warnings.

    Returns
    -------
    LogEvidence
        With a standard error that is NaN, and a status, where chains disagree, where there are too
        few effective draws, or where draws and proposals overlap too little.

    Raises
    ------
    TypeError
        If `idata` is neither draws nor a fit, if there is no model, or a setting has a wrong type.
    ValueError
        If the draws are not those of the model: variables are missing or have other shapes, the
        data are others, or the log density is; or if there are too few draws.
    FitError
        If a fit was made for another model or other data than `model`.
    ModelError
        If the model cannot be evaluated: a random log density, discrete variables that cannot be
        summed over.

    Notes
    -----
    The estimator is that of Meng and Wong (1996), with the effective number of draws in place of
    their number, as in Gronau et al. (2017, arXiv 1703.05984). In place of one normal density (or
    a warped one, Meng and Schilling 2002) the proposals come from mixtures of up to 16 Gaussian or
    Student-t densities, so that several modes are no difficulty. **Modes that no chain has visited
    are missing in the result**: :func:`fit` searches for them.

    Examples
    --------
    >>> import pymc as pm
    >>> import pymc_multimodal as mm
    >>> with pm.Model():  # doctest: +SKIP
    ...     x = pm.Normal("x", 0, 1)
    ...     pm.Normal("y", x, 1, observed=1.0)
    ...     idata = pm.sample()
    ...     mm.log_evidence(idata, random_seed=1)
    """
    owner = "log_evidence"
    checks.count(owner, "max_draws", max_draws, MIN_DRAWS)
    if n_proposals is not None:
        checks.count(owner, "n_proposals", n_proposals, MIN_DRAWS)
    workers = following_joblib() if workers is None else workers
    check_workers(owner, workers)
    checks.flag(owner, "quiet", quiet)
    check_compile_kwargs(owner, compile_kwargs)
    rng = checks.generator(owner, "random_seed", random_seed)
    if isinstance(idata, Fit):
        if model is not None:
            _check_fit(idata, marginal_of(model_given(owner, model)), compile_kwargs)
        return _of_fit(idata)
    if isinstance(idata, LogEvidence):
        return idata
    draws_given(owner, idata)
    if model is None and pm.Model.get_context(error_if_none=False) is None:
        if (recorded := recorded_evidence(idata)) is not None:
            return recorded
    whole = model_given(owner, model)
    model = marginal_of(whole)
    values, shape, step = _draws_of(idata, model, max_draws)
    _check_data(idata, whole)
    if not quiet:
        _log.info(
            "Compiling the log density of the model; then bridge sampling with %s of %s.",
            counted(shape[0] * shape[1], "draw"), counted(shape[0], "chain"),
        )  # fmt: skip
    with compiling():
        rows = unconstrained_rows(model, values)
        density = density_of(model, workers=workers, compile_kwargs=compile_kwargs, gradient=False)
    try:
        rows, on_border = _inside(rows.reshape(*shape, -1))
        if model is whole:
            _check_density(idata, density, rows, step)
        density.start_workers()
        found = evidence_of_draws(density, rows, rng, n_proposals)
    finally:
        density.close()
    return _with_statuses(found, on_border, improper_statuses(model))


def recorded_evidence(idata: Any) -> LogEvidence | None:
    """Return the log evidence that the group `modes` of draws holds; None if there is none."""
    if "modes" not in group_names(idata):
        return None
    attributes = get_dataset(idata, "modes").attrs
    if "log_evidence" not in attributes:
        return None
    statuses = tuple(Status(**s) for s in json.loads(attributes.get("statuses", "[]")))
    return _recorded(attributes["log_evidence"], attributes["log_evidence_se"], statuses)


def _check_fit(fit: Fit, model: pm.Model, compile_kwargs: Mapping[str, Any] | None) -> None:
    """Raise FitError if a fit is of another model, or of other data."""
    density = density_of(model, compile_kwargs=compile_kwargs, gradient=False)
    try:
        fit.check_density(density)
    finally:
        density.close()


def _of_fit(fit: Fit) -> LogEvidence:
    return _recorded(fit.weights.total, fit.weights.total_se, fit.statuses, fit.n_logp_evals)


def _recorded(
    value: float, error: float, statuses: tuple[Status, ...], n_logp_evals: int = 0
) -> LogEvidence:
    """Return the log evidence of a fit; of its statuses, the warnings.

    An improper prior is no fault of a posterior, but one of its evidence.
    """
    statuses = tuple(replace(s, level="warning") if s.code == "improper" else s for s in statuses)
    reach = NORMAL_QUANTILE * error if np.isfinite(error) else np.inf
    return LogEvidence(
        log_evidence=float(value),
        log_evidence_se=float(error),
        interval=(float(value - reach), float(value + reach)),
        method="fit",
        n_logp_evals=n_logp_evals,
        statuses=tuple(s for s in statuses if s.level == "warning"),
    )


def _draws_of(
    idata: Any, model: pm.Model, max_draws: int
) -> tuple[dict[str, np.ndarray], tuple[int, int], int]:
    """Return the draws of each variable, (chains * draws, ...), the numbers of both, and the step.

    Every so many-th draw is taken.
    """
    groups = group_names(idata)
    if "posterior" not in groups:
        raise ValueError(
            f"log_evidence(idata): there is no group 'posterior', the groups are {groups}. Give "
            "draws of the posterior, such as pm.sample() returns."
        )
    posterior = get_dataset(idata, "posterior")
    shapes = variables_of(model)
    if missing := [n for n in shapes if n not in posterior]:
        raise ValueError(
            f"log_evidence(idata): the posterior does not hold {missing}, free variables of the "
            f"model; it holds {[str(n) for n in posterior.data_vars]}. Give the model that made "
            "the draws, and draw without var_names."
        )
    n_chains, n_draws = (posterior.sizes.get(dim, 0) for dim in ("chain", "draw"))
    if n_chains * n_draws < MIN_DRAWS or n_draws < MIN_DRAWS_OF_CHAIN:
        raise ValueError(
            f"log_evidence(idata): there are {counted(n_draws, 'draw')} in each of "
            f"{counted(n_chains, 'chain')}; {MIN_DRAWS} in all and {MIN_DRAWS_OF_CHAIN} in each "
            "chain are needed at least. Draw more."
        )
    step = -(-n_chains * n_draws // max_draws)
    values = {}
    value_names = [v.name for v in model.value_vars]
    for name in [*shapes, *(n for n in value_names if n in posterior and n not in shapes)]:
        array = _plain(posterior[name])[:, ::step]
        if name in shapes and array.shape[2:] != shapes[name]:
            raise ValueError(
                f"log_evidence(idata): draws of {name} have shape {array.shape[2:]}, and the "
                f"model's variable has {shapes[name]}. Give the model and the data that made the "
                "draws."
            )
        if not np.isfinite(array).all():
            raise ValueError(
                f"log_evidence(idata): {int(np.sum(~np.isfinite(array)))} values of {name} are "
                "not finite. Drop these draws."
            )
        kept = array.shape[:2]
        values[name] = array.reshape(-1, *array.shape[2:])
    return values, (kept[0], kept[1]), step


def _plain(variable: xr.DataArray) -> np.ndarray:
    out: np.ndarray = variable.transpose("chain", "draw", ...).values
    return out


def _check_data(idata: Any, model: pm.Model) -> None:
    """Raise ValueError if the observed data of the draws are not those of the model."""
    if "observed_data" not in group_names(idata):
        return
    stored = get_dataset(idata, "observed_data")
    for name, data in observed_values(model).items():
        if name not in stored:
            continue
        there = stored[name].values
        if not same_data(data, there):
            stored_shape, shape = np.atleast_1d(there).shape, np.atleast_1d(data).shape
            what = (
                f"shape {stored_shape} in the draws, {shape} in the model"
                if stored_shape != shape
                else "other values"
            )
            raise ValueError(
                f"log_evidence(idata): the data of {name} are not those of the model ({what}). "
                "Give the model and the data that made the draws (pm.set_data)."
            )


def _inside(x: np.ndarray) -> tuple[np.ndarray, float]:
    """Replace rows on the border of their support by the one before them, and say how many."""
    outside = ~np.isfinite(x).all(axis=2)
    share = float(np.mean(outside))
    if share > MAX_ON_BORDER:
        raise ValueError(
            f"log_evidence(idata): {share:.0%} of the draws lie on the border of their support, "
            "where they have been rounded to. Draw with "
            "pm.sample(idata_kwargs={'include_transformed': True}), which keeps their unrounded "
            "values."
        )
    if not share:
        return x, 0.0
    x = x.copy()
    for c in np.flatnonzero(outside.any(axis=1)):
        inside = np.flatnonzero(~outside[c])
        before = np.maximum(np.searchsorted(inside, np.arange(x.shape[1]), side="right") - 1, 0)
        x[c] = x[c, inside[before]]
    return x, share


def _check_density(idata: Any, density: Density, x: np.ndarray, step: int) -> None:
    """Raise ValueError if the sampler's own log density at some draws is another one.

    Of a model with discrete variables it is that of all variables together, and not compared.
    """
    if "sample_stats" not in group_names(idata):
        return
    stats, posterior = get_dataset(idata, "sample_stats"), get_dataset(idata, "posterior")
    ours = posterior.attrs.get("inference_library", "pymc") == "pymc"
    names = {str(n) for n in stats.data_vars}
    if not ours or "lp" not in names or names & _OTHER_STEPS:
        return
    there = _plain(stats["lp"])[:, ::step]
    if there.shape != x.shape[:2]:
        return
    some = np.linspace(0, there.size - 1, N_COMPARED).astype(int)
    lp = there.ravel()[some]
    here = density.logp(x.reshape(-1, x.shape[2])[some])
    with np.errstate(invalid="ignore"):
        other = ~(np.abs(here - lp) <= TOLERANCE + RELATIVE_TOLERANCE * np.abs(lp))
    if np.mean(other) > 0.5:
        worst = float(np.median((here - lp)[other]))
        raise ValueError(
            f"log_evidence(idata): the log density of the model differs from the sampler's own "
            f"(sample_stats.lp) at most draws, by {worst:+.4g} nats in the middle: the draws are "
            "those of another model, or of other data. Give the model and the data that made them."
        )


def _with_statuses(found: LogEvidence, on_border: float, improper: list[Status]) -> LogEvidence:
    """Add what is known of the model and the draws before the bridge."""
    statuses = list(found.statuses)
    if on_border:
        statuses.append(
            Status("support", "evidence",
                   f"{on_border:.2%} of the draws lie on the border of their support, where they "
                   "have been rounded to; the draws before them were taken. The error includes "
                   "this.", "Draw with pm.sample(idata_kwargs={'include_transformed': True}).",
                   level="info")
        )  # fmt: skip
        error = float(np.hypot(found.log_evidence_se, on_border))
        low, high = found.interval
        found = replace(found, log_evidence_se=error, interval=(low - on_border, high + on_border))
    return replace(found, statuses=(*statuses, *improper))
