"""The weights of the modes, with their errors and what else is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy.special import logsumexp

from pymc_multimodal._compat import get_dataset, group_names
from pymc_multimodal.fit import Fit
from pymc_multimodal.plugin.pictures.canvas import (
    Request,
    colour_of,
    legend_above,
    tidy,
)
from pymc_multimodal.plugin.tables import modes_given
from pymc_multimodal.plugin.unit_plot import plot_unit_weights
from pymc_multimodal.plugin.units_group import has_units
from pymc_multimodal.status import with_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "WeightMarks",
    "draw_weights",
    "height_of_rows",
    "number",
    "plot_weights",
    "weight_marks",
]

# Modes that have rows with numbers; of more, all weights are drawn over the number of the mode.
# Conventional: rows of a size that can be read.
MAX_ROWS = 30
# Ratio of the largest to the smallest weight from which on the scale is logarithmic. Conventional:
# two decades, beyond which bars on a linear scale cannot be seen.
LOG_RATIO = 100.0
# Half width of a 95 % interval in standard errors of a normal distribution.
NORMAL_95 = 1.96
# Decades below the smallest weight and above the largest one that a logarithmic scale shows.
# Conventional.
ROOM_BELOW, ROOM_ABOVE = 0.5, 0.1
# Width of the picture, and of that of units, height of a row and of what is around the rows, and
# height of the picture of many modes and of units, in inches. Conventional.
WIDTH, UNITS_WIDTH, ROW_HEIGHT, FRAME_HEIGHT, MANY_HEIGHT = 7.0, 10.0, 0.3, 1.3, 4.2
_INTERVAL = "weight_interval"


def plot_weights(
    idata: Any,
    *,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    backend: str | None = None,
) -> Figure:
    """Plot the weights of all modes with their errors and numbers.

    The scale is logarithmic where the weights span more than two decades. Ticks are the shares of
    the draws, where there are any. Of a fit with a challenge, diamonds are what the tempered search
    found, which does not depend on the fit; there are none where it was inconclusive. More than
    thirty modes are drawn without numbers.

    Parameters
    ----------
    idata : InferenceData, DataTree or Fit
        Draws with the group `modes`, or a fit. Of a posterior that falls apart into units, the
        weights of the explanations of each unit are drawn.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.
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
        If there is no group `modes`, or several axes were given.

    Examples
    --------
    >>> mm.plot_weights(idata).savefig("weights.png")  # doctest: +SKIP
    """
    request = Request("plot_weights", ax, figsize, backend)
    modes = modes_given("plot_weights", idata)
    units = has_units(modes)
    n = modes.sizes["mode"]
    height = MANY_HEIGHT if units else height_of_rows(n)
    width = UNITS_WIDTH if units else WIDTH
    figure, axes = request.axes(1, (width, height), lambda f: f.subplots())
    if units:
        plot_unit_weights(axes[0], modes)
    else:
        draw_weights(axes[0], modes, weight_marks(idata))
    tidy(axes)
    return figure


def height_of_rows(n: int) -> float:
    """Return the height of a picture of n modes, in inches."""
    return FRAME_HEIGHT + ROW_HEIGHT * n if n <= MAX_ROWS else MANY_HEIGHT


@dataclass(frozen=True)
class WeightMarks:
    """Other estimates of the weights, to be drawn beside them.

    Attributes
    ----------
    share : array of shape (K,) or None
        Shares of the draws.
    tempered, tempered_se : arrays of shape (K,), or None
        Shares of the tempered search's mass, with standard errors of their logarithms.
    """

    share: np.ndarray | None = None
    tempered: np.ndarray | None = None
    tempered_se: np.ndarray | None = None


def weight_marks(idata: Any) -> WeightMarks:
    """Return what draws, or the challenge of a fit, say of the weights."""
    if isinstance(idata, Fit):
        challenge = idata.challenge
        if challenge is None or challenge.inconclusive or not np.isfinite(challenge.log_mass).any():
            return WeightMarks()
        share = np.exp(challenge.log_mass - logsumexp(challenge.log_mass))
        return WeightMarks(tempered=share, tempered_se=challenge.log_mass_se)
    if "sample_stats" not in group_names(idata):
        return WeightMarks()
    stats = get_dataset(idata, "sample_stats")
    if "mode" not in stats:
        return WeightMarks()
    n = modes_given("plot_weights", idata).sizes["mode"]
    mode = stats["mode"].values.ravel()
    return WeightMarks(np.bincount(mode[mode >= 0], minlength=n)[:n] / max(len(mode), 1))


def draw_weights(axis: Axes, modes: xr.Dataset, marks: WeightMarks) -> None:
    """Draw a row for each mode, or of many modes all weights over their numbers."""
    weight, (low, high) = modes["weight"].values, _interval(modes)
    known = np.isfinite(weight) & (weight > 0)
    ratio = weight[known].max() / weight[known].min() if known.any() else 1.0
    rows = len(weight) <= MAX_ROWS
    (_draw_rows if rows else _draw_many)(axis, modes, (low, high), marks)
    if ratio > LOG_RATIO:
        least = float(weight[known].min()) * 10.0**-ROOM_BELOW
        top = max(float(np.nanmax(high)), _largest(marks)) * 10.0**ROOM_ABOVE
        (axis.set_xscale if rows else axis.set_yscale)("log")
        (axis.set_xlim if rows else axis.set_ylim)(least, top)
    else:
        top = 1.05 * max(float(np.nanmax(high, initial=0.0)), _largest(marks), 1e-300)
        (axis.set_xlim if rows else axis.set_ylim)(0.0, top)
    legend_above(axis, 3)


def _largest(marks: WeightMarks) -> float:
    found = [v for v in (marks.share, marks.tempered) if v is not None]
    return max((float(np.nanmax(v)) for v in found), default=0.0)


def _interval(modes: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % interval of each weight; the weight itself where none is known."""
    weight, error = modes["weight"].values, modes["weight_se"].values
    low, high = weight - NORMAL_95 * error, weight + NORMAL_95 * error
    if _INTERVAL in modes:
        # An error that is not known has an interval nevertheless; and no interval leaves [0, 1].
        bounds = modes[_INTERVAL].transpose("mode", ...).values
        low, high = (
            np.where(np.isfinite(b), b, v) for b, v in zip(bounds.T, (low, high), strict=True)
        )
    low, high = (np.where(np.isfinite(v), v, weight) for v in (low, high))
    return np.clip(np.fmin(low, weight), 0.0, 1.0), np.clip(np.fmax(high, weight), 0.0, 1.0)


