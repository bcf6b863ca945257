"""The only writer of ArviZ objects."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, fields, is_dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import pymc as pm
import xarray as xr
from pymc.backends.base import MultiTrace
from pymc.backends.ndarray import NDArray

from pymc_multimodal._compat import add_group, get_dataset, group_names, json_ready
from pymc_multimodal.model.compiled import layout, unflatten
from pymc_multimodal.plugin.relabel import acts_as, read_action
from pymc_multimodal.status import worst

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymc_multimodal.fit import Fit

__all__ = ["STATS", "attach", "check_var_names", "mode_statistics", "to_inference_data"]

_log = logging.getLogger("pymc.multimodal")

STATS: dict[str, tuple[Any, list]] = {
    "lp": (np.float64, []),
    "mode": (np.int64, []),
    "accepted": (np.float64, []),
    "log_ratio": (np.float64, []),
    "mode_weight": (object, [None]),
    "mode_weight_se": (object, [None]),
    "mode_log_evidence": (object, [None]),
    "mode_log_evidence_se": (object, [None]),
}
"""Sample stats of every draw: dtypes and shapes as step methods declare them."""

# Draws of each mode kept in the group `mode_posterior`.
MODE_DRAWS = 500
# Draws by which what a symmetry does to the variables is read off, and checked.
ACTION_DRAWS = 6


def mode_statistics(fit: Fit) -> dict[str, np.ndarray]:
    """Vectors over the modes that travel with every draw."""
    w = fit.weights
    return {
        "mode_weight": w.weight,
        "mode_weight_se": w.weight_se,
        "mode_log_evidence": w.log_evidence,
        "mode_log_evidence_se": w.log_evidence_se,
    }


def to_inference_data(
    model: pm.Model,
    fit: Fit,
    x: np.ndarray,
    stats: Mapping[str, np.ndarray],
    *,
    seconds: float,
    tune: int = 0,
    var_names: Sequence[str] | None = None,
    idata_kwargs: Mapping[str, Any] | None = None,
) -> Any:
    """Write draws as PyMC would, with the groups `modes` and `mode_posterior`.

    Parameters
    ----------
    model : pymc.Model
    fit : Fit
    x : array of shape (chains, draws, d)
        Unconstrained draws.
    stats : mapping of arrays of shape (chains, draws)
    seconds : float
        Sampling time, written to the attributes as PyMC does.
    tune : int
    var_names : sequence of str, optional
        Variables to keep.
    idata_kwargs : mapping, optional
        Passed to ``pymc.to_inference_data``.

    Returns
    -------
    InferenceData or DataTree
    """
    vectors = mode_statistics(fit)
    rows = [
        [{**{n: s[c, i] for n, s in stats.items()}, **vectors} for i in range(x.shape[1])]
        for c in range(len(x))
    ]
    trace = _trace(model, list(x), rows, var_names)
    trace.report._n_tune, trace.report._n_draws = tune, x.shape[1]
    trace.report._t_sampling = seconds
    settings = {"model": model, "save_warmup": False, "log_likelihood": False}
    idata = pm.to_inference_data(trace, **{**settings, **(idata_kwargs or {})})
    try:
        _add_groups(idata, fit, model, trace._straces[0])
    except Exception as error:
        # Draws that took hours shall not be lost to a table.
        _log.warning(
            "The groups 'modes' and 'mode_posterior' could not be written (%s: %s); the draws are "
            "complete.", type(error).__name__, error,
        )  # fmt: skip
    return idata


def check_var_names(model: pm.Model, var_names: Sequence[str] | None) -> None:
    """Raise a ValueError if the model does not have all these variables."""
    known = {v.name for v in model.unobserved_RVs}
    if missing := set(var_names or ()) - known:
        raise ValueError(
            f"var_names holds {sorted(missing)}, which the model does not have; it has "
            f"{sorted(known)}."
        )


def _trace(
    model: pm.Model,
    chains: list[np.ndarray],
    stats: list[list[dict[str, Any]]] | None = None,
    var_names: Sequence[str] | None = None,
    template: NDArray | None = None,
) -> MultiTrace:
    """Record unconstrained draws, one chain per array of shape (draws, d).

    The function that computes all variables is taken over from `template`, if there is one,
    and otherwise compiled once.
    """
    variables = None
    if var_names is not None:
        check_var_names(model, var_names)
        # As they stand, random variables would be drawn anew: their values are wanted.
        variables = model.replace_rvs_by_values(
            [v for v in model.unobserved_RVs if v.name in set(var_names)]
        )
    straces: list[NDArray] = []
    like = layout(model)
    for c, x in enumerate(chains):
        known = template or (straces[0] if straces else None)
        shared = {"fn": known.fn, "vars": known.vars} if known else {"vars": variables}
        strace = NDArray(model=model, test_point=like, **shared)
        declared = [{n: d for n, (d, _) in STATS.items()}] if stats is not None else None
        strace.setup(len(x), c, declared)
        for i, point in enumerate(unflatten(like, x)):
            strace.record(point, [stats[c][i]] if stats is not None else None, in_warmup=False)
        straces.append(strace)
    return MultiTrace(straces)


def attach(idata: Any, fit: Fit | None = None, *, model: pm.Model | None = None) -> Any:
    """Add the group `modes`, and with a fit `mode_posterior`, to sampled draws.

    Without a fit the modes are rebuilt from the sample stats that travel with the draws of
    ``pm.sample(step=MultimodalDiffusion())``: weights, log evidences and their errors; each
    variable's location is then its highest-density draw in that mode.

    Parameters
    ----------
    idata : InferenceData or DataTree
        Draws of this sampler, from the same process or loaded from a file; changed in place.
    fit : Fit, optional
        The fit behind the draws (``step.fit``); it adds diagnostics, locations and draws
        within each mode.
    model : pymc.Model, optional
        By default the model on the context stack; needed with `fit`.

    Returns
    -------
    InferenceData or DataTree
        `idata` itself.

    Raises
    ------
    ValueError
        Without a fit, if the draws carry no weights of modes. That a given fit belongs to these
        draws is not checked.
    TypeError
        With a fit, if there is no model.
    """
    if fit is None:
        add_group(idata, "modes", _modes_from_stats(idata))
        return idata
    _add_groups(idata, fit, pm.modelcontext(model))
    return idata


def _add_groups(idata: Any, fit: Fit, model: pm.Model, template: NDArray | None = None) -> None:
    draws, locations = _within_modes(model, fit, idata, template)
    modes = _modes_from_fit(fit, locations)
    modes.attrs["symmetry"] = json.dumps(
        _actions(model, fit, [str(n) for n in draws.data_vars], template)
    )
    add_group(idata, "modes", modes)
    add_group(idata, "mode_posterior", draws)


def _within_modes(
    model: pm.Model, fit: Fit, idata: Any, template: NDArray | None
) -> tuple[xr.Dataset, xr.Dataset]:
    """Draws within each mode, and each mode's location, in the model's variables."""
    chains = []
    for k in range(fit.n_modes):
        pool = fit.local_draws(k)
        # Bridge weights refer to all draws of a region: keep evenly spaced ones.
        keep = np.linspace(0, len(pool) - 1, MODE_DRAWS).astype(int)
        chains.append(np.concatenate([fit.modes.locations[k][None], pool[keep]]))
    kept = list(get_dataset(idata, "posterior").data_vars)
    names = [v.name for v in model.unobserved_RVs if v.name in kept]
    whole = pm.to_inference_data(
        _trace(model, chains, var_names=names, template=template),
        model=model,
        log_likelihood=False,
    )
    posterior = _apart(get_dataset(whole, "posterior")[names], {"mode"}).rename(chain="mode")
    posterior.attrs = {}
    draws = posterior.isel(draw=slice(1, None))
    return draws.assign_coords(draw=np.arange(MODE_DRAWS)), posterior.isel(draw=0, drop=True)


def _actions(
    model: pm.Model, fit: Fit, names: list[str], template: NDArray | None
) -> list[dict[str, Any]]:
    """Read off what each generator of the model's symmetry does to its variables."""
    if fit.orbits is None:
        return []
    pool = fit.local_draws(0)
    some = pool[np.linspace(0, len(pool) - 1, ACTION_DRAWS).astype(int)]
    generators = fit.orbits.cells.symmetry.generators
    rows = np.concatenate([some, *(some @ g.T for g in generators)])
    trace = _trace(model, [rows], var_names=names, template=template)
    parts = [
        {n: trace._straces[0].get_values(n)[i * len(some) : (i + 1) * len(some)] for n in names}
        for i in range(len(generators) + 1)
    ]
    before = [{n: v[i] for n, v in parts[0].items()} for i in range(len(some))]
    actions = []
    for image in parts[1:]:
        action = read_action(before[0], {n: v[0] for n, v in image.items()})
        for n in names:
            # A value that depends on the labels in another way may look rearranged in one draw.
            entries = action.get(n, [(n, i, 1.0, 0.0) for i in range(np.size(before[0][n]))])
            if entries and not all(map(acts_as, repeat(entries), before, image[n])):
                action[n] = None
        actions.append(action)
    return actions


