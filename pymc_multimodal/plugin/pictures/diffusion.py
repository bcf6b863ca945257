"""The path of a diffusion from noise to the posterior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pymc_multimodal import checks
from pymc_multimodal.plugin.arguments import check_fit
from pymc_multimodal.plugin.pictures.canvas import OTHERS, Request, colour_of, coloured, tidy
from pymc_multimodal.plugin.pictures.directions import separating
from pymc_multimodal.plugin.pictures.elements import select, shown
from pymc_multimodal.proposals import Diffuses

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pymc_multimodal.fit import Fit
    from pymc_multimodal.plugin.pictures.elements import Element

__all__ = ["plot_diffusion"]

# Paths that are drawn, and of these the ones whose lines are drawn in one dimension. Conventional.
N_PATHS, N_LINES = 1500, 150
# Width and height of a panel, and height of the picture of one element, in inches. Conventional.
PANEL_WIDTH, PANEL_HEIGHT, HEIGHT_OF_LINES = 2.6, 2.9, 3.8
# Share of the points of all panels that the limits of the axes enclose. Conventional.
ENCLOSED = 0.99
# Empty border around them, in their width. Conventional.
MARGIN = 0.15


def plot_diffusion(
    fit: Fit,
    var_names: Sequence[str] | str | None = None,
    *,
    coords: Mapping[str, Any] | None = None,
    times: int = 5,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
    backend: str | None = None,
) -> Figure:
    """Plot how the generator of a fit turns noise into draws, coloured by the mode they end in.

    For ``generator="lrds"`` these are the paths of the learned reverse diffusion; the last panel
    are its draws before they are corrected. For ``generator="score"`` these are Langevin runs of
    the learned score that begin in noise. They find the modes, but not the modes' weights: for
    these, that generator begins at stored draws.

    Parameters
    ----------
    fit : Fit
        With ``generator="lrds"`` or ``"score"``.
    var_names : str or sequence of str, optional
        Variables that span the panels; the two elements are shown that separate the modes best. A
        single one is drawn as paths over the steps.
    coords : mapping, optional
        Coordinates to keep, by dimension: ``name_dim_0`` and so on.
    times : int
        Panels, from noise to the posterior.
    ax : array of Axes, optional
        As many as `times`, or one for a single element; by default axes of a new figure.
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
        If its generator is no diffusion, or there is no such variable or coordinate, or another
        number of axes is needed.

    Examples
    --------
    >>> fit = mm.fit(model, generator="lrds", first_answer=False)  # doctest: +SKIP
    >>> mm.plot_diffusion(fit).savefig("diffusion.png")  # doctest: +SKIP
    """
    owner = "plot_diffusion"
    request = Request(owner, ax, figsize, backend)
    checks.count(owner, "times", times, 2)
    generator = check_fit(owner, fit).kernel.generator
    paths = None
    if isinstance(generator, Diffuses):
        paths = generator.diffuse(N_PATHS, np.random.default_rng(fit.config.random_seed))
    if paths is None:
        raise ValueError(
            f"plot_diffusion(fit): the generator is a {type(generator).__name__}, which has no "
            "path from noise to draws. Fit with generator='lrds' or generator='score', and with "
            "first_answer=False, since an early answer needs no generator."
        )
    given = shown(owner, fit)
    kept = select(owner, given.elements, var_names, coords)
    best = separating(kept, given.mode, given.n_modes, 2, 2)
    index = {e.label: i for i, e in enumerate(given.elements)}
    finite = np.isfinite(paths[-1]).all(axis=1)
    paths = paths[:, finite]
    mode = fit.label(paths[-1])
    columns = [paths[:, :, index[e.label]] for e in best]
    if len(best) == 1:
        size = (2.5 * PANEL_WIDTH, HEIGHT_OF_LINES)
        figure, axes = request.axes(1, size, lambda f: f.subplots())
        _draw_lines(axes[0], columns[0], mode, best[0], given.n_modes)
    else:
        size = (PANEL_WIDTH * times, PANEL_HEIGHT)
        figure, axes = request.axes(
            times, size, lambda f: f.subplots(1, times, sharex=True, sharey=True)
        )
        _draw_panels(axes, columns, mode, best, given.n_modes)
    tidy(axes)
    return figure


def _by_mode(mode: np.ndarray, n_modes: int) -> list[tuple[str, np.ndarray]]:
    """Return colour and rows of the other modes, and of each mode that has a colour."""
    n = len(coloured(n_modes))
    return [(OTHERS, (mode < 0) | (mode >= n)), *((colour_of(k), mode == k) for k in range(n))]


def _enclosing(values: np.ndarray) -> tuple[float, float]:
    ends = [0.5 * (1 - ENCLOSED), 0.5 * (1 + ENCLOSED)]
    low, high = np.quantile(values[np.isfinite(values)], ends)
    margin = MARGIN * (high - low)
    return float(low - margin), float(high + margin)


def _draw_panels(
    axes: list[Axes], columns: list[np.ndarray], mode: np.ndarray, best: list[Element], n_modes: int
) -> None:
    from matplotlib.ticker import MaxNLocator

    steps = len(columns[0]) - 1
    shown_steps = np.linspace(0, steps, len(axes)).round().astype(int)
    for i, (axis, step) in enumerate(zip(axes, shown_steps, strict=True)):
        for colour, own in _by_mode(mode, n_modes):
            axis.plot(
                columns[0][step, own], columns[1][step, own], ".", ms=3, mew=0, alpha=0.7,
                color=colour,
            )  # fmt: skip
        where = "noise" if step == 0 else ("end" if step == steps else "")
        axis.set_title(f"step {step} of {steps}" if not where else where, fontsize="medium")
        axis.set_xlabel(best[0].label)
        axis.xaxis.set_major_locator(MaxNLocator(4))
        if i == 0:
            axis.set_ylabel(best[1].label)
        axis.set(xlim=_enclosing(columns[0][shown_steps]), ylim=_enclosing(columns[1][shown_steps]))


def _draw_lines(
    axis: Axes, column: np.ndarray, mode: np.ndarray, element: Element, n_modes: int
) -> None:
    for colour, own in _by_mode(mode[:N_LINES], n_modes):
        axis.plot(column[:, :N_LINES][:, own], lw=0.6, alpha=0.6, color=colour)
    axis.set(xlabel="step, from noise to draws", ylabel=element.label, xlim=(0, len(column) - 1))
    axis.set_ylim(*_enclosing(column))
