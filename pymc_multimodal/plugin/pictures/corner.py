"""Draws in pairs of elements, coloured by mode."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pymc_multimodal import checks
from pymc_multimodal.plugin.pictures.canvas import (
    OTHERS,
    Request,
    colour_of,
    coloured,
    number_modes,
    others_name,
    tidy,
    view_of,
)
from pymc_multimodal.plugin.pictures.directions import separating, what_separates
from pymc_multimodal.plugin.pictures.elements import shown
from pymc_multimodal.plugin.pictures.weights import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pymc_multimodal.plugin.pictures.elements import Element, Shown

__all__ = ["LEAST", "draw_elements", "draw_histogram", "draw_scatter", "mode_keys", "plot_corner"]

# Elements that are shown at least, if there are as many. Conventional: a scatter plot needs two.
LEAST = 2
# Draws in a panel. Conventional: more hide one another.
MAX_POINTS = 4000
# Bins of a histogram, and whole numbers that have a bin each. Conventional.
N_BINS = 60
# Bins on either side of a mode above which its number is written. Measured by eye.
NEAR_BINS = 2
# Width of a panel, and of what is around the panels, in inches. Conventional.
PANEL, FRAME = 2.1, 0.7
# Width of a picture of one element or of two, and height of that of one, in inches. Conventional.
SMALL, LOW = 5.2, 3.6
# Ticks of an axis, at most. Conventional.
N_TICKS = 4
# Part of a panel above its highest bar, where the numbers of the modes are. Conventional.
HEADROOM = 0.14


def plot_corner(
    idata: Any,
    var_names: Sequence[str] | str | None = None,
    *,
    coords: Mapping[str, Any] | None = None,
    max_elements: int = 4,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
    backend: str | None = None,
) -> Figure:
    """Plot draws in pairs of elements, coloured and numbered by mode.

    Of many elements those are shown that separate the modes best, each given the others. The
    seven heaviest modes have colours, all others are grey. The diagonal has the histograms. Where
    some draws are far away, the axes show the central 99.8 %.

    Parameters
    ----------
    idata : InferenceData, DataTree or Fit
        Draws with the group `modes`; or a fit, whose local draws are shown in unconstrained
        coordinates, in proportion to the weights.
    var_names : str or sequence of str, optional
        Variables from which elements are chosen; with ``~`` before each, all others.
    coords : mapping, optional
        Coordinates to keep, by dimension. Those of a fit are ``name_dim_0`` and so on.
    max_elements : int
        Elements to show, at most.
    ax : array of Axes, optional
        A square array, with as many rows as elements are shown; or one Axes, for one element, or
        for the scatter plot of two. By default axes of a new figure.
    figsize : tuple of two floats, optional
        Width and height of a new figure in inches.
    backend : {"matplotlib"}, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError
        If `idata` is neither draws nor a fit, or another argument has the wrong type.
    ValueError
        If there is no group `modes`, no such variable or coordinate, or another number of axes is
        needed.

    Examples
    --------
    >>> mm.plot_corner(idata, ["theta"], coords={"school": ["Choate"]})  # doctest: +SKIP
    """
    owner = "plot_corner"
    request = Request(owner, ax, figsize, backend)
    checks.count(owner, "max_elements", max_elements)
    given = shown(owner, idata, var_names, coords)
    # Given axes say how many elements there is room for.
    n_given = 0 if ax is None else np.size(np.asarray(ax, dtype=object))
    room = max(LEAST, math.isqrt(n_given)) if n_given else max_elements
    elements = separating(given.elements, given.mode, given.n_modes, LEAST, min(room, max_elements))
    n, single = len(elements), n_given == 1
    if n == 1 or (single and n == 2):
        size = (SMALL, LOW if n == 1 else SMALL)
        figure, [axis] = request.axes(1, size, lambda f: f.subplots())
        draw_elements(axis, elements, given)
        tidy([axis])
        return figure
    side = max(FRAME + PANEL * n, SMALL)
    figure, axes = request.axes(n * n, (side, side), lambda f: f.subplots(n, n))
    for i, j in np.ndindex(n, n):
        _draw_panel(axes[i * n + j], elements, (i, j), given)
    figure.align_labels()
    _write_keys(axes[n - 1], given, elements)
    return figure


def draw_elements(axis: Axes, elements: list[Element], given: Shown) -> None:
    """Draw one element as histograms, two as a scatter plot."""
    if len(elements) == 1:
        draw_histogram(axis, elements[0], given)
    else:
        draw_scatter(axis, elements[0], elements[1], given)


def _draw_panel(axis: Axes, elements: list[Element], at: tuple[int, int], given: Shown) -> None:
    """Draw the panel of row i and column j, with labels at the border of the picture alone."""
    i, j = at
    if j > i:
        axis.axis("off")
        return
    if i == j:
        draw_histogram(axis, elements[i], given, numbers=len(elements) == 1)
        axis.set(ylabel="", yticks=[])
        axis.spines[["left"]].set_visible(False)
    else:
        draw_scatter(axis, elements[j], elements[i], given)
        if j > 0:
            axis.set(ylabel="")
            axis.tick_params(labelleft=False)
    if i < len(elements) - 1:
        axis.set(xlabel="")
        axis.tick_params(labelbottom=False)
    tidy([axis])


def _write_keys(axis: Axes, given: Shown, elements: list[Element]) -> None:
    """Write the colours of the modes, and what is left out, into the empty upper right panel."""
    handles, labels = mode_keys(given)
    title = what_separates(elements, len(given.elements), given.mode, given.n_modes)
    if title is not None:
        title = title.replace(": ", ":\n")
    axis.legend(
        handles, labels, title=title, loc="upper right", frameon=False, fontsize="small",
        title_fontsize="small", borderaxespad=0.0,
    )  # fmt: skip


def mode_keys(given: Shown) -> tuple[list[Any], list[str]]:
    """Return a patch and a text for each mode with a colour, and for the others together."""
    from matplotlib.patches import Patch

    weight, error = given.modes["weight"].values, given.modes["weight_se"].values
    images = given.modes["images"].values if "images" in given.modes else np.ones(given.n_modes)

    def said(k: int) -> str:
        more = f" ({images[k]:.0f} images)" if images[k] > 1 else ""
        return f"{number(weight[k], error[k])}{more}"

    handles = [Patch(color=colour_of(k)) for k in coloured(given.n_modes)]
    labels = [f"mode {k}: {said(k)}" for k in range(len(handles))]
    if name := others_name(given.n_modes):
        n = len(handles)
        single = given.n_modes == n + 1
        rest = said(n) if single else f"{float(np.nansum(weight[n:])):.2g} together"
        handles.append(Patch(color=OTHERS))
        labels.append(f"{name}: {rest}")
    return handles, labels


def draw_scatter(axis: Axes, across: Element, up: Element, given: Shown) -> None:
    """Draw points of two elements by mode, light modes above heavy ones, with numbers."""
    from matplotlib.ticker import MaxNLocator

    stride = max(1, len(given.mode) // MAX_POINTS)
    x, y, mode = (v[::stride] for v in (across.values, up.values, given.mode))
    # All modes without a colour of their own are drawn first, in one call.
    n_coloured = len(coloured(given.n_modes))
    groups = [(mode < 0) | (mode >= n_coloured), *(mode == k for k in range(n_coloured))]
    for k, own in zip([-1, *range(n_coloured)], groups, strict=True):
        axis.plot(
            x[own], y[own], ".", ms=3, mew=0, alpha=0.6 if k >= 0 else 0.8, color=colour_of(k)
        )
    for values, places, limit in (
        (across.values, across.places, axis.set_xlim),
        (up.values, up.places, axis.set_ylim),
    ):
        view = view_of(values)
        if view is not None:
            inside = places[np.isfinite(places)]
            limit(min([view[0], *inside]), max([view[1], *inside]))
    axis.xaxis.set_major_locator(MaxNLocator(N_TICKS))
    axis.yaxis.set_major_locator(MaxNLocator(N_TICKS))
    axis.set(xlabel=across.label, ylabel=up.label)
    if given.n_modes > 1:
        number_modes(axis, across.places, up.places)


def draw_histogram(axis: Axes, element: Element, given: Shown, *, numbers: bool = True) -> None:
    """Draw the draws of one element as histograms of the modes, stacked, the heaviest below."""
    from matplotlib.ticker import MaxNLocator

    values, mode = element.values, given.mode
    finite = np.isfinite(values)
    view = view_of(values)
    inside = finite if view is None else finite & (values >= view[0]) & (values <= view[1])
    edges = _edges(values[inside])
    below = np.zeros(len(edges) - 1)
    n_coloured = len(coloured(given.n_modes))
    parts = [(k, inside & (mode == k)) for k in range(n_coloured)]
    parts.append((-1, inside & ((mode < 0) | (mode >= n_coloured))))
    for k, own in parts:
        height = np.histogram(values[own], edges)[0] / max(finite.sum(), 1) / np.diff(edges)
        if own.any():
            axis.stairs(below + height, edges, baseline=below, fill=True, color=colour_of(k))
        below = below + height
    top = float(below.max(initial=0.0)) or 1.0
    axis.set_ylim(0.0, top * (1.0 + (HEADROOM if given.n_modes > 1 and numbers else 0.05)))
    axis.set_xlim(float(edges[0]), float(edges[-1]))
    axis.xaxis.set_major_locator(MaxNLocator(N_TICKS))
    axis.set(xlabel=element.label, ylabel="density")
    if given.n_modes > 1 and numbers:
        bins = np.searchsorted(edges, element.places, "right") - 1
        near = np.clip(bins[:, None] + np.arange(-NEAR_BINS, NEAR_BINS + 1), 0, len(below) - 1)
        number_modes(axis, element.places, below[near].max(axis=1) + 0.06 * top)


def _edges(values: np.ndarray) -> np.ndarray:
    """Return the edges of the bins; a few whole numbers have a bin each."""
    if len(values) and (values == np.round(values)).all() and np.ptp(values) < N_BINS:
        return np.arange(values.min() - 0.5, values.max() + 1.0)
    return np.histogram_bin_edges(values, N_BINS)