def _modes_from_fit(fit: Fit, locations: xr.Dataset) -> xr.Dataset:
    w = fit.weights
    columns = {
        "weight": w.weight,
        "weight_se": w.weight_se,
        "log_evidence": w.log_evidence,
        "log_evidence_se": w.log_evidence_se,
        "images": fit.images,
        "hits": fit.modes.hits,
        "ess": fit.draws.ess,
        "r_hat": fit.chains.r_hat,
        "pareto_k": w.pareto_k,
        "acceptance": fit.chains.acceptance,
        "crossings": fit.chains.crossings,
        "status": np.array([worst(fit.statuses, k) for k in range(fit.n_modes)], dtype=str),
    }
    dataset = _mode_dataset(columns, locations)
    dataset["weight_interval"] = (("mode", "bound"), w.interval)
    dataset = dataset.assign_coords(bound=["lower", "upper"])
    dataset.attrs = _attributes(fit)
    return dataset


def _modes_from_stats(idata: Any) -> xr.Dataset:
    if "sample_stats" not in group_names(idata) or "mode_weight" not in get_dataset(
        idata, "sample_stats"
    ):
        raise ValueError(
            "These draws carry no mode weights in sample_stats: they were not made by "
            "MultimodalDiffusion, or the stats were dropped. Pass the fit: attach(idata, fit)."
        )
    stats = get_dataset(idata, "sample_stats")
    first = {
        name: np.asarray(stats[f"mode_{name}"].values[0, 0], dtype=float)
        for name in ("weight", "weight_se", "log_evidence", "log_evidence_se")
    }
    k = len(first["weight"])
    posterior = _apart(get_dataset(idata, "posterior"), {"mode", "sample"})
    posterior = posterior.stack(sample=("chain", "draw"))
    lp, mode = np.ravel(stats["lp"].values), np.ravel(stats["mode"].values)
    best = []
    for i in range(k):
        own = np.flatnonzero(mode == i)
        best.append(own[np.argmax(lp[own])] if len(own) else -1)
    visited = np.array(best) >= 0
    locations = posterior.isel(sample=("mode", np.maximum(best, 0)))
    locations = locations.reset_coords(drop=True).drop_vars(
        [c for c in ("chain", "draw", "sample") if c in locations.coords], errors="ignore"
    )
    # A mode that no draw visited has no location among the draws.
    locations = locations.where(xr.DataArray(visited, dims="mode"))
    locations = locations.transpose("mode", ...)
    dataset = _mode_dataset(first, locations)
    total = float(np.logaddexp.reduce(first["log_evidence"]))
    dataset.attrs = {
        "log_evidence": total,
        "log_evidence_se": total_error(**first),
        "rebuilt_from": "sample_stats; locations are the draws of highest density",
    }
    return dataset


