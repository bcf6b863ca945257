"""The weights of the modes beside the draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pymc_multimodal.plugin.pictures.canvas import Request, tidy
from pymc_multimodal.plugin.pictures.corner import LEAST, draw_elements
from pymc_multimodal.plugin.pictures.directions import separating
from pymc_multimodal.plugin.pictures.elements import shown
from pymc_multimodal.plugin.pictures.weights import draw_weights, height_of_rows, weight_marks
from pymc_multimodal.plugin.unit_plot import plot_units
from pymc_multimodal.plugin.units_group import has_units

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_modes"]

# Width of the picture, least height of the modes, and height of the units, in inches. Conventional.
WIDTH, HEIGHT, HEIGHT_OF_UNITS = 10.0, 4.2, 6.0
# Rows for which there is room, so that the bars of few modes are no blocks. Conventional.
LEAST_ROWS = 5
# Widths of the two panels. Conventional.
WIDTHS = (1.0, 1.3)


def plot_modes(
    idata: Any,
    var_names: Sequence[str] | str | None = None,
    *,
    coords: Mapping[str, Any] | None = None,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
    backend: str | None = None,
) -> Figure:
    """Plot the weights of the modes with their errors, beside the draws coloured by mode.

    The weights are those of `plot_weights`, the draws those of `plot_corner`, in the two elements
    that separate the modes best; of a single element there are histograms. Of a posterior that
    falls apart into units, the weights of the explanations of each unit are shown, and where the
    explanations are; above these, if there are several, the regions of the hubs as modes.

    Parameters
    ----------
    idata : InferenceData, DataTree or Fit
        Draws with the group `modes`; or a fit, whose local draws are shown in unconstrained
        coordinates, in proportion to the weights.
    var_names : str or sequence of str, optional
        Variables from which the elements are chosen; with ``~`` before each, all others. Of units,
        the element is shown that separates the explanations best.
    coords : mapping, optional
        Coordinates to keep, by dimension. Those of a fit are ``name_dim_0`` and so on.
    ax : array of Axes, optional
        Two, or with units and several regions of the hubs four; by default axes of a new figure.
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
    >>> mm.plot_modes(idata).savefig("modes.png")  # doctest: +SKIP
    """
    owner = "plot_modes"
    request = Request(owner, ax, figsize, backend)
    given = shown(owner, idata, var_names, coords)
    units, several = has_units(given.modes), given.n_modes > 1
    of_modes = several or not units
    height = max(HEIGHT, height_of_rows(given.n_modes)) if of_modes else 0.0

    def make(figure: Figure) -> list[Any]:
        upper: Any = figure
        lower: Any = figure
        if units and of_modes:
            upper, lower = figure.subfigures(2, 1, height_ratios=(height, HEIGHT_OF_UNITS))  # type: ignore[misc]
        made = list(upper.subplots(1, 2, width_ratios=WIDTHS)) if of_modes else []
        return [*made, *(lower.subplots(2, 1) if units else [])]

    n_axes = (2 if of_modes else 0) + (2 if units else 0)
    size = (WIDTH, height + (HEIGHT_OF_UNITS if units else 0.0))
    figure, axes = request.axes(n_axes, size, make)
    if of_modes:
        draw_weights(axes[0], given.modes, weight_marks(idata))
        if given.n_modes < LEAST_ROWS:
            beside = 0.5 * (LEAST_ROWS - given.n_modes)
            axes[0].set_ylim(given.n_modes - 0.5 + beside, -0.5 - beside)
        best = separating(given.elements, given.mode, given.n_modes, LEAST, LEAST)
        draw_elements(axes[1], best, given)
    if units:
        names = list(dict.fromkeys(e.variable for e in given.elements))
        plot_units((axes[-2], axes[-1]), given.modes, None if var_names is None else names)
    tidy(axes)
    return figure
