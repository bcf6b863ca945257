"""Pictures of the modes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from pymc_multimodal._compat import get_dataset
from pymc_multimodal.plugin.modes_group import modes_group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_modes"]


# Modes in the picture: colour maps of Matplotlib have ten or twenty distinct colours.
MAX_SHOWN, MAX_FEW_COLOURS = 20, 10
# Half width of a 95 % interval in standard errors of a normal distribution.
NORMAL_95 = 1.96
_INTERVAL = "weight_interval"
# Bins of the histogram of a single variable. Conventional.
N_BINS = 60


def plot_modes(idata: Any, var_names: Sequence[str] | None = None) -> Figure:
    """Plot the weights of the modes with their errors, beside the draws coloured by mode.

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

    modes = modes_group(idata)
    columns = _columns(get_dataset(idata, "posterior"), var_names)
    mode = get_dataset(idata, "sample_stats")["mode"].values.ravel()
    shown = min(len(modes["mode"]), MAX_SHOWN)
    colours = plt.get_cmap("tab10" if shown <= MAX_FEW_COLOURS else "tab20")(np.arange(shown))
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 4.2), width_ratios=(1, 1.4), layout="constrained"
    )
    _plot_weights(left, modes, mode, colours)
    _plot_draws(right, columns, mode, colours)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _plot_weights(axis: Axes, modes: xr.Dataset, mode: np.ndarray, colours: np.ndarray) -> None:
    """Draw a bar with an error for each weight, and a tick at the share of the draws."""
    shown = len(colours)
    weight = modes["weight"].values[:shown]
    error = modes["weight_se"].values[:shown]
    reach = NORMAL_95 * np.stack([error, error])
    if _INTERVAL in modes:
        # An error that is not known has an interval nevertheless.
        bounds = np.abs(modes[_INTERVAL].values[:shown].T - weight)
        reach = np.where(np.isfinite(reach), reach, bounds)
    reach = np.where(np.isfinite(reach), reach, 0.0)
    share = np.array([np.mean(mode == k) for k in range(shown)])
    place = np.arange(shown)
    axis.barh(place, weight, xerr=reach, color=colours, height=0.7, capsize=3)
    axis.plot(share, place, "k|", markersize=12, markeredgewidth=1.5)
    axis.set_yticks(place, [str(k) for k in place])
    axis.invert_yaxis()
    axis.set(xlabel="weight (bar ± 95 %), share of draws (tick)", ylabel="mode")


def _plot_draws(
    axis: Axes, columns: list[tuple[str, np.ndarray]], mode: np.ndarray, colours: np.ndarray
) -> None:
    """Draw one column as stacked histograms, or two as a scatter plot."""
    if len(columns) == 1:
        [(label, values)] = columns
        edges = np.histogram_bin_edges(values, N_BINS)
        stacks = [values[mode == k] for k in range(len(colours))]
        axis.hist(stacks, edges.tolist(), stacked=True, color=[tuple(c) for c in colours])
        axis.set(xlabel=label, ylabel="draws")
        return
    (label, a), (other, b) = columns[:2]
    for k, colour in enumerate(colours):
        own = mode == k
        axis.plot(a[own], b[own], ".", ms=3, alpha=0.5, color=colour)
    axis.set(xlabel=label, ylabel=other)


def _columns(
    posterior: xr.Dataset, var_names: Sequence[str] | None
) -> list[tuple[str, np.ndarray]]:
    """Return labels and values, over all draws, of the first two elements of the variables."""
    names = [str(n) for n in (posterior.data_vars if var_names is None else var_names)]
    if missing := [n for n in names if n not in posterior]:
        raise ValueError(
            f"var_names holds {missing}, which the posterior does not have; it has "
            f"{list(posterior.data_vars)}."
        )
    columns: list[tuple[str, np.ndarray]] = []
    for name in names:
        values = posterior[name].values
        flat = values.reshape(values.shape[0] * values.shape[1], -1)
        for i in range(flat.shape[1]):
            columns.append((f"{name}[{i}]" if flat.shape[1] > 1 else name, flat[:, i]))
            if len(columns) == 2:
                return columns
    return columns
