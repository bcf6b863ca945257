"""The table of modes, and a fit in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pymc_multimodal.fit import Fit
from pymc_multimodal.plugin.modes_group import modes_group

__all__ = ["mode_table", "summary_line"]

# Columns of the table, in order; then come the locations.
_COLUMNS = (
    "weight",
    "weight_se",
    "status",
    "log_evidence",
    "log_evidence_se",
    "images",
    "hits",
    "ess",
    "r_hat",
    "pareto_k",
)
# Variables of the group `modes` that are neither in the table nor locations.
_LEFT_OUT = ("acceptance", "crossings", "weight_interval")
# Weights in the line of text. Conventional.
MAX_WEIGHTS_IN_LINE = 5


def mode_table(idata: Any, *, max_elements: int = 6) -> pd.DataFrame:
    """Return one row per mode: its weight, evidence, diagnostics and location.

    Parameters
    ----------
    idata : InferenceData or DataTree
        With the group `modes`, which ``sample`` writes and ``attach`` adds.
    max_elements : int
        Variables with more elements have no location columns.

    Returns
    -------
    pandas.DataFrame
        Indexed by mode, heaviest first.

    Raises
    ------
    ValueError
        If there is no group `modes`.
    """
    modes = modes_group(idata)
    table = pd.DataFrame(index=pd.Index(modes["mode"].values, name="mode"))
    for name in _COLUMNS:
        # Without a fit, a variable of the model may have the name of a column.
        if name not in modes or modes[name].dims != ("mode",):
            continue
        # The number of images says nothing where each mode stands for itself.
        if name != "images" or (modes[name] != 1).any():
            table[name] = modes[name].values
    for name in (str(n) for n in modes.data_vars if n not in {*_COLUMNS, *_LEFT_OUT}):
        values = modes[name].transpose("mode", ...)
        if values[0].size <= max_elements:
            for label, column in _elements(name, values):
                table[label] = column
    return table


def _elements(name: str, values: xr.DataArray) -> list[tuple[str, np.ndarray]]:
    """Return a label, with coordinates, and the values over the modes of each element."""
    found = []
    for index in np.ndindex(*values.shape[1:]):
        coords = [
            str(values.coords[dim].values[i]) if dim in values.coords else str(i)
            for dim, i in zip(values.dims[1:], index, strict=True)
        ]
        label = f"{name}[{', '.join(coords)}]" if coords else name
        found.append((label, values.values[(slice(None), *index)]))
    return found


def summary_line(fit: Fit) -> str:
    """Return one line of text: modes, weights, log evidence, what was searched, and the cost."""
    w, challenge = fit.weights, fit.challenge
    modes = "one mode" if fit.n_modes == 1 else f"{fit.n_modes} modes"
    weights = ""
    if fit.n_modes > 1:
        pairs = list(zip(w.weight, w.weight_se, strict=True))
        shown = ", ".join(f"{x:.3f}±{s:.3f}" for x, s in pairs[:MAX_WEIGHTS_IN_LINE])
        weights = f", weights {shown}" + (", ..." if len(pairs) > MAX_WEIGHTS_IN_LINE else "")
    climbs = searched = ""
    if challenge is not None and challenge.n_climbs:
        climbs = f" and {challenge.n_climbs} further climbs"
    if (seen := fit.modes.seen_basin_mass) < 1.0:
        searched = f"modes whose basins hold less than {seen:.2g} of the prior may be missing; "
    return (
        f"Found {modes} from {fit.modes.n_starts} starts{climbs}{weights}; log evidence "
        f"{w.total:.3f}±{w.total_se:.3f}; {searched}{fit.n_logp_evals} density evaluations, "
        f"{sum(fit.seconds.values()):.1f} s."
    )
