"""Marginal densities of the elements of variables, by mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pymc_multimodal import checks
from pymc_multimodal._compat import PYMC6, group_names
from pymc_multimodal.fit import Fit
from pymc_multimodal.plugin.arguments import draws_given
from pymc_multimodal.plugin.pictures.canvas import Request, tidy
from pymc_multimodal.plugin.pictures.corner import draw_histogram, mode_keys
from pymc_multimodal.plugin.pictures.directions import separating, what_separates
from pymc_multimodal.plugin.pictures.elements import shown, take_names

__all__ = ["plot_marginals"]

# Panels in a row, and width and height of a panel and height of what is around the panels, in
# inches. Conventional.
MAX_COLUMNS, PANEL_WIDTH, PANEL_HEIGHT, FRAME_HEIGHT = 4, 2.6, 1.9, 0.8
# Width of a picture, at least, in inches: that of two keys of the legend. Conventional.
MIN_WIDTH = 5.2
# Width of one key of the legend in inches. Measured: 2.2 for seven digits with their error.
KEY_WIDTH = 2.3
# Elements of many that are shown at least: a row. Conventional.
LEAST = 4
# Backends of arviz-plots, beside Matplotlib, which draws here.
ARVIZ_BACKENDS = ("bokeh", "plotly", "none")


def plot_marginals(
    idata: Any,
    var_names: Sequence[str] | str | None = None,
    *,
    coords: Mapping[str, Any] | None = None,
    max_elements: int = 12,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
    backend: str | None = None,
) -> Any:
    """Plot the marginal density of each element, divided into the parts of the modes.

    The parts are stacked: together they are the posterior density. The numbers are at the places of
    the modes, those of light modes too. Of many elements those are shown that separate the modes
    best, each given the others.

    Parameters
    ----------
    idata : InferenceData, DataTree or Fit
        Draws with the group `modes`; or a fit, whose local draws are shown in unconstrained
        coordinates, in proportion to the weights.
    var_names : str or sequence of str, optional
        Variables to show; with ``~`` before each, all others.
    coords : mapping, optional
        Coordinates to keep, by dimension. Those of a fit are ``name_dim_0`` and so on.
    max_elements : int
        Elements to show, at most.
    ax : array of Axes, optional
        As many as elements are shown; by default axes of a new figure.
    figsize : tuple of two floats, optional
        Width and height of a new figure in inches.
    backend : {"matplotlib", "bokeh", "plotly", "none"}, optional
        The last three are those of ArviZ 1: ``arviz_plots.plot_dist`` draws the group
        `mode_posterior`, each mode with a density of its own in place of its part.

    Returns
    -------
    matplotlib.figure.Figure or arviz_plots.PlotCollection

    Raises
    ------
    ModuleNotFoundError
        If the package of the backend is not installed.
    TypeError
        If `idata` is neither draws nor a fit, or another argument has the wrong type.
    ValueError
        If there is no group `modes`, no such variable or coordinate, another number of axes is
        needed, or the backend needs ArviZ 1 or draws of each mode.

    Examples
    --------
    >>> mm.plot_marginals(idata, "theta").savefig("theta.png")  # doctest: +SKIP
    """
    owner = "plot_marginals"
    checks.count(owner, "max_elements", max_elements)
    if isinstance(backend, str) and backend in ARVIZ_BACKENDS:
        return _by_arviz(owner, idata, var_names, coords, backend)
    request = Request(owner, ax, figsize, backend)
    given = shown(owner, idata, var_names, coords)
    # Given axes say how many elements there is room for.
    n_given = max_elements if ax is None else np.size(np.asarray(ax, dtype=object))
    most = min(max_elements, n_given)
    elements = separating(given.elements, given.mode, given.n_modes, LEAST, most)
    n = len(elements)
    columns = min(n, MAX_COLUMNS)
    rows = -(-n // columns)
    width = max(MIN_WIDTH, PANEL_WIDTH * columns)
    size = (width, FRAME_HEIGHT + PANEL_HEIGHT * rows)
    figure, axes = request.axes(
        n, size, lambda f: [f.add_subplot(rows, columns, i + 1) for i in range(n)]
    )
    for i, (axis, element) in enumerate(zip(axes, elements, strict=True)):
        draw_histogram(axis, element, given)
        axis.set(yticks=[], ylabel="density" if i % columns == 0 else "")
    tidy(axes)
    handles, labels = mode_keys(given)
    title = what_separates(elements, len(given.elements), given.mode, given.n_modes)
    if ax is None:
        figure.legend(
            handles, labels, title=title, loc="outside upper left", frameon=False,
            ncols=max(1, int((figsize or size)[0] / KEY_WIDTH)), fontsize="small",
            title_fontsize="small", alignment="left",
        )  # fmt: skip
    return figure


def _by_arviz(
    owner: str,
    idata: Any,
    var_names: Sequence[str] | str | None,
    coords: Mapping[str, Any] | None,
    backend: str,
) -> Any:
    """Let ArviZ 1 draw the densities of each mode, by colour."""
    if not PYMC6:
        raise ValueError(
            f"{owner}(backend={backend!r}) needs arviz-plots, which comes with ArviZ 1 and PyMC 6. "
            "Leave backend= out."
        )
    if isinstance(idata, Fit) or "mode_posterior" not in group_names(draws_given(owner, idata)):
        raise ValueError(
            f"{owner}(backend={backend!r}) draws the group 'mode_posterior', which is not there: "
            "give draws, after attach(idata, fit) inside of `with model:`."
        )
    import arviz_plots

    names = take_names(owner, var_names, [str(n) for n in idata["mode_posterior"].data_vars])
    try:
        return arviz_plots.plot_dist(
            idata, var_names=names, group="mode_posterior", coords=dict(coords or {}),
            backend=backend, aes={"color": ["mode"]},
        )  # fmt: skip
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{owner}(backend={backend!r}) needs the package {error.name!r}: install it, or leave "
            "backend= out."
        ) from error
