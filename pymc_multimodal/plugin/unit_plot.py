"""Pictures of a posterior that falls apart into units: weights and locations of explanations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from pymc_multimodal.plugin.unit_table import LISTED_WEIGHT, elements
from pymc_multimodal.plugin.units_group import LOCATION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_unit_weights", "plot_units"]

# Units whose names are all written, and that have error bars with caps. Conventional: they have
# room at the width of the picture.
MAX_NAMED, MAX_CAPS = 40, 40
# Letters of the longest name from which on names are turned. Conventional.
LONG_NAME = 40
# Half width of a 95 % interval in standard errors of a normal distribution.
NORMAL_95 = 1.96
# Area of the dot of an explanation that has all of a unit's weight, and of the smallest dot, in
# square points. Conventional.
LARGEST, SMALLEST = 90.0, 4.0
# Areas shrink from this number of units on, so that dots stay apart. Conventional.
FEW_UNITS = 30
# Colours of the explanations, told apart with every kind of colour blindness. Source: Okabe and Ito
# (2008), "Color Universal Design", without their yellow, which is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def plot_units(
    axes: tuple[Axes, Axes], modes: xr.Dataset, var_names: Sequence[str] | None = None
) -> None:
    """Draw the weights of the explanations of each unit, and where these explanations are.

    Parameters
    ----------
    axes : tuple of two Axes
        Of the weights, as stacked bars with errors, and of the locations, as dots whose areas are
        the weights.
    modes : xarray.Dataset
        The group `modes`, with units.
    var_names : sequence of str, optional
        Variables of which the one is drawn that tells the explanations apart best.
    """
    upper, lower = axes
    plot_unit_weights(upper, modes)
    weight = np.nan_to_num(modes["unit_weight"].values)
    n, k_max = weight.shape
    place = np.arange(n)
    label, location = _location(modes, weight, var_names)
    scale = min(1.0, FEW_UNITS / n)
    for k in range(k_max):
        area = SMALLEST + scale * LARGEST * weight[:, k]
        rows = np.flatnonzero(np.isfinite(location[:, k]) & (weight[:, k] > 0))
        lower.scatter(place[rows], location[rows, k], area[rows], color=_colour(k))
    lower.set(ylabel=f"location: {label}")
    _name_units(lower, modes)
    upper.set_xticks(lower.get_xticks(), [])
    upper.set_xlabel("")


def plot_unit_weights(axis: Axes, modes: xr.Dataset) -> None:
    """Draw the weights of the explanations of each unit as stacked bars with errors.

    Parameters
    ----------
    axis : Axes
    modes : xarray.Dataset
        The group `modes`, with units.
    """
    weight = np.nan_to_num(modes["unit_weight"].values)
    error = np.nan_to_num(NORMAL_95 * modes["unit_weight_se"].values)
    n, k_max = weight.shape
    place, below = np.arange(n), np.zeros(n)
    small = n > MAX_CAPS
    for k in range(k_max):
        axis.bar(place, weight[:, k], 1.0 if small else 0.8, below, color=_colour(k), label=f"{k}")
        below = below + weight[:, k]
        # The upper end of the last bar has no error.
        rows = np.flatnonzero(
            (weight[:, k] > 0) & (below < 1.0 - LISTED_WEIGHT) & (error[:, k] > 0)
        )
        axis.errorbar(
            place[rows], below[rows], error[rows, k], fmt="none", ecolor="black",
            elinewidth=0.7 if small else 1.2, capsize=0 if small else 3,
        )  # fmt: skip
    axis.set(ylabel="weight (± 95 %)", ylim=(0.0, 1.0))
    axis.legend(title="explanation", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    _name_units(axis, modes)


def _colour(k: int) -> str:
    """Return the colour of explanation k; they come again after the last one."""
    return COLOURS[k % len(COLOURS)]


def _name_units(axis: Axes, modes: xr.Dataset) -> None:
    """Write the names of the units, or of evenly spaced ones, below the axes."""
    names = [str(u) for u in modes["unit"].values]
    step = -(-len(names) // MAX_NAMED)
    shown = list(range(0, len(names), step))
    labels = [names[i] for i in shown]
    long = sum(map(len, labels)) > 2 * LONG_NAME or max(map(len, labels)) > LONG_NAME
    axis.set_xticks(shown, labels, rotation=90 if long else 0)
    axis.set(xlabel=str(modes.attrs.get("unit_dim") or "unit"), xlim=(-0.6, len(names) - 0.4))


def _location(
    modes: xr.Dataset, weight: np.ndarray, var_names: Sequence[str] | None
) -> tuple[str, np.ndarray]:
    """Return the element of a variable that tells explanations apart best, by unit: (N, K)."""
    found = [str(n).removeprefix(LOCATION) for n in modes.data_vars if str(n).startswith(LOCATION)]
    chosen = [n for n in found if var_names is None or n in var_names] or found
    best: tuple[float, str, np.ndarray] = (-1.0, "", np.full(weight.shape, np.nan))
    for name in chosen:
        values = modes[LOCATION + name].transpose("unit", "explanation", ...)
        flat = values.stack(mode=("unit", "explanation")).transpose("mode", ...)
        for label, column in elements(name, flat.reset_coords(drop=True)):
            located = column.reshape(weight.shape)
            share = _between(located, weight)
            if share > best[0]:
                best = (share, label, located)
    return best[1:]


def _between(location: np.ndarray, weight: np.ndarray) -> float:
    """Share of the variance of locations that is between the explanations of a unit."""
    there = np.isfinite(location) & (weight > 0)
    w, x = np.where(there, weight, 0.0), np.where(there, location, 0.0)
    total = np.maximum(w.sum(axis=1), 1e-300)
    mean = (w * x).sum(axis=1) / total
    within = float((w * (x - mean[:, None]) ** 2).sum())
    whole = float((w * (x - (w * x).sum() / w.sum()) ** 2).sum())
    return within / whole if whole > 0 else 0.0