def _apart(dataset: xr.Dataset, taken: set[str], variables: bool = True) -> xr.Dataset:
    """Rename what the model calls by one of this package's names: dimensions, and variables."""
    names = {str(n) for n in [*dataset.dims, *dataset.coords]}
    names |= {str(n) for n in dataset.data_vars} if variables else set()
    return dataset.rename({n: f"{n}_of_model" for n in names & taken})


def total_error(
    weight: np.ndarray, weight_se: np.ndarray, log_evidence: np.ndarray, log_evidence_se: np.ndarray
) -> float:
    """Compute the error of the model's log evidence from the modes' columns, each of shape (K,).

    Images of one mode have the same numbers to the last digit, and one error in common.
    """
    rows = np.stack([weight, weight_se, log_evidence, log_evidence_se], axis=1)
    if not np.isfinite(log_evidence_se).all():
        return float("inf")
    image_of = np.unique(rows, axis=0, return_inverse=True)[1].ravel()
    return float(np.sqrt(np.sum(np.bincount(image_of, weight * log_evidence_se) ** 2)))


def _mode_dataset(columns: Mapping[str, np.ndarray], locations: xr.Dataset) -> xr.Dataset:
    dataset = xr.Dataset({name: ("mode", values) for name, values in columns.items()})
    locations = _apart(locations, {*columns, "bound", "weight_interval"}, variables=False)
    # A model may have a variable called "weight": its location then takes a longer name.
    taken = {n: f"{n}_location" for n in locations.data_vars if n in dataset}
    dataset = dataset.merge(locations.rename(taken), compat="override")
    return dataset.assign_coords(mode=np.arange(len(next(iter(columns.values())))))


def _attributes(fit: Fit) -> dict[str, Any]:
    """Scalars of the whole fit; the configs and statuses as JSON."""
    w, verdict = fit.weights, fit.challenge
    challenged = ("missed_mass", "missed_by_fit_upper")
    return {
        **{name: getattr(verdict, name, float("nan")) for name in challenged},
        "log_evidence": w.total,
        "log_evidence_se": w.total_se,
        "unseen_start_mass": fit.modes.unseen_start_mass,
        "unseen_start_mass_upper": fit.modes.unseen_start_mass_upper,
        "weight_in_singletons": float(np.sum(w.weight[fit.modes.singletons])),
        "n_logp_evals": int(fit.n_logp_evals),
        "n_grad_evals": int(fit.n_grad_evals),
        "n_starts": int(fit.modes.n_starts),
        "n_climbs": getattr(verdict, "n_climbs", 0),
        "jumps_per_draw": int(fit.kernel.jumps),
        "random_seed": str(fit.config.random_seed),
        "config": json.dumps(json_ready(_plain(fit.config))),
        "statuses": json.dumps([asdict(s) for s in fit.statuses]),
        "seconds": json.dumps({k: round(v, 3) for k, v in fit.seconds.items()}),
    }


def _plain(config: Any) -> Any:
    """Turn nested configs into dictionaries that name their class."""
    if is_dataclass(config):
        own = {f.name: _plain(getattr(config, f.name)) for f in fields(config)}
        return {"class": type(config).__name__, **own}
    return config
