"""The group `modes`: one entry for each mode, from a fit or from the draws themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

import numpy as np
import xarray as xr

from pymc_multimodal._compat import add_group, get_dataset, group_names, json_ready
from pymc_multimodal._version import __version__
from pymc_multimodal.fit import Fit
from pymc_multimodal.plugin.units_group import beside, labelled, units_from_fit
from pymc_multimodal.status import worst

__all__ = [
    "RECORD",
    "drop_record",
    "fit_record",
    "group_attributes",
    "modes_from_draws",
    "modes_from_fit",
    "modes_from_record",
    "modes_group",
    "rename_clashes",
]

RECORD = "fit_record"
"""The sample stat that carries a fit's record at the first draw of each chain."""

# What PyMC's Zarr trace writes before the names of the stats of a step that is the only one.
ZARR_PREFIX = "sampler_0__"
# What the group holds beside the columns and the locations of the model's variables.
_INTERVAL, _BOUND = "weight_interval", "bound"
# What the record holds where there are units.
_UNITS = "units"
# What the group says of itself.
DESCRIPTION = (
    "One entry for each mode: weight, evidence, errors, diagnostics and location. The attributes "
    "are those of the whole fit."
)
# Why the attribute `missed_mass` is NaN.
NO_MISSED_MASS = (
    "No estimate of the missed posterior mass was found to be calibrated: the search for modes "
    "and the challenge miss the same narrow modes. seen_basin_mass and unseen_start_mass_upper "
    "say what was searched."
)


def group_attributes(description: str) -> dict[str, str]:
    """Return the attributes that every group of this package has, as those of PyMC have them."""
    return {
        "description": description,
        "inference_library": "pymc_multimodal",
        "inference_library_version": __version__,
    }


def modes_group(idata: Any) -> xr.Dataset:
    """Return the group `modes`.

    Raises
    ------
    ValueError
        If there is none.
    """
    if "modes" not in group_names(idata):
        raise ValueError("There is no group 'modes' yet: call attach(idata) or attach(idata, fit).")
    return get_dataset(idata, "modes")


def fit_record(
    fit: Fit, extra: Mapping[str, str] | None = None, units: xr.Dataset | None = None
) -> str:
    """Write what the group holds, apart from locations of modes, as one text.

    It travels with the first draw of each chain, so that `modes_from_record` can build the group
    from the draws alone.

    Parameters
    ----------
    fit : Fit
    extra : mapping of str, optional
        Further attributes of the group.
    units : xarray.Dataset, optional
        What the group holds of the units, if there are any; by default as the fit alone says it.

    Returns
    -------
    str
        JSON.
    """
    units = units_from_fit(fit) if units is None else units
    record = {
        "columns": json_ready(_columns(fit)),
        _INTERVAL: fit.weights.interval.tolist(),
        "attributes": {**_attributes(fit), **(extra or {})},
    }
    if units is not None:
        record[_UNITS] = units.to_dict()
    # Coordinates of the model may be dates.
    return json.dumps(record, default=str)


def modes_from_fit(fit: Fit, locations: xr.Dataset, units: xr.Dataset | None = None) -> xr.Dataset:
    """Build the group from a fit.

    Parameters
    ----------
    fit : Fit
    locations : xarray.Dataset
        The model's variables at each mode, with the dimension `mode`.
    units : xarray.Dataset, optional
        What the group holds of the units, if there are any; by default as the fit alone says it.
    """
    units = units_from_fit(fit) if units is None else units
    return _group(_columns(fit), fit.weights.interval, _attributes(fit), locations, units)


def modes_from_draws(fit: Fit, idata: Any) -> xr.Dataset | None:
    """Build the group from a fit and draws of it, without the model.

    Parameters
    ----------
    fit : Fit
    idata : InferenceData or DataTree

    Returns
    -------
    xarray.Dataset or None
        Locations are as in `modes_from_record`, and what `relabel` needs is that of the record, if
        there is one. None if the draws do not say to which modes they belong.
    """
    if not {"posterior", "sample_stats"} <= set(group_names(idata)):
        return None
    stats = _plain_stats(idata)
    if not {"lp", "mode"} <= set(stats.data_vars):
        return None
    modes = modes_from_fit(fit, _highest_draws(get_dataset(idata, "posterior"), stats, fit.n_modes))
    modes.attrs["locations_from"] = "the draws of highest density"
    recorded = modes_from_record(idata)
    modes.attrs.update(
        {
            name: recorded.attrs[name]
            for name in ("symmetry", "reference")
            if recorded is not None and name in recorded.attrs
        }
    )
    return modes


def modes_from_record(idata: Any) -> xr.Dataset | None:
    """Rebuild the group from the sample stats of draws.

    Parameters
    ----------
    idata : InferenceData or DataTree

    Returns
    -------
    xarray.Dataset or None
        The location of a mode is its draw of highest density, NaN where no draw visited it. None
        if the sample stats hold no record of a fit.
    """
    if "sample_stats" not in group_names(idata):
        return None
    stats = _plain_stats(idata)
    if RECORD not in stats:
        return None
    texts = [text for text in stats[RECORD].values.ravel() if text]
    if not texts:
        return None
    record = json.loads(texts[0])
    columns = {name: np.asarray(values) for name, values in record["columns"].items()}
    posterior = get_dataset(idata, "posterior")
    locations = _highest_draws(posterior, stats, len(columns["weight"]))
    units = None
    if _UNITS in record:
        units = labelled(xr.Dataset.from_dict(record[_UNITS]), posterior)
    attributes = {
        **record["attributes"],
        "rebuilt_from": "sample_stats; locations are the draws of highest density",
    }
    return _group(columns, np.asarray(record[_INTERVAL]), attributes, locations, units)


