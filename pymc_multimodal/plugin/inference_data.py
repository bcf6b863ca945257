"""The only writer of ArviZ objects."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr
from pymc.backends.base import MultiTrace
from pymc.backends.ndarray import NDArray

from pymc_multimodal._compat import add_group, get_dataset, group_names
from pymc_multimodal.fit import Fit
from pymc_multimodal.model import MarginalModel, discrete_names, marginal_of, whole_model
from pymc_multimodal.plugin.arguments import check_fit, draws_given, model_given
from pymc_multimodal.plugin.modes_group import (
    RECORD,
    drop_record,
    fit_record,
    group_attributes,
    modes_from_draws,
    modes_from_fit,
    modes_from_record,
    rename_clashes,
)
from pymc_multimodal.plugin.relabel import acts_as, read_action, read_labels
from pymc_multimodal.plugin.traces import NO_RECORD, as_stat, chain_records
from pymc_multimodal.plugin.units_group import has_units, units_from_model

__all__ = ["KeptDraws", "attach", "record_with_symmetry", "to_inference_data", "with_discrete"]

_log = logging.getLogger("pymc.multimodal")

# Draws of each mode in the group `mode_posterior`, and the chains that they are divided into, so
# that ArviZ compares them. Conventional: enough for a histogram; PyMC's number of chains.
MODE_DRAWS, MODE_CHAINS = 500, 4
# What the group `mode_posterior` says of itself.
MODE_POSTERIOR = "Draws within each mode; how much a mode weighs is in the group modes."
# Draws at which the action of a symmetry on the variables is checked, after it was read off the
# first. Conventional: an accidental agreement at six independent draws has probability zero.
ACTION_DRAWS = 6


@dataclass(frozen=True)
class KeptDraws:
    """Draws of all chains.

    Attributes
    ----------
    x : array of shape (chains, draws, d)
        Unconstrained draws, with the discrete variables.
    stats : mapping of arrays of shape (chains, draws)
    tune : int
        Draws of each chain that were discarded.
    seconds : float
        Sampling time.
    """

    x: np.ndarray
    stats: Mapping[str, np.ndarray]
    tune: int
    seconds: float


def to_inference_data(
    model: pm.Model,
    fit: Fit,
    draws: KeptDraws,
    *,
    var_names: Sequence[str] | None = None,
    idata_kwargs: Mapping[str, Any] | None = None,
) -> Any:
    """Write draws as PyMC does, with the groups `modes` and `mode_posterior`.

    Parameters
    ----------
    model : pymc.Model
        The model whose density was fitted (`continuous_model`).
    fit : Fit
    draws : KeptDraws
    var_names : sequence of str, optional
        Variables to keep.
    idata_kwargs : mapping, optional
        Passed to ``pymc.to_inference_data``.

    Returns
    -------
    InferenceData or DataTree
    """
    n_chains, n_draws, _ = draws.x.shape
    record = as_stat(fit_record(fit))
    stats: list[list[dict[str, Any]]] = [
        [
            {**{n: s[c, i] for n, s in draws.stats.items()}, RECORD: NO_RECORD if i else record}
            for i in range(n_draws)
        ]
        for c in range(n_chains)
    ]
    records = chain_records(model, list(draws.x), stats, var_names)
    trace = MultiTrace(records)
    # PyMC writes these to the attributes of the posterior, and sets them in the same way.
    trace.report._n_tune, trace.report._n_draws = draws.tune, n_draws
    trace.report._t_sampling = draws.seconds
    settings = {"model": whole_model(model), "save_warmup": False, "log_likelihood": False}
    idata = pm.to_inference_data(trace, **{**settings, **(idata_kwargs or {})})
    try:
        _add_groups(idata, fit, model, records[0])
    except Exception as error:
        # Draws that took hours must not be lost because a table fails.
        _log.warning(
            "The groups 'modes' and 'mode_posterior' could not be written (%s: %s); the draws are "
            "complete.", type(error).__name__, error, exc_info=True,
        )  # fmt: skip
    return idata


def attach(idata: Any, fit: Fit | None = None, *, model: pm.Model | None = None) -> Any:
    """Add the group `modes`, and with a fit `mode_posterior`, to sampled draws.

    Without a fit the modes are rebuilt from the record that travels with the first draw of each
    chain of ``pm.sample(step=MultimodalDiffusion())``: weights, log evidences, their errors,
    diagnostics, statuses, and what `relabel` needs. Each variable's location is then its
    highest-density draw in that mode. A group `modes` that is there already is kept. The record is
    taken out of the sample stats, which makes files smaller.

    Parameters
    ----------
    idata : InferenceData or DataTree
        Draws of this sampler, from the same process or loaded from a file; changed in place.
    fit : Fit, optional
        The fit behind the draws (``step.fit``). With the model it adds exact locations and draws
        within each mode; without, it replaces the record, where the first draws were cut off.
    model : pymc.Model, optional
        By default the model on the context stack, if there is one. It is used with `fit` alone.

    Returns
    -------
    InferenceData or DataTree
        `idata` itself.

    Raises
    ------
    ValueError
        Without a fit, if the draws carry no record of one. That a given fit belongs to these
        draws is not checked.
    TypeError
        If `idata` is no InferenceData or DataTree, or `fit` is no fit; with a fit, if there is no
        model and the draws do not say to which modes they belong.
    """
    draws_given("attach", idata)
    if fit is None:
        modes = modes_from_record(idata)
        if modes is not None:
            add_group(idata, "modes", modes)
        elif "modes" not in group_names(idata):
            raise ValueError(
                "These draws carry no record of a fit in sample_stats: they were not made by "
                "MultimodalDiffusion, or the first draws of each chain, which carry it, were cut "
                "off before. Pass the fit: attach(idata, fit)."
            )
        drop_record(idata)
    else:
        check_fit("attach", fit)
        if model is None and pm.Model.get_context(error_if_none=False) is None:
            _add_modes_without_model(idata, fit)
        else:
            _add_groups(idata, fit, marginal_of(model_given("attach", model)))
    return idata


def with_discrete(model: pm.Model, x: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """Add draws of the discrete variables that a model is summed over, if there are any.

    Parameters
    ----------
    model : pymc.Model
    x : array of shape (..., d)
        Unconstrained draws of the continuous variables.
    rng : numpy.random.Generator or None
        None takes the most probable values.

    Returns
    -------
    array of shape (..., d + m)
        Values of all variables, in the order of the model.
    """
    if not isinstance(model, MarginalModel):
        return x
    rows = model.recovery().complete(x.reshape(-1, x.shape[-1]), rng)
    return rows.reshape(*x.shape[:-1], -1)


def record_with_symmetry(model: pm.Model, fit: Fit) -> str:
    """Write the record of a fit (`fit_record`), with what is known of the model alone.

    That is what `relabel` needs, and the locations of the units' explanations.

    Parameters
    ----------
    model : pymc.Model
    fit : Fit
    """
    names = [v.name for v in model.unobserved_RVs]
    return fit_record(fit, _symmetry(model, fit, names, None), _units(model, fit, names, None))


def _add_modes_without_model(idata: Any, fit: Fit) -> None:
    """Add what a fit and its draws say of the modes; a group `modes` of this fit is kept."""
    if "modes" not in group_names(idata) or not _belongs_to(get_dataset(idata, "modes"), fit):
        modes = modes_from_draws(fit, idata)
        if modes is None:
            raise TypeError(
                "attach(idata, fit) finds the locations of the modes from the model, or from the "
                "sample stats `lp` and `mode` of the draws, and has neither: call it inside of "
                "`with model:`, or give model=."
            )
        add_group(idata, "modes", modes)
    drop_record(idata)


def _belongs_to(modes: xr.Dataset, fit: Fit) -> bool:
    """Whether a group `modes` was made from a fit."""
    same = np.array_equal(modes["weight"].values, fit.weights.weight, equal_nan=True)
    if not same or fit.units is None or not has_units(modes):
        return same and (fit.units is not None) == has_units(modes)
    weight = modes["unit_weight"].values
    return np.array_equal(weight, fit.units.weight[:, : weight.shape[1]])


def _add_groups(idata: Any, fit: Fit, model: pm.Model, template: NDArray | None = None) -> None:
    kept = set(get_dataset(idata, "posterior").data_vars)
    names = [v.name for v in model.unobserved_RVs if v.name in kept]
    draws, locations = _within_modes(model, fit, names, template)
    modes = modes_from_fit(fit, locations, _units(model, fit, names, template))
    modes.attrs.update(_symmetry(model, fit, [str(n) for n in draws.data_vars], template))
    add_group(idata, "modes", modes)
    add_group(idata, "mode_posterior", draws)
    drop_record(idata)


def _within_modes(
    model: pm.Model, fit: Fit, names: list[str], template: NDArray | None
) -> tuple[xr.Dataset, xr.Dataset]:
    """Return draws within each mode, and each mode's location, in the model's variables."""
    chains = []
    rng = np.random.default_rng([fit.config.random_seed, 3])
    for k in range(fit.n_modes):
        pool = fit.local_draws(k)
        # Bridge weights refer to all draws of a region: keep evenly spaced ones.
        keep = pool[_evenly(len(pool), MODE_DRAWS)]
        location = with_discrete(model, fit.modes.locations[k][None], None)
        chains.append(np.concatenate([location, with_discrete(model, keep, rng)]))
    records = chain_records(model, chains, var_names=names, template=template)
    made = pm.to_inference_data(MultiTrace(records), model=whole_model(model), log_likelihood=False)
    posterior = rename_clashes(get_dataset(made, "posterior")[names], {"mode"})
    # ArviZ 1 reads from here which dimensions are those of the draws.
    kept = {k: v for k, v in posterior.attrs.items() if k == "sample_dims"}
    posterior = posterior.rename(chain="mode")
    posterior.attrs = {}
    draws = _in_chains(posterior.isel(draw=slice(1, None)))
    draws.attrs = {**group_attributes(MODE_POSTERIOR), **kept}
    return draws, posterior.isel(draw=0, drop=True)


def _in_chains(draws: xr.Dataset) -> xr.Dataset:
    """Divide the draws of each mode into chains: (mode, draw, ...) to (chain, draw, mode, ...).

    The draws of a mode are those of one of its chains after the other.
    """
    n = MODE_DRAWS // MODE_CHAINS
    variables = {}
    for name, variable in draws.data_vars.items():
        rest = [d for d in variable.dims if d not in ("mode", "draw")]
        values = variable.transpose("mode", "draw", *rest).values
        values = values.reshape(len(values), MODE_CHAINS, n, *values.shape[2:])
        values = np.moveaxis(values, 0, 2)
        variables[name] = (("chain", "draw", "mode", *rest), values, variable.attrs)
    coords = {d: c for d, c in draws.coords.items() if d != "draw"}
    return xr.Dataset(variables, {**coords, "chain": np.arange(MODE_CHAINS), "draw": np.arange(n)})


def _units(
    model: pm.Model, fit: Fit, names: list[str], template: NDArray | None
) -> xr.Dataset | None:
    """Return what the group `modes` holds of the units, with locations in the model's variables."""

    def evaluate(points: np.ndarray) -> xr.Dataset:
        records = chain_records(model, [points], var_names=names, template=template)
        whole = pm.to_inference_data(MultiTrace(records), model=model, log_likelihood=False)
        values = get_dataset(whole, "posterior")[names].isel(chain=0, drop=True)
        return values.rename(draw="point").transpose("point", ...)

    variables = {value.name: rv.name for rv, value in model.rvs_to_values.items()}
    return units_from_model(fit, evaluate, variables)


