"""Tables and warnings for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pymc_multimodal._compat import get_dataset, group_names

if TYPE_CHECKING:
    from pymc_multimodal.fit import Fit

__all__ = ["mode_table", "summary_line"]

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


def mode_table(idata: Any, *, max_elements: int = 6) -> pd.DataFrame:
    """Return one row per mode: its weight, evidence, diagnostics and location.

    Parameters
    ----------
    idata : InferenceData or DataTree
        With the group `modes`, which ``sample`` writes and ``attach`` adds.
    max_elements : int
        Variables with more elements than this are left out of the location columns.

    Returns
    -------
    pandas.DataFrame
        Indexed by mode, heaviest first.

    Raises
    ------
    ValueError
        If there is no group `modes`.
    """
    if "modes" not in group_names(idata):
        raise ValueError("There is no group 'modes' yet: call attach(idata) or attach(idata, fit).")
    modes = get_dataset(idata, "modes")
    table = pd.DataFrame(index=pd.Index(modes["mode"].values, name="mode"))
    for name in _COLUMNS:
        single = name == "images" and (modes.get(name, np.ones(1)) == 1).all()
        if name in modes and modes[name].dims == ("mode",) and not single:
            table[name] = modes[name].values
    skip = {*_COLUMNS, "acceptance", "crossings", "weight_interval"}
    for name in (str(n) for n in modes.data_vars if n not in skip):
        values = modes[name].transpose("mode", ...)
        shape = values.shape[1:]
        if int(np.prod(shape)) > max_elements:
            continue
        for index in np.ndindex(*shape):
            coords = [
                str(values.coords[dim].values[i]) if dim in values.coords else str(i)
                for dim, i in zip(values.dims[1:], index, strict=True)
            ]
            label = f"{name}[{', '.join(coords)}]" if coords else name
            table[label] = values.values[(slice(None), *index)]
    return table


def summary_line(fit: Fit) -> str:
    """Say in one line what a fit found."""
    w = fit.weights
    one = "one mode" if fit.n_modes == 1 else f"{fit.n_modes} modes"
    shown = ", ".join(
        f"{x:.3f}±{s:.3f}" for x, s in zip(w.weight[:5], w.weight_se[:5], strict=True)
    )
    more = ", ..." if fit.n_modes > 5 else ""
    weights = "" if fit.n_modes == 1 else f", weights {shown}{more}"
    missed = fit.challenge.missed_mass if fit.challenge is not None else float("nan")
    challenge = f"missed mass about {missed:.1g}; " if missed == missed else ""
    climbs = fit.challenge.n_climbs if fit.challenge is not None else 0
    further = f" and {climbs} further climbs" if climbs else ""
    return (
        f"Found {one} from {fit.modes.n_starts} starts{further}{weights}; log evidence "
        f"{w.total:.3f}±{w.total_se:.3f}; {challenge}{fit.n_logp_evals} density evaluations, "
        f"{sum(fit.seconds.values()):.1f} s."
    )