def drop_record(idata: Any) -> None:
    """Take the record of the fit out of the sample stats, in place."""
    for group in ("sample_stats", "warmup_sample_stats"):
        if group in group_names(idata) and RECORD in (stats := get_dataset(idata, group)):
            kept = stats.drop_vars(RECORD)
            add_group(idata, group, kept.drop_dims(set(stats.dims) - {"chain", "draw"}))


def _plain_stats(idata: Any) -> xr.Dataset:
    """Return the sample stats without the numbers that PyMC's Zarr trace gives to step methods."""
    stats = get_dataset(idata, "sample_stats")
    return stats.rename({n: str(n).removeprefix(ZARR_PREFIX) for n in stats.variables})


def _highest_draws(posterior: xr.Dataset, stats: xr.Dataset, n_modes: int) -> xr.Dataset:
    """Take the draw of highest density in each mode; NaN where a mode has no draw."""
    lp, mode = np.ravel(stats["lp"].values), np.ravel(stats["mode"].values)
    best = np.full(n_modes, -1)
    for k in range(n_modes):
        own = np.flatnonzero(mode == k)
        if len(own):
            best[k] = own[np.argmax(lp[own])]
    posterior = rename_clashes(posterior, {"mode", "sample"}).stack(sample=("chain", "draw"))
    locations = posterior.isel(sample=("mode", np.maximum(best, 0)))
    locations = locations.reset_coords(drop=True).drop_vars(
        [c for c in ("chain", "draw", "sample") if c in locations.coords], errors="ignore"
    )
    visited = xr.DataArray(best >= 0, dims="mode")
    return locations.where(visited).transpose("mode", ...)


def rename_clashes(dataset: xr.Dataset, taken: set[str], variables: bool = True) -> xr.Dataset:
    """Rename dimensions, coordinates and variables of the model that have a name of this package.

    Parameters
    ----------
    dataset : xarray.Dataset
    taken : set of str
        Names that are needed; ``_of_model`` is added to them.
    variables : bool
        Whether variables are renamed too.
    """
    names = {str(n) for n in [*dataset.dims, *dataset.coords]}
    names |= {str(n) for n in dataset.data_vars} if variables else set()
    return dataset.rename({n: f"{n}_of_model" for n in names & taken})


def _columns(fit: Fit) -> dict[str, np.ndarray]:
    w = fit.weights
    return {
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


def _group(
    columns: Mapping[str, np.ndarray],
    interval: np.ndarray,
    attributes: Mapping[str, Any],
    locations: xr.Dataset,
    units: xr.Dataset | None = None,
) -> xr.Dataset:
    dataset = xr.Dataset({name: ("mode", values) for name, values in columns.items()})
    if units is not None:
        dataset, locations = dataset.merge(units), beside(units, locations)
    locations = rename_clashes(locations, {*columns, _BOUND, _INTERVAL}, variables=False)
    # The location of a variable that is called like a column, such as "weight".
    taken = {n: f"{n}_location" for n in locations.data_vars if n in dataset}
    dataset = dataset.merge(locations.rename(taken), compat="override")
    dataset = dataset.assign_coords(mode=np.arange(len(columns["weight"])))
    dataset[_INTERVAL] = (("mode", _BOUND), interval)
    dataset = dataset.assign_coords({_BOUND: ["lower", "upper"]})
    dataset.attrs = {
        **group_attributes(DESCRIPTION),
        **attributes,
        **(units.attrs if units is not None else {}),
    }
    return dataset


def _attributes(fit: Fit) -> dict[str, Any]:
    """Return scalars of the whole fit; settings and statuses as JSON."""
    w, challenge = fit.weights, fit.challenge
    nan = float("nan")
    return {
        "missed_mass": float("nan"),
        "missed_mass_reason": NO_MISSED_MASS,
        "missed_by_fit": nan if challenge is None else challenge.missed_by_fit,
        "log_evidence": w.total,
        "log_evidence_se": w.total_se,
        "seen_basin_mass": fit.modes.seen_basin_mass,
        "unseen_start_mass_upper": fit.modes.unseen_start_mass_upper,
        "weight_in_singletons": float(np.sum(w.weight[fit.modes.singletons])),
        "n_logp_evals": int(fit.n_logp_evals),
        "n_screened": fit.n_screened,
        "n_grad_evals": int(fit.n_grad_evals),
        "n_starts": int(fit.modes.n_starts),
        "n_climbs": 0 if challenge is None else challenge.n_climbs,
        "jumps_per_draw": int(fit.kernel.jumps),
        "random_seed": str(fit.config.random_seed),
        "config": json.dumps(json_ready(_as_dict(fit.config))),
        "statuses": json.dumps([asdict(s) for s in fit.statuses]),
        "seconds": json.dumps({k: round(v, 3) for k, v in fit.seconds.items()}),
    }


def _as_dict(config: Any) -> Any:
    """Turn nested settings into dictionaries that name their class."""
    if is_dataclass(config):
        own = {f.name: _as_dict(getattr(config, f.name)) for f in fields(config)}
        return {"class": type(config).__name__, **own}
    return config
