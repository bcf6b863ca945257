"""What all pictures share: figures outside of pyplot, given axes, and colours of modes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from pymc_multimodal import checks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "OTHERS",
    "Request",
    "colour_of",
    "coloured",
    "legend_above",
    "number_modes",
    "others_name",
    "tidy",
    "view_of",
]

# Colours of the heaviest modes, told apart with every kind of colour blindness. Source: Okabe and
# Ito (2008), "Color Universal Design", without their yellow, which is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Colour of all other modes, and of what belongs to none. Measured: of greys that are seen on white,
# the darkest that is told apart from the purple without green cones (CIE difference above 15).
OTHERS = "#BFBFBF"
# Share of the draws that a picture shows at least, and how many times wider than these all draws
# have to be before the rest is left outside. Conventional.
SHOWN_SHARE, FAR = 0.998, 3.0
# Empty border around what is shown, in its width. Conventional: that of Matplotlib.
MARGIN = 0.05
# Width of the first and of each further digit of a number, and its height, as shares of a panel.
# Measured by eye in panels of 5 cm.
FIRST_DIGIT, DIGIT, NUMBER_HEIGHT = 0.06, 0.03, 0.07
# Modes up to which all have numbers in a panel; of more, those with a colour have. Conventional.
MAX_NUMBERS = 40


@dataclass(frozen=True)
class Request:
    """Where a picture is drawn, as a user has asked for it.

    Parameters
    ----------
    owner : str
        The function that was called.
    ax : Axes or array of Axes, optional
    figsize : tuple of two floats, optional
        Inches.
    backend : str, optional

    Raises
    ------
    TypeError
        If `ax` holds something else than axes, or `figsize` is no pair of numbers.
    ValueError
        If a size is not positive, or the backend is another one than Matplotlib.
    """

    owner: str
    ax: Any = None
    figsize: tuple[float, float] | None = None
    backend: str | None = None

    def __post_init__(self) -> None:
        if self.backend is not None:
            checks.kind(self.owner, "backend", self.backend, str)
        if self.backend not in (None, "matplotlib"):
            raise ValueError(
                f"{self.owner}(backend={self.backend!r}): this picture is drawn by Matplotlib "
                "alone. Leave backend= out; plot_marginals takes the backends of arviz-plots."
            )
        if self.figsize is not None:
            _check_size(self.owner, self.figsize)
        if self.ax is not None:
            _check_axes(self.owner, self.ax)

    def axes(
        self, n: int, size: tuple[float, float], make: Callable[[Figure], Any]
    ) -> tuple[Figure, list[Axes]]:
        """Return a figure and n axes: the given ones, or those of a new figure.

        A new figure is no longer known to pyplot, so that a notebook shows it once and it takes
        no memory when it is dropped. It stays there where pyplot has windows: `plt.show` needs it.

        Parameters
        ----------
        n : int
        size : tuple of two floats
            Of a new figure, in inches, if the user gave none.
        make : callable
            ``make(figure)`` returns the axes of a new figure, in any shape.

        Raises
        ------
        ValueError
            If another number of axes was given.
        """
        if self.ax is None:
            figure = new_figure(self.figsize or size)
            return figure, list(np.ravel(np.asarray(make(figure), dtype=object)))
        given = list(np.ravel(np.asarray(self.ax, dtype=object)))
        if len(given) != n:
            raise ValueError(
                f"{self.owner}(ax=...) holds {len(given)} axes; this picture needs {n}. Give an "
                f"array of {n} axes, such as those of plt.subplots, or leave ax= out."
            )
        return given[0].figure.figure, given


def new_figure(size: tuple[float, float]) -> Figure:
    """Return a figure that pyplot does not know, except where pyplot has windows."""
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=size, layout="constrained")
    if getattr(figure.canvas, "required_interactive_framework", None) is None:
        plt.close(figure)
    return figure


def _check_size(owner: str, size: Any) -> None:
    pair = isinstance(size, Sequence | np.ndarray) and not isinstance(size, str) and len(size) == 2
    if not pair or not all(isinstance(v, Real) and not isinstance(v, bool) for v in size):
        raise TypeError(f"{owner}(figsize={size!r}) must be two numbers: width, height (inches).")
    if not all(0 < v < float("inf") for v in size):
        raise ValueError(f"{owner}(figsize={size!r}) must hold positive numbers of inches.")


def _check_axes(owner: str, ax: Any) -> None:
    from matplotlib.axes import Axes

    found = np.ravel(np.asarray(ax, dtype=object))
    if not len(found) or not all(isinstance(a, Axes) for a in found):
        raise TypeError(
            f"{owner}({checks.shown(ax, 'ax')}) must be matplotlib Axes, or an array of them, as "
            "plt.subplots returns them."
        )


# ------------------------------------------------------------------ colours and numbers


def colour_of(k: int) -> str:
    """Return the colour of mode k: the heaviest modes have their own, all others are grey."""
    return COLOURS[k] if 0 <= k < len(COLOURS) else OTHERS


def coloured(n_modes: int) -> range:
    """Return the modes that have colours of their own; one that would be grey alone has none."""
    return range(min(n_modes, len(COLOURS)))


def others_name(n_modes: int) -> str:
    """Return the name of the modes without a colour together; empty where all have one."""
    first, last = len(coloured(n_modes)), n_modes - 1
    if last < first:
        return ""
    return f"mode {first}" if first == last else f"modes {first}-{last}"


def number_modes(axis: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Write the numbers of the modes at their places, the heaviest first, where there is room.

    Call it last: what has room depends on the limits of the axes.

    Parameters
    ----------
    axis : Axes
    x, y : arrays of shape (K,)
        NaN where a mode has no place.
    """
    from matplotlib.patheffects import withStroke

    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    u, v = (x - left) / (right - left), (y - low) / (high - low)
    placed: list[tuple[float, float]] = []
    shown = range(len(x)) if len(x) <= MAX_NUMBERS else coloured(len(x))
    for k in shown:
        if not (0.0 <= u[k] <= 1.0 and 0.0 <= v[k] <= 1.0):
            continue
        width = FIRST_DIGIT + DIGIT * (len(str(k)) - 1)
        if any(abs(u[k] - a) < width and abs(v[k] - b) < NUMBER_HEIGHT for a, b in placed):
            continue
        placed.append((float(u[k]), float(v[k])))
        axis.annotate(
            str(k), (x[k], y[k]), ha="center", va="center", fontsize=9, weight="bold",
            path_effects=[withStroke(linewidth=2.5, foreground="white")], annotation_clip=True,
        )  # fmt: skip


def view_of(values: np.ndarray, share: float = SHOWN_SHARE) -> tuple[float, float] | None:
    """Return the limits of an axis that leaves far draws outside; None where there are none.

    Parameters
    ----------
    values : array of shape (n,)
    share : float
        Share of the values that is shown at least.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    tail = 0.5 * (1.0 - share)
    low, high = np.quantile(values, [tail, 1.0 - tail])
    if not np.ptp(values) > FAR * (high - low) > 0:
        return None
    margin = MARGIN * (high - low)
    return float(low - margin), float(high + margin)


def legend_above(axis: Axes, columns: int = 4) -> None:
    """Write the legend above the axes, where no data are."""
    if axis.get_legend_handles_labels()[0]:
        axis.legend(
            loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, frameon=False,
            borderaxespad=0.2, handlelength=1.2, columnspacing=1.2, fontsize="small",
        )  # fmt: skip


def tidy(axes: Sequence[Axes]) -> None:
    """Leave out the upper and the right border."""
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
