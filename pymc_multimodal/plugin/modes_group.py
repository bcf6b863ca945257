"""The group `modes`: one entry for each mode, from a fit or from the draws themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

import numpy as np
import xarray as xr

from pymc_multimodal._compat import get_dataset, group_names, json_ready
from pymc_multimodal.fit import Fit
from pymc_multimodal.status import worst

__all__ = [
    "mode_statistics",
    "modes_from_fit",
    "modes_from_stats",
    "modes_group",
    "rename_clashes",
    "total_error",
]

# What the group holds beside the columns and the locations of the model's variables.
_INTERVAL, _BOUND = "weight_interval", "bound"
# Why the attribute `missed_mass` is NaN.
NO_MISSED_MASS = (
    "No estimate of the missed posterior mass was found to be calibrated: the search for modes "
    "and the challenge miss the same narrow modes. seen_basin_mass and unseen_start_mass_upper "
    "say what was searched."
)


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


def mode_statistics(fit: Fit) -> dict[str, np.ndarray]:
    """Return vectors over the modes, shape (K,), which are stored with every draw."""
    w = fit.weights
    return {
        "mode_weight": w.weight,
        "mode_weight_se": w.weight_se,
        "mode_log_evidence": w.log_evidence,
        "mode_log_evidence_se": w.log_evidence_se,
    }


def modes_from_fit(fit: Fit, locations: xr.Dataset) -> xr.Dataset:
    """Build the group from a fit.

    Parameters
    ----------
    fit : Fit
    locations : xarray.Dataset
        The model's variables at each mode, with the dimension `mode`.
    """
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
    dataset = _with_locations(columns, locations)
    dataset[_INTERVAL] = (("mode", _BOUND), w.interval)
    dataset = dataset.assign_coords({_BOUND: ["lower", "upper"]})
    dataset.attrs = _attributes(fit)
    return dataset


def modes_from_stats(idata: Any) -> xr.Dataset:
    """Rebuild the group from the sample stats of draws.

    Parameters
    ----------
    idata : InferenceData or DataTree

    Returns
    -------
    xarray.Dataset
        The location of a mode is its draw of highest density, NaN where no draw visited it.

    Raises
    ------
    ValueError
        If the sample stats hold no weights of modes.
    """
    if "sample_stats" not in group_names(idata) or "mode_weight" not in get_dataset(
        idata, "sample_stats"
    ):
        raise ValueError(
            "These draws carry no mode weights in sample_stats: they were not made by "
            "MultimodalDiffusion, or the stats were dropped. Pass the fit: attach(idata, fit)."
        )
    stats = get_dataset(idata, "sample_stats")
    columns = {
        name: np.asarray(stats[f"mode_{name}"].values[0, 0], dtype=float)
        for name in ("weight", "weight_se", "log_evidence", "log_evidence_se")
    }
    locations = _highest_draws(get_dataset(idata, "posterior"), stats, len(columns["weight"]))
    dataset = _with_locations(columns, locations)
    dataset.attrs = {
        "log_evidence": float(np.logaddexp.reduce(columns["log_evidence"])),
        "log_evidence_se": total_error(**columns),
        "rebuilt_from": "sample_stats; locations are the draws of highest density",
    }
    return dataset


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


def total_error(
    weight: np.ndarray, weight_se: np.ndarray, log_evidence: np.ndarray, log_evidence_se: np.ndarray
) -> float:
    r"""Compute the standard error of the model's log evidence from the columns of the modes.

    Modes that are images of one another have equal numbers and one common error. With the share
    :math:`w_j` and the error :math:`s_j` of the log evidence of orbit j, the error of the sum of
    independent evidences is :math:`\sqrt{\sum_j (w_j s_j)^2}` to first order.

    Parameters
    ----------
    weight, weight_se, log_evidence, log_evidence_se : arrays of shape (K,)

    Returns
    -------
    float
        NaN or infinite where an error is.
    """
    rows = np.stack([weight, weight_se, log_evidence, log_evidence_se], axis=1)
    if not np.isfinite(log_evidence_se).all():
        return float(np.sum(log_evidence_se))
    orbit = np.unique(rows, axis=0, return_inverse=True)[1].ravel()
    return float(np.sqrt(np.sum(np.bincount(orbit, weight * log_evidence_se) ** 2)))


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


def _with_locations(columns: Mapping[str, np.ndarray], locations: xr.Dataset) -> xr.Dataset:
    dataset = xr.Dataset({name: ("mode", values) for name, values in columns.items()})
    locations = rename_clashes(locations, {*columns, _BOUND, _INTERVAL}, variables=False)
    # The location of a variable that is called like a column, such as "weight".
    taken = {n: f"{n}_location" for n in locations.data_vars if n in dataset}
    dataset = dataset.merge(locations.rename(taken), compat="override")
    return dataset.assign_coords(mode=np.arange(len(next(iter(columns.values())))))


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