def _draw_rows(
    axis: Axes, modes: xr.Dataset, interval: tuple[np.ndarray, np.ndarray], marks: WeightMarks
) -> None:
    weight, error = modes["weight"].values, modes["weight_se"].values
    n = len(weight)
    place, shown = np.arange(n), np.nan_to_num(weight)
    reach = np.nan_to_num(np.stack([weight - interval[0], interval[1] - weight]))
    axis.barh(place, shown, height=0.66, color=[colour_of(k) for k in range(n)])
    axis.errorbar(
        shown, place, xerr=reach, fmt="none", ecolor="0.35", elinewidth=1.2, capsize=3,
        label="weight ± 95 %",
    )  # fmt: skip
    if marks.share is not None:
        axis.plot(
            marks.share, place + 0.0, "|", color="black", ms=13, mew=1.6, label="share of draws"
        )
    if marks.tempered is not None:
        _draw_tempered(axis, marks, place + 0.2, of_rows=True)
    images = modes["images"].values if "images" in modes else np.ones(n, dtype=int)
    axis.set_yticks(place, [f"{k} ({m} images)" if m > 1 else f"{k}" for k, m in enumerate(images)])
    axis.set_ylim(n - 0.5, -0.5)
    axis.set(xlabel="weight", ylabel="mode")
    beside = axis.get_yaxis_transform()
    for k in range(n):
        said = number(weight[k], error[k])
        axis.text(1.02, k, said, transform=beside, va="center", fontsize="small")


def number(weight: float, error: float) -> str:
    """Return a weight with its error, without one that is not known."""
    if not np.isfinite(weight):
        return "not known"
    return with_error(weight, error) if np.isfinite(error) else f"{weight:.3g}"


def _draw_many(
    axis: Axes, modes: xr.Dataset, interval: tuple[np.ndarray, np.ndarray], marks: WeightMarks
) -> None:
    weight = modes["weight"].values
    n = len(weight)
    place = np.arange(n)
    reach = np.nan_to_num(np.stack([weight - interval[0], interval[1] - weight]))
    colours = [colour_of(k) for k in range(n)]
    axis.errorbar(
        place, weight, yerr=reach, fmt="none", ecolor="0.6", elinewidth=0.8, label="weight ± 95 %"
    )
    axis.scatter(place, weight, s=9, c=colours, zorder=3)
    if marks.share is not None:
        axis.plot(place, marks.share, "_", color="black", ms=5, mew=0.8, label="share of draws")
    if marks.tempered is not None:
        _draw_tempered(axis, marks, place + 0.0, of_rows=False)
    axis.set(xlabel=f"mode (all {n}, the heaviest first)", ylabel="weight", xlim=(-1.0, n))


def _draw_tempered(axis: Axes, marks: WeightMarks, place: np.ndarray, *, of_rows: bool) -> None:
    """Draw diamonds with errors at the shares of the tempered search."""
    assert marks.tempered is not None
    error = np.zeros(len(place)) if marks.tempered_se is None else np.nan_to_num(marks.tempered_se)
    share = np.where(marks.tempered > 0, marks.tempered, np.nan)
    reach = share * np.stack([-np.expm1(-NORMAL_95 * error), np.expm1(NORMAL_95 * error)])
    drawn: dict[str, Any] = {
        "fmt": "D", "ms": 4.5 if of_rows else 3, "mfc": "white", "mew": 0.9,
        "mec": "black" if of_rows else "0.4", "ecolor": "black" if of_rows else "0.8",
        "elinewidth": 0.7, "label": "tempered search", "zorder": 3 if of_rows else 2,
    }  # fmt: skip
    if of_rows:
        axis.errorbar(share, place, xerr=reach, **drawn)
    else:
        axis.errorbar(place, share, yerr=reach, **drawn)
