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

from pymc_multimodal._compat import add_group, get_dataset
from pymc_multimodal.fit import Fit
from pymc_multimodal.plugin.modes_group import (
    mode_statistics,
    modes_from_fit,
    modes_from_stats,
    rename_clashes,
)
from pymc_multimodal.plugin.relabel import acts_as, read_action
from pymc_multimodal.plugin.traces import chain_records

__all__ = ["KeptDraws", "attach", "to_inference_data"]

_log = logging.getLogger("pymc.multimodal")

# Draws of each mode in the group `mode_posterior`. Conventional: enough for a histogram.
MODE_DRAWS = 500
# Draws at which the action of a symmetry on the variables is checked, after it was read off the
# first. Conventional: an accidental agreement at six independent draws has probability zero.
ACTION_DRAWS = 6


@dataclass(frozen=True)
class KeptDraws:
    """Draws of all chains.

    Attributes
    ----------
    x : array of shape (chains, draws, d)
        Unconstrained draws.
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
    vectors = mode_statistics(fit)
    stats = [
        [{**{n: s[c, i] for n, s in draws.stats.items()}, **vectors} for i in range(n_draws)]
        for c in range(n_chains)
    ]
    records = chain_records(model, list(draws.x), stats, var_names)
    trace = MultiTrace(records)
    # PyMC writes these to the attributes of the posterior, and sets them in the same way.
    trace.report._n_tune, trace.report._n_draws = draws.tune, n_draws
    trace.report._t_sampling = draws.seconds
    settings = {"model": model, "save_warmup": False, "log_likelihood": False}
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
        add_group(idata, "modes", modes_from_stats(idata))
    else:
        _add_groups(idata, fit, pm.modelcontext(model))
    return idata


def _add_groups(idata: Any, fit: Fit, model: pm.Model, template: NDArray | None = None) -> None:
    kept = set(get_dataset(idata, "posterior").data_vars)
    names = [v.name for v in model.unobserved_RVs if v.name in kept]
    draws, locations = _within_modes(model, fit, names, template)
    modes = modes_from_fit(fit, locations)
    modes.attrs["symmetry"] = json.dumps(
        _actions(model, fit, [str(n) for n in draws.data_vars], template)
    )
    add_group(idata, "modes", modes)
    add_group(idata, "mode_posterior", draws)


def _within_modes(
    model: pm.Model, fit: Fit, names: list[str], template: NDArray | None
) -> tuple[xr.Dataset, xr.Dataset]:
    """Return draws within each mode, and each mode's location, in the model's variables."""
    chains = []
    for k in range(fit.n_modes):
        pool = fit.local_draws(k)
        # Bridge weights refer to all draws of a region: keep evenly spaced ones.
        keep = np.linspace(0, len(pool) - 1, MODE_DRAWS).astype(int)
        chains.append(np.concatenate([fit.modes.locations[k][None], pool[keep]]))
    records = chain_records(model, chains, var_names=names, template=template)
    whole = pm.to_inference_data(MultiTrace(records), model=model, log_likelihood=False)
    posterior = rename_clashes(get_dataset(whole, "posterior")[names], {"mode"})
    posterior = posterior.rename(chain="mode")
    posterior.attrs = {}
    draws = posterior.isel(draw=slice(1, None))
    return draws.assign_coords(draw=np.arange(MODE_DRAWS)), posterior.isel(draw=0, drop=True)


def _actions(
    model: pm.Model, fit: Fit, names: list[str], template: NDArray | None
) -> list[dict[str, Any]]:
    """Read off what each generator of the model's symmetry does to its variables.

    Returns
    -------
    list of dict
        For each generator the result of `read_action`, with None for a variable whose action at
        the first draw is another one at the other draws.
    """
    if fit.orbits is None:
        return []
    pool = fit.local_draws(0)
    some = pool[np.linspace(0, len(pool) - 1, ACTION_DRAWS).astype(int)]
    generators = fit.orbits.cells.symmetry.generators
    rows = np.concatenate([some, *(some @ g.T for g in generators)])
    [record] = chain_records(model, [rows], var_names=names, template=template)
    parts = [
        {n: record.get_values(n)[i * len(some) : (i + 1) * len(some)] for n in names}
        for i in range(len(generators) + 1)
    ]
    before = [{n: v[i] for n, v in parts[0].items()} for i in range(len(some))]
    actions = []
    for image in parts[1:]:
        action = read_action(before[0], {n: v[0] for n, v in image.items()})
        for n in names:
            unchanged = [(n, i, 1.0, 0.0) for i in range(np.size(before[0][n]))]
            entries = action.get(n, unchanged)
            if entries and not all(map(acts_as, repeat(entries), before, image[n])):
                action[n] = None
        actions.append(action)
    return actions
