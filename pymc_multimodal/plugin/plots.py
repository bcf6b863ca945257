"""Pictures of the modes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pymc_multimodal._compat import get_dataset, group_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

__all__ = ["plot_modes"]


def plot_modes(idata: Any, var_names: Sequence[str] | None = None) -> Figure:
    """Weights of the modes with their errors, beside the draws coloured by mode.

    The twenty heaviest modes are shown, and their draws.

    Parameters
    ----------
    idata : InferenceData or DataTree
        With the group `modes`.
    var_names : sequence of str, optional
        Variables whose first two elements span the scatter plot; by default the first ones
        of the posterior. With a single element the draws are shown as histograms.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no group `modes`, or a variable is not in the posterior.
    """
    import matplotlib.pyplot as plt

    if "modes" not in group_names(idata):
        raise ValueError("There is no group 'modes' yet: call attach(idata) or attach(idata, fit).")
    modes, posterior = get_dataset(idata, "modes"), get_dataset(idata, "posterior")
    mode = get_dataset(idata, "sample_stats")["mode"].values.ravel()
    columns = _columns(posterior, var_names)
    shown = min(len(modes["mode"]), 20)
    colours = plt.get_cmap("tab10" if shown <= 10 else "tab20")(np.arange(shown) % 20)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 4.2), width_ratios=(1, 1.4), layout="constrained"
    )
    weight = modes["weight"].values[:shown]
    error = modes["weight_se"].values[:shown]
    error = 1.96 * np.where(np.isfinite(error), error, 0.0)
    frequency = np.array([np.mean(mode == k) for k in range(shown)])
    place = np.arange(shown)
    left.barh(place, weight, xerr=error, color=colours, height=0.7, capsize=3)
    left.plot(frequency, place, "k|", markersize=12, markeredgewidth=1.5)
    left.set_yticks(place, [str(k) for k in place])
    left.invert_yaxis()
    left.set(xlabel="weight (bar ± 95 %), share of draws (tick)", ylabel="mode")
    if len(columns) == 1:
        [(label, values)] = columns
        edges = np.histogram_bin_edges(values, 60)
        stacks = [values[mode == k] for k in range(shown)]
        right.hist(stacks, edges, stacked=True, color=colours)
        right.set(xlabel=label, ylabel="draws")
    else:
        (label, a), (other, b) = columns[:2]
        for k in range(shown):
            own = mode == k
            right.plot(a[own], b[own], ".", ms=3, alpha=0.5, color=colours[k])
        right.set(xlabel=label, ylabel=other)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _columns(posterior: Any, var_names: Sequence[str] | None) -> list[tuple[str, np.ndarray]]:
    names = list(var_names) if var_names is not None else list(posterior.data_vars)
    if missing := [n for n in names if n not in posterior]:
        raise ValueError(f"var_names holds {missing}, which the posterior does not have.")
    columns: list[tuple[str, np.ndarray]] = []
    for name in names:
        values = posterior[name].values
        flat = values.reshape(values.shape[0] * values.shape[1], -1)
        for i in range(flat.shape[1]):
            columns.append((f"{name}[{i}]" if flat.shape[1] > 1 else name, flat[:, i]))
            if len(columns) == 2:
                return columns
    return columns
