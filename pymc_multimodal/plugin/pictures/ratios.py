"""How well the proposals of the jumps fit the posterior: log ratios and acceptance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy.special import logsumexp

from pymc_multimodal._compat import get_dataset, group_names
from pymc_multimodal.fit import Fit
from pymc_multimodal.plugin.arguments import draws_given
from pymc_multimodal.plugin.pictures.canvas import (
    OTHERS,
    Request,
    colour_of,
    coloured,
    legend_above,
    others_name,
    tidy,
    view_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_ratios"]

# Draws of a fit of which ratios are computed. Conventional.
N_FROM_FIT = 4000
# Share of the log ratios that is shown at least, where some are far away; how many are outside is
# told. Conventional.
SHOWN_RATIOS = 0.98
# Ticks of an axis, at most. Conventional.
N_TICKS = 5
# Bins of the histograms. Conventional.
N_BINS = 50
# Width and height of the picture in inches. Conventional.
SIZE = (9.0, 3.8)
# Acceptance below which the share of draws is told: chains stay for ten jumps and more there.
LOW = 0.1


def plot_ratios(
    idata: Any,
    *,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
    backend: str | None = None,
) -> Figure:
    r"""Plot the log ratios of the posterior to the proposals, beside the acceptance of jumps.

    The ratios are those of draws, :math:`\log w = \log \pi - \log q`, with densities :math:`\pi` of
    the posterior and q of the proposals: zero where both agree. A tail to the right are draws that
    are proposed too rarely, at which chains stay. From the same ratios follows the probability that
    a jump from each draw is accepted.

    Parameters
    ----------
    idata : InferenceData, DataTree or Fit
        Draws of this sampler; or a fit, whose local draws are taken in proportion to the weights.
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
        If `idata` is neither draws nor a fit, or another argument has the wrong type.
    ValueError
        If the draws hold no log ratios, their chains make no jumps, or another number of axes was
        given.

    Notes
    -----
    The acceptance of a jump from x is estimated from draws of the posterior alone:

    .. math:: a(x) = E_{y \sim q} \min(1, w_y / w_x)
        = E_{y \sim \pi} \min(1 / w_x, 1 / w_y) \, / \, E_\pi [1 / w].

    Proposals where the posterior has no mass are missing in it: the true acceptance may be lower.

    Examples
    --------
    >>> mm.plot_ratios(idata).savefig("ratios.png")  # doctest: +SKIP
    """
    owner = "plot_ratios"
    request = Request(owner, ax, figsize, backend)
    if _jumps(idata) == 0:
        raise ValueError(
            f"{owner}: the chains of this posterior make no jumps to proposals of all coordinates "
            "at once (it falls apart into units, which are moved one by one), so that there are no "
            "log ratios to draw. Fit with structure=False for such jumps."
        )
    log_ratio, mode, n_modes = _of_fit(idata) if isinstance(idata, Fit) else _of_draws(owner, idata)
    finite = np.isfinite(log_ratio)
    log_ratio, mode = log_ratio[finite], mode[finite]
    if not len(log_ratio):
        raise ValueError(
            f"{owner}: no proposal had a positive density, so that there is nothing to draw. See "
            "fit.statuses: they say what went wrong in the fit."
        )
    # E_pi[1 / w] is one for normalised densities.
    log_w = log_ratio + logsumexp(-log_ratio) - np.log(len(log_ratio))
    figure, [left, right] = request.axes(2, SIZE, lambda f: f.subplots(1, 2))
    _draw_ratios(left, log_w, mode, n_modes)
    accepted = acceptance_at(log_w)
    _draw_stack(right, accepted, mode, n_modes, np.linspace(0.0, 1.0, N_BINS + 1))
    right.axvline(accepted.mean(), color="black", lw=1.0, ls="--")
    right.set(xlim=(0.0, 1.0), ylabel="draws")
    right.set_xlabel(
        f"acceptance of a jump from a draw\n(mean {accepted.mean():.2f}; "
        f"{np.mean(accepted < LOW):.1%} of the draws below {LOW})"
    )
    tidy([left, right])
    return figure


def _jumps(idata: Any) -> int:
    """Return the number of jumps of a draw; -1 if it is not known."""
    if isinstance(idata, Fit):
        return idata.kernel.jumps
    draws_given("plot_ratios", idata)
    modes = get_dataset(idata, "modes") if "modes" in group_names(idata) else xr.Dataset()
    return int(modes.attrs.get("jumps_per_draw", -1))


def acceptance_at(log_w: np.ndarray) -> np.ndarray:
    """Return the probability that a jump from each draw is accepted, shape (n,).

    Parameters
    ----------
    log_w : array of shape (n,)
        Log ratios of draws of the target.
    """
    v = np.exp(np.min(log_w) - log_w)  # 1 / w, up to a constant
    order = np.argsort(v)
    ascending = v[order]
    sums = np.cumsum(ascending)
    n = len(v)
    least = (sums + ascending * (n - 1 - np.arange(n))) / n
    out = np.empty(n)
    out[order] = least / v.mean()
    return np.minimum(out, 1.0)


def _draw_ratios(axis: Axes, log_w: np.ndarray, mode: np.ndarray, n_modes: int) -> None:
    from matplotlib.ticker import MaxNLocator

    view = view_of(log_w, SHOWN_RATIOS)
    inside = log_w if view is None else log_w[(log_w >= view[0]) & (log_w <= view[1])]
    edges = np.histogram_bin_edges(inside, N_BINS)
    if edges[-1] - edges[0] < 1e-6:
        edges = np.linspace(-0.5, 0.5, N_BINS + 1)
    _draw_stack(axis, log_w, mode, n_modes, edges)
    axis.axvline(0.0, color="black", lw=1.0)
    far = len(log_w) - int(np.sum((log_w >= edges[0]) & (log_w <= edges[-1])))
    more = f"; {far} draws are outside" if far else ""
    axis.set_xlabel(f"log of posterior / proposal density\n(sd {log_w.std():.2g}{more})")
    axis.set_ylabel("draws")
    axis.xaxis.set_major_locator(MaxNLocator(N_TICKS))
    if n_modes > 1:
        legend_above(axis)


def _draw_stack(
    axis: Axes, values: np.ndarray, mode: np.ndarray, n_modes: int, edges: np.ndarray
) -> None:
    """Draw histograms of the modes, stacked."""
    n_coloured = len(coloured(n_modes))
    parts = [(f"mode {k}", colour_of(k), mode == k) for k in range(n_coloured)]
    if others := others_name(n_modes):
        parts.append((others, OTHERS, mode >= n_coloured))
    below = np.zeros(len(edges) - 1)
    for label, colour, own in parts:
        height = np.histogram(values[own], edges)[0]
        if own.any():
            axis.stairs(below + height, edges, baseline=below, fill=True, color=colour, label=label)
        below = below + height
    axis.set_ylim(0.0, 1.05 * max(below.max(), 1.0))


def _of_draws(owner: str, idata: Any) -> tuple[np.ndarray, np.ndarray, int]:
    draws_given(owner, idata)
    stats = get_dataset(idata, "sample_stats") if "sample_stats" in group_names(idata) else {}
    if "log_ratio" not in stats or "mode" not in stats:
        raise ValueError(
            f"{owner}(idata): the group 'sample_stats' has no log ratios of proposals. Give draws "
            "of this sampler, or a fit."
        )
    mode = stats["mode"].values.ravel()
    return stats["log_ratio"].values.ravel(), mode, int(mode.max()) + 1


def _of_fit(fit: Fit) -> tuple[np.ndarray, np.ndarray, int]:
    rng = np.random.default_rng(fit.config.random_seed)
    return *fit.log_ratios(N_FROM_FIT, rng), fit.n_modes
