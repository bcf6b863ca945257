"""The path of the chains between the modes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pymc_multimodal.fit import Fit
from pymc_multimodal.plugin.arguments import draws_given
from pymc_multimodal.plugin.pictures.canvas import (
    COLOURS,
    OTHERS,
    Request,
    colour_of,
    coloured,
    others_name,
    tidy,
)
from pymc_multimodal.plugin.pictures.elements import mode_of_draws
from pymc_multimodal.plugin.tables import modes_given

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_jumps"]

# Chains with lanes of their own. Conventional: more are too low to be read.
MAX_CHAINS = 12
# Part of a chain's lane that its modes take. Conventional.
LANE = 0.8
# Modes that are told apart by their height in a lane; the last line is that of all others.
MAX_LINES = len(COLOURS) + 1
# Draws of a chain that are shown: more marks than dots of the picture. Conventional.
MAX_DRAWS = 2000
# Width of the border of a mark, in points: a single draw of many is seen by it. Measured by eye.
MARK = 0.5
# Width, height of a lane, and height of what is around the lanes, in inches. Conventional.
WIDTH, LANE_HEIGHT, FRAME_HEIGHT = 9.0, 0.75, 0.9


def plot_jumps(
    idata: Any,
    *,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    backend: str | None = None,
) -> Figure:
    """Plot the modes that each chain visits, draw by draw.

    Every chain has a lane, in which the heaviest mode is above. Beside a lane is the share of the
    draws whose mode is another one than that of the draw before, and what this share would be of
    independent draws, ``1 - sum(weight**2)``. Chains that mix come near to it.

    Parameters
    ----------
    idata : InferenceData or DataTree
        Draws with the group `modes`. A fit has no such chains.
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
        If `idata` is no draws, or another argument has the wrong type.
    ValueError
        If the draws do not say to which modes they belong, or several axes were given.

    Examples
    --------
    >>> mm.plot_jumps(idata).savefig("jumps.png")  # doctest: +SKIP
    """
    owner = "plot_jumps"
    request = Request(owner, ax, figsize, backend)
    if isinstance(idata, Fit):
        raise TypeError(
            "plot_jumps(fit) is a Fit, whose chains stay in their regions; give draws, as "
            "sample(fit=fit) returns them."
        )
    modes = modes_given(owner, draws_given(owner, idata))
    mode = mode_of_draws(owner, idata)
    lanes = min(len(mode), MAX_CHAINS)
    size = (WIDTH, FRAME_HEIGHT + LANE_HEIGHT * lanes)
    figure, [axis] = request.axes(1, size, lambda f: f.subplots())
    _draw_lanes(axis, mode[:lanes], modes["weight"].values, len(mode))
    if "unit" in modes.dims:
        axis.set_xlabel(f"{axis.get_xlabel()}\nmodes of the hubs; plot_modes shows the units")
    tidy([axis])
    return figure


def _stays(line: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return first draw, end and line of each stay in a line."""
    first = np.flatnonzero(np.append(True, line[1:] != line[:-1]))
    return first, np.append(first[1:], len(line)), line[first]


def _draw_lanes(axis: Axes, mode: np.ndarray, weight: np.ndarray, n_chains: int) -> None:
    from matplotlib.patches import Patch

    lanes, draws = mode.shape
    n_lines = min(len(weight), MAX_LINES)
    line = np.clip(mode, 0, n_lines - 1)
    step = LANE / n_lines
    kept = np.arange(draws)[:MAX_DRAWS]
    for c in range(lanes):
        axis.axhspan(c - 0.5 * LANE, c + 0.5 * LANE, color="0.96", lw=0)
        first, end, of = _stays(line[c, kept])
        for k in range(n_lines):
            own = of == k
            axis.broken_barh(
                np.stack([first[own] - 0.5, (end - first)[own]], axis=1).tolist(),
                (c - 0.5 * LANE + k * step, 0.92 * step), color=colour_of(k), lw=MARK,
            )  # fmt: skip
        changed = float(np.mean(mode[c, 1:] != mode[c, :-1])) if draws > 1 else 0.0
        axis.text(
            1.01, c, f"{changed:.0%}", va="center", fontsize="small",
            transform=axis.get_yaxis_transform(),
        )  # fmt: skip
    shares = np.nan_to_num(weight)
    shares = shares / max(shares.sum(), 1e-300)
    independent = 1.0 - float(np.square(shares).sum())
    axis.text(
        1.01, -0.62, "changes", va="bottom", fontsize="small", transform=axis.get_yaxis_transform()
    )
    more = f"draw (chains 0-{lanes - 1} of {n_chains})" if lanes < n_chains else "draw"
    more += f"; the first {MAX_DRAWS} of {draws}" if draws > MAX_DRAWS else ""
    axis.set_yticks(np.arange(lanes), [str(c) for c in range(lanes)])
    more += f"   (of independent draws, {independent:.0%} change the mode)"
    axis.set(xlabel=more, ylabel="chain", xlim=(-1, len(kept)))
    axis.set_ylim(lanes - 0.5, -0.5)
    keys: list[tuple[str, str]] = [(f"mode {k}", colour_of(k)) for k in coloured(len(weight))]
    if others := others_name(len(weight)):
        keys.append((others, OTHERS))
    axis.legend(
        [Patch(color=colour) for _, colour in keys], [name for name, _ in keys], ncols=8,
        loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False, fontsize="small",
        borderaxespad=0.2, handlelength=1.0, columnspacing=1.2,
    )  # fmt: skip