def _symmetry(
    model: pm.Model, fit: Fit, names: list[str], template: NDArray | None
) -> dict[str, str]:
    """Describe for `relabel` the model's symmetry, and the mode to which draws are brought.

    Returns
    -------
    dict of str
        JSON of ``symmetry``: for each generator the result of `read_action`, with None for a
        variable whose action at the first draw is another one at the other draws, and that of
        `read_labels` for a discrete variable whose values change; and of
        ``reference``: mean and standard deviation of the entries of these variables in mode 0.
    """
    if fit.orbits is None:
        return {"symmetry": "[]", "reference": "{}"}
    pool = fit.local_draws(0)
    some, own = (pool[_evenly(len(pool), n)] for n in (ACTION_DRAWS, MODE_DRAWS))
    generators = fit.orbits.cells.symmetry.generators
    rows = np.concatenate([*(some @ g.T for g in [np.eye(len(fit.names)), *generators]), own])
    rows = with_discrete(model, rows, None)
    [record] = chain_records(model, [rows], var_names=names, template=template)
    values = {n: record.get_values(n) for n in names}
    # A rearrangement of components changes the values of their indicators, not their places.
    drawn = discrete_names(model) & values.keys()
    parts = [
        {n: v[i * ACTION_DRAWS : (i + 1) * ACTION_DRAWS] for n, v in values.items()}
        for i in range(len(generators) + 1)
    ]
    images = [{n: v for n, v in part.items() if n not in drawn} for part in parts]
    before = [{n: v[i] for n, v in images[0].items()} for i in range(ACTION_DRAWS)]
    actions = []
    for image, part in zip(images[1:], parts[1:], strict=True):
        action = read_action(before[0], {n: v[0] for n, v in image.items()})
        for n in image:
            unchanged = [(n, i, 1.0, 0.0) for i in range(np.size(before[0][n]))]
            entries = action.get(n, unchanged)
            if entries and not all(map(acts_as, repeat(entries), before, image[n])):
                action[n] = None
        for n in drawn:
            if not np.array_equal(parts[0][n], part[n]):
                action[n] = read_labels(parts[0][n], part[n])
        actions.append(action)
    moved = {n: values[n][-MODE_DRAWS:].reshape(MODE_DRAWS, -1) for a in actions for n in a}
    reference = {n: [v.mean(axis=0).tolist(), v.std(axis=0).tolist()] for n, v in moved.items()}
    return {"symmetry": json.dumps(actions), "reference": json.dumps(reference)}


def _evenly(size: int, n: int) -> np.ndarray:
    """Return n evenly spaced indices below a size."""
    return np.linspace(0, size - 1, n).astype(int)
