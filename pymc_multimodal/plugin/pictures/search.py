"""How the search for modes went: its coverage, and where its starts ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from pymc_multimodal.plugin.arguments import check_fit
from pymc_multimodal.plugin.pictures.canvas import (
    OTHERS,
    Request,
    colour_of,
    coloured,
    legend_above,
    number_modes,
    tidy,
    view_of,
)
from pymc_multimodal.plugin.pictures.directions import separating
from pymc_multimodal.plugin.pictures.elements import select, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pymc_multimodal.fit import Fit
    from pymc_multimodal.plugin.pictures.elements import Element

__all__ = ["plot_search"]

# Width and height of the picture in inches. Conventional.
SIZE = (10.0, 4.4)
# Ticks of an axis, at most. Conventional.
N_TICKS = 5


def plot_search(
    fit: Fit,
    var_names: Sequence[str] | str | None = None,
    *,
    coords: Mapping[str, Any] | None = None,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
    backend: str | None = None,
) -> Figure:
    """Plot how many modes the climbs had found, beside the starts by the mode they led to.

    The left panel has the modes that were known after each climb. A curve that still rises at its
    end says that modes are missing. Modes that the starts did not lead to were found later, by
    points that were looked at by value, chains, or the challenge. Of modes that are images of one
    another, the first stands for all. The right panel has the starts,
    coloured by the mode at which the climb ended, and the numbers of the modes at their places.

    Parameters
    ----------
    fit : Fit
        Draws do not keep the starts.
    var_names : str or sequence of str, optional
        Variables that span the right panel; the two elements are shown that separate the modes
        best.
    coords : mapping, optional
        Coordinates to keep, by dimension: ``name_dim_0`` and so on.
    ax : array of two Axes, optional
        By default axes of a new figure.
    figsize : tuple of two floats, optional
        Width and height of a new figure in inches.
    backend : {"matplotlib"}, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError
        If `fit` is no fit, or another argument has the wrong type.
    ValueError
        If the fit has no search or does not keep its starts, or there is no such variable or
        coordinate, or another number of axes was given.

    Examples
    --------
    >>> mm.plot_search(step.fit).savefig("search.png")  # doctest: +SKIP
    """
    owner = "plot_search"
    request = Request(owner, ax, figsize, backend)
    modes = check_fit(owner, fit).modes
    if modes.starts is None or modes.start_modes is None or not len(modes.starts):
        raise ValueError(
            "plot_search(fit): the fit keeps no starts (fit.modes.starts). It was made without a "
            "search for modes of the whole posterior, or saved by an earlier version: fit again."
        )
    given = shown(owner, fit)
    told_apart = np.isin(np.arange(fit.n_modes), _searched(fit))
    starts = [
        replace(e, values=modes.starts[:, i], places=np.where(told_apart, e.places, np.nan))
        for i, e in enumerate(given.elements)
    ]
    chosen = {e.label for e in select(owner, given.elements, var_names, coords)}
    best = separating(
        [e for e in given.elements if e.label in chosen], given.mode, given.n_modes, 2, 2
    )
    figure, [left, right] = request.axes(2, SIZE, lambda f: f.subplots(1, 2))
    _draw_coverage(left, fit, modes.start_modes)
    by_label = {e.label: e for e in starts}
    _draw_starts(right, [by_label[e.label] for e in best], modes.start_modes, given.modes)
    tidy([left, right])
    return figure


def _searched(fit: Fit) -> np.ndarray:
    """Return the modes that the search tells apart: of modes that are images, the first."""
    if fit.orbits is None or not fit.orbits.listed:
        return np.arange(fit.n_modes)
    return fit.orbits.first


def _draw_coverage(axis: Axes, fit: Fit, found: np.ndarray) -> None:
    """Draw the number of modes that were known after each climb."""
    from matplotlib.ticker import MaxNLocator

    climbs = np.arange(len(found) + 1)
    known = np.zeros(len(found) + 1)
    seen = np.unique(found, return_index=True)
    first = np.sort(seen[1][seen[0] >= 0])
    known[1:] = np.searchsorted(first, climbs[:-1], side="right")
    axis.step(climbs, known, where="post", color=colour_of(0), lw=1.8)
    n_modes = len(_searched(fit))
    later = n_modes - len(first)
    if later > 0:
        axis.axhline(
            n_modes, color=OTHERS, ls="--", label=f"all of the fit ({later} found otherwise)"
        )
    nowhere = np.flatnonzero(found < 0)
    if len(nowhere):
        axis.plot(
            nowhere + 1, np.zeros(len(nowhere)), "x", color="0.4", ms=4, clip_on=False,
            label=f"{len(nowhere)} of {len(found)} climbs ended at no mode",
        )  # fmt: skip
    unseen = fit.modes.unseen_start_mass_upper
    said = f"climbs\n(another start leads to an unknown mode with p < {unseen:.2g}, 95 %)"
    once = "" if fit.orbits is None else ", images counted once"
    axis.set(xlabel=said if np.isfinite(unseen) else "climbs", ylabel=f"modes known{once}")
    axis.set_xscale("log")
    axis.set_xlim(1, max(len(found), 2))
    axis.set_ylim(0, max(n_modes, 1) * 1.08)
    axis.yaxis.set_major_locator(MaxNLocator(N_TICKS, integer=True))
    if later > 0 or len(nowhere):
        legend_above(axis, 1)


def _draw_starts(axis: Axes, best: list[Element], found: np.ndarray, modes: xr.Dataset) -> None:
    """Draw the starts by the mode at which each climb ended; one element over the climbs."""
    across = best[0]
    if len(best) > 1:
        up = best[1].values
        places, label = best[1].places, best[1].label
    else:
        up, label = np.arange(len(found), dtype=float), "climb"
        places = np.full(len(across.places), len(found) * 0.5)
    n_coloured = len(coloured(modes.sizes["mode"]))
    nowhere, other = found < 0, found >= n_coloured
    axis.plot(across.values[nowhere], up[nowhere], "x", ms=4, color="0.4")
    axis.plot(across.values[other], up[other], ".", ms=6, mew=0, color=OTHERS)
    for k in range(n_coloured):
        own = found == k
        axis.plot(across.values[own], up[own], ".", ms=6, mew=0, color=colour_of(k))
    for values, limit in ((across.values, axis.set_xlim), (up, axis.set_ylim)):
        if (view := view_of(values)) is not None:
            limit(*view)
    number_modes(axis, across.places, places)
    axis.set(xlabel=across.label, ylabel=label)
    axis.set_title("starts, by the mode at which the climb ended", loc="left", fontsize="medium")
