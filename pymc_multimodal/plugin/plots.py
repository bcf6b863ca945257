"""Pictures of the modes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from pymc_multimodal._compat import get_dataset
from pymc_multimodal.fit import Fit
from pymc_multimodal.plugin.arguments import check_var_names
from pymc_multimodal.plugin.tables import modes_given
from pymc_multimodal.plugin.unit_plot import plot_units
from pymc_multimodal.plugin.units_group import has_units

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_modes", "two_columns"]


# Modes in the picture: colour maps of Matplotlib have ten or twenty distinct colours.
MAX_SHOWN, MAX_FEW_COLOURS = 20, 10
# Height of the picture of modes and of that of units, in inches. Conventional.
HEIGHT, HEIGHT_OF_UNITS = 4.2, 6.0
# Half width of a 95 % interval in standard errors of a normal distribution.
NORMAL_95 = 1.96
_INTERVAL = "weight_interval"
# Bins of the histogram of a single variable. Conventional.
N_BINS = 60
# Local draws of a fit in the picture, and draws by which coordinates are chosen. Conventional.
N_FROM_FIT = N_JUDGED = 2000


def plot_modes(idata: Any, var_names: Sequence[str] | None = None) -> Figure:
    """Plot the weights of the modes with their errors, beside the draws coloured by mode.

    The twenty heaviest modes are shown, and their draws. Of a posterior that falls apart into
    units, the weights of the explanations of each unit are shown, and where the explanations are;
    beside these, if there are several, the regions of the hubs as modes.

    Parameters
    ----------
    idata : InferenceData, DataTree or Fit
        Draws with the group `modes`; or a fit, whose local draws are shown in unconstrained
        coordinates, in proportion to the weights.
    var_names : sequence of str, optional
        Variables that span the scatter plot; by default all. Of their elements those two are shown
        that separate the modes best. With a single element the draws are shown as histograms.
        Of units, the element is shown that separates the explanations best.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError
        If `idata` is neither draws nor a fit, or `var_names` is no list of names.
    ValueError
        If there is no group `modes`, or a variable is not in the posterior.
    """
    import matplotlib.pyplot as plt

    modes = modes_given("plot_modes", idata)
    elements, mode, drawn = _draws_of_fit(idata) if isinstance(idata, Fit) else _draws_of(idata)
    check_var_names("plot_modes", var_names, elements, "the posterior")
    names = list(elements) if var_names is None else var_names
    shown = min(len(modes["mode"]), MAX_SHOWN)
    columns = two_columns({k: v for n in names for k, v in elements[n].items()}, mode)
    colours = plt.get_cmap("tab10" if shown <= MAX_FEW_COLOURS else "tab20")(np.arange(shown))
    units, several = has_units(modes), len(modes["mode"]) > 1
    height = (HEIGHT if several or not units else 0.0) + (HEIGHT_OF_UNITS if units else 0.0)
    figure = plt.figure(figsize=(10, height), layout="constrained")
    upper: Any = figure
    lower: Any = figure
    if units and several:
        upper, lower = figure.subfigures(2, 1, height_ratios=(HEIGHT, HEIGHT_OF_UNITS))  # type: ignore[misc]
    if units:
        plot_units(lower.subplots(2, 1), modes, var_names)
    if several or not units:
        left, right = upper.subplots(1, 2, width_ratios=(1, 1.4))
        _plot_weights(left, modes, mode if drawn else None, colours)
        _plot_draws(right, columns, mode, colours)
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _plot_weights(
    axis: Axes, modes: xr.Dataset, mode: np.ndarray | None, colours: np.ndarray
) -> None:
    """Draw a bar with an error for each weight, and a tick at the share of the draws, if any."""
    shown = len(colours)
    weight = modes["weight"].values[:shown]
    error = modes["weight_se"].values[:shown]
    reach = NORMAL_95 * np.stack([error, error])
    if _INTERVAL in modes:
        # An error that is not known has an interval nevertheless.
        bounds = np.abs(modes[_INTERVAL].values[:shown].T - weight)
        reach = np.where(np.isfinite(reach), reach, bounds)
    reach = np.where(np.isfinite(reach), reach, 0.0)
    place = np.arange(shown)
    axis.barh(place, weight, xerr=reach, color=colours, height=0.7, capsize=3)
    label = "weight (bar ± 95 %)"
    if mode is not None:
        share = [np.mean(mode == k) for k in range(shown)]
        axis.plot(share, place, "k|", markersize=12, markeredgewidth=1.5)
        label += ", share of draws (tick)"
    # A row that stands for its images too says how many modes it is.
    images = modes["images"].values[:shown]
    axis.set_yticks(place, [f"{k} ({n} images)" if n > 1 else f"{k}" for k, n in enumerate(images)])
    axis.invert_yaxis()
    axis.set(xlabel=label, ylabel="mode")


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


def _draws_of(idata: Any) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray, bool]:
    """Return the elements of each variable by label, the mode of each draw, and True."""
    posterior = get_dataset(idata, "posterior")
    elements: dict[str, dict[str, np.ndarray]] = {}
    for name, values in ((str(n), v.values) for n, v in posterior.data_vars.items()):
        flat = values.reshape(values.shape[0] * values.shape[1], -1)
        several = flat.shape[1] > 1
        elements[name] = {f"{name}[{i}]" if several else name: c for i, c in enumerate(flat.T)}
    return elements, get_dataset(idata, "sample_stats")["mode"].values.ravel(), True


def _draws_of_fit(fit: Fit) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray, bool]:
    """Return the same for local draws, by coordinate, and False: their shares are the weights."""
    rng = np.random.default_rng(fit.config.random_seed)
    x = fit.starts(N_FROM_FIT, rng)
    if fit.orbits is not None:
        x = fit.orbits.cells.scatter(x, rng)
    elements: dict[str, dict[str, np.ndarray]] = {}
    for name, column in zip(fit.names, x.T, strict=True):
        elements.setdefault(name.partition("[")[0], {})[name] = column
    return elements, fit.label(x), False


def two_columns(columns: dict[str, np.ndarray], mode: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Choose the two columns, in their order, that separate the modes best.

    The first has the largest share of its variance between the modes. The second has the largest
    one after a linear regression on the first, so that it is no copy of it.

    Parameters
    ----------
    columns : dict of arrays of shape (n,)
        Draws of each element, by label.
    mode : array of int, shape (n,)
    """
    labels = list(columns)
    if len(labels) <= 2:
        return list(columns.items())
    step = max(1, len(mode) // N_JUDGED)
    z = np.stack([columns[n][::step] for n in labels], axis=1).astype(float)
    z = (z - z.mean(axis=0)) / np.maximum(z.std(axis=0), np.finfo(float).tiny)
    member = mode[::step, None] == np.unique(mode[::step])
    average = member / member.sum(axis=0)

    def between(z: np.ndarray) -> np.ndarray:
        return member.mean(axis=0) @ (average.T @ z) ** 2

    first = int(np.argmax(np.round(between(z), 2)))
    rest = z - np.outer(z[:, first], z[:, first] @ z / len(z))
    gain = np.round(between(rest), 2)
    gain[first] = -1.0
    chosen = sorted((first, int(np.argmax(gain))))
    return [(labels[i], columns[labels[i]]) for i in chosen]
