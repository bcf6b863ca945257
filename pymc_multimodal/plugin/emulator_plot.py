"""A picture of what an emulator knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pymc_multimodal.emulation import LeftOut, left_out, unseen_log_ratios
from pymc_multimodal.fit import Fit
from pymc_multimodal.plugin.arguments import check_fit
from pymc_multimodal.plugin.pictures.canvas import Request, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_emulator"]

# Outputs in the picture, and marks of an axis that is bent. Conventional.
MAX_SHOWN, MARKS = 11, 5
# Width of a panel in inches. Conventional.
PANEL = 3.2
# Bins of the histogram. Conventional.
N_BINS = 40
# Multiple of an output's linear width beyond which its axis is bent. Conventional.
BENT = 10.0


def plot_emulator(
    fit: Fit,
    *,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
    backend: str | None = None,
) -> Figure:
    """Plot how well the emulator of a fit predicts points that it was not fitted to.

    For each output of the simulator (or the log density) there is a panel: the values at the
    evaluated points, and their predictions from the other points with two standard deviations on
    either side. Grey points are those of a density so low that they do not count. Of more than
    eleven outputs those are shown that are predicted worst.

    The last panel has the log ratios of the true density to the emulated one at the judged draws
    (test points), to which the emulator was not fitted. They are zero where it is exact.

    Parameters
    ----------
    fit : Fit
        Made in this session: emulators are not saved.
    ax : array of Axes, optional
        As many as panels; by default axes of a new figure.
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
        If it has no emulator, or another number of axes was given.

    Examples
    --------
    >>> mm.plot_emulator(fit).savefig("emulator.png")  # doctest: +SKIP
    """
    request = Request("plot_emulator", ax, figsize, backend)
    fit = check_fit("plot_emulator", fit)
    if fit.emulator is None:
        raise ValueError(
            "plot_emulator(fit): the fit has no emulator (fit.emulator is None). Either its "
            "density is cheap or has a gradient, or emulation=False was given, or the emulator was "
            "not precise, or the fit was loaded from a file. Fit again, with "
            "evaluations=fit.evaluations where there are any."
        )
    points = left_out(fit.emulator)
    shown = _worst(points)
    ratios = np.empty(0)
    if fit.evaluations is not None:
        ratios = unseen_log_ratios(fit.emulator, fit.evaluations.x, fit.evaluations.logp)
    panels = len(shown) + (len(ratios) > 0)
    columns = int(np.ceil(np.sqrt(panels)))
    rows = -(-panels // columns)
    figure, axes = request.axes(
        panels,
        (PANEL * columns, PANEL * rows),
        lambda f: [f.add_subplot(rows, columns, i + 1) for i in range(panels)],
    )
    for axis, i in zip(axes, shown, strict=False):
        _plot_output(axis, points, i)
    if len(ratios):
        _plot_ratios(axes[-1], ratios)
    tidy(axes)
    return figure


def _worst(points: LeftOut) -> np.ndarray:
    """Choose the outputs with the largest errors in units of their spread; all of few."""
    m = len(points.names)
    if m <= MAX_SHOWN:
        return np.arange(m)
    near = points.near
    error = np.square(points.true - points.mean)[near].mean(axis=0)
    spread = np.maximum(points.true[near].var(axis=0), np.finfo(float).tiny)
    return np.sort(np.argsort(-error / spread, kind="stable")[:MAX_SHOWN])


def _plot_output(axis: Axes, points: LeftOut, i: int) -> None:
    """Draw predictions of one output against its values."""
    from matplotlib.ticker import AsinhLocator, NullLocator, StrMethodFormatter

    true, mean = points.true[:, i], points.mean[:, i]
    reach = np.stack([mean - points.low[:, i], points.high[:, i] - mean])
    for rows, colour in ((~points.near, "0.75"), (points.near, "C0")):
        axis.errorbar(
            true[rows], mean[rows], reach[:, rows], fmt=".", ms=4, lw=0.8, color=colour, alpha=0.7
        )
    ends = np.array([true.min(), true.max()])
    axis.plot(ends, ends, color="black", lw=0.8, zorder=3)
    width = float(points.linear_width[i])
    if np.abs(ends).max() > BENT * width:
        axis.set_xscale("asinh", linear_width=width)
        axis.set_yscale("asinh", linear_width=width)
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_locator(AsinhLocator(width, numticks=MARKS))
            side.set_minor_locator(NullLocator())
            side.set_major_formatter(StrMethodFormatter("{x:.3g}"))
    axis.set_title(f"{points.names[i]}: {points.share_inside[i]:.0%} within 2 sd", fontsize=9)
    axis.set(xlabel="true", ylabel="predicted from the others")


def _plot_ratios(axis: Axes, ratios: np.ndarray) -> None:
    """Draw the histogram of log ratios."""
    axis.hist(ratios, N_BINS, color="C1")
    axis.axvline(0.0, color="black", lw=0.8)
    axis.set_title(f"{len(ratios)} test points, sd {ratios.std():.2g}", fontsize=9)
    axis.set(xlabel="log of true / emulated density", ylabel="points")
