"""Draws with the group `modes`, made from arrays: what pictures are drawn from, without a fit."""

from __future__ import annotations

import numpy as np
import xarray as xr


def tree(variables, mode, weight, *, dims=None, weight_se=None, coords=None, **stats):
    """Return draws of given variables.

    Parameters
    ----------
    variables : dict of arrays of shape (chains, draws, ...)
    mode : array of int, shape (chains, draws)
    weight : array of shape (K,)
    dims : dict of lists, optional
        Dimensions of the variables beyond chain and draw.
    weight_se : array of shape (K,), optional
    coords : dict, optional
    **stats
        Further sample stats.
    """
    weight = np.asarray(weight, dtype=float)
    k = len(weight)
    posterior = xr.Dataset(
        {
            name: (
                ("chain", "draw", *(dims or {}).get(name, _dims(name, values))),
                values,
            )
            for name, values in variables.items()
        },
        coords,
    )
    mode = np.asarray(mode)
    located = {}
    for name, values in variables.items():
        flat = values.reshape(-1, *values.shape[2:])
        nowhere = np.full(values.shape[2:], np.nan)
        own = [mode.ravel() == j for j in range(k)]
        located[name] = (
            ("mode", *posterior[name].dims[2:]),
            np.stack([flat[o].mean(axis=0) if o.any() else nowhere for o in own]),
        )
    se = 0.01 * weight if weight_se is None else np.asarray(weight_se)
    modes = xr.Dataset(
        {"weight": ("mode", weight), "weight_se": ("mode", se), **located},
        {"mode": np.arange(k), **(coords or {})},
    )
    modes["images"] = ("mode", np.ones(k, dtype=int))
    sample_stats = xr.Dataset(
        {name: (("chain", "draw"), np.asarray(v)) for name, v in {"mode": mode, **stats}.items()}
    )
    return xr.DataTree.from_dict(
        {"posterior": posterior, "sample_stats": sample_stats, "modes": modes}
    )


def _dims(name, values):
    return [f"{name}_dim_{i}" for i in range(values.ndim - 2)]


def clusters(centres, weight, rng, *, chains=2, draws=400, sd=0.3):
    """Return draws of normals at given centres, shape (K, d), by their weights, and modes."""
    centres, weight = np.asarray(centres, dtype=float), np.asarray(weight, dtype=float)
    mode = rng.choice(len(weight), size=(chains, draws), p=weight / weight.sum())
    x = centres[mode] + sd * rng.standard_normal((chains, draws, centres.shape[1]))
    log_ratio = 0.1 * rng.standard_normal((chains, draws))
    return tree({"x": x}, mode, weight / weight.sum(), log_ratio=log_ratio)
