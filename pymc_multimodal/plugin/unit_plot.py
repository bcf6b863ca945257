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

__all__ = ["plot_units"]

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
# Explanations with colours of their own: the colours of Matplotlib's map.
N_COLOURS = 10


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
    import matplotlib.pyplot as plt

    weight = np.nan_to_num(modes["unit_weight"].values)
    error = np.nan_to_num(NORMAL_95 * modes["unit_weight_se"].values)
    colours = plt.get_cmap("tab10")(np.arange(weight.shape[1]) % N_COLOURS)
    upper, lower = axes
    n, k_max = weight.shape
    place, below = np.arange(n), np.zeros(n)
    small = n > MAX_CAPS
    for k in range(k_max):
        upper.bar(place, weight[:, k], 1.0 if small else 0.8, below, color=colours[k], label=f"{k}")
        below = below + weight[:, k]
        # The upper end of the last bar has no error.
        rows = np.flatnonzero(
            (weight[:, k] > 0) & (below < 1.0 - LISTED_WEIGHT) & (error[:, k] > 0)
        )
        upper.errorbar(
            place[rows], below[rows], error[rows, k], fmt="none", ecolor="black",
            elinewidth=0.7 if small else 1.2, capsize=0 if small else 3,
        )  # fmt: skip
    upper.set(ylabel="weight (± 95 %)", ylim=(0.0, 1.0), xlim=(-0.6, n - 0.4))
    upper.legend(title="explanation", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    label, location = _location(modes, weight, var_names)
    scale = min(1.0, FEW_UNITS / n)
    for k in range(k_max):
        area = SMALLEST + scale * LARGEST * weight[:, k]
        rows = np.flatnonzero(np.isfinite(location[:, k]) & (weight[:, k] > 0))
        lower.scatter(place[rows], location[rows, k], area[rows], color=[tuple(colours[k])])
    lower.set(xlabel=str(modes.attrs.get("unit_dim") or "unit"), ylabel=f"location: {label}")
    _name_units(upper, lower, [str(u) for u in modes["unit"].values])


def _name_units(upper: Axes, lower: Axes, names: list[str]) -> None:
    """Write the names of the units, or of evenly spaced ones, below the lower axes."""
    step = -(-len(names) // MAX_NAMED)
    shown = list(range(0, len(names), step))
    labels = [names[i] for i in shown]
    long = sum(map(len, labels)) > 2 * LONG_NAME or max(map(len, labels)) > LONG_NAME
    upper.set_xticks(shown, [])
    lower.set_xticks(shown, labels, rotation=90 if long else 0)
    lower.set_xlim(upper.get_xlim())


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
