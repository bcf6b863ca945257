"""Whether chains have visited the modes as often as the modes' weights say."""

from __future__ import annotations

import numpy as np

from pymc_multimodal._compat import ess, rhat
from pymc_multimodal.fit import Fit

__all__ = ["mixing_warning"]

# Weight, and distance of a weight from 1, from which on a mode is watched, and most modes:
# chains of some hundred draws may well miss the rest. Conventional.
MIN_WEIGHT, MAX_MODES = 0.05, 20
# R-hat of a mode's indicator, and deviation of a chain's share from the weight in standard errors,
# above which chains are reported. Conventional: 20 effective draws have an R-hat of 1.025.
MAX_RHAT, MAX_DEVIATION = 1.05, 4.0


def mixing_warning(mode: np.ndarray, fit: Fit) -> str | None:
    """Compare each chain's share of draws in each mode with the mode's weight.

    Parameters
    ----------
    mode : array of int, shape (chains, draws)
        Mode of each draw; two chains at least.
    fit : Fit

    Returns
    -------
    str or None
        What to tell the user. None where the shares differ by no more than their errors (from the
        effective sample size of each chain, and the error of the weight), and R-hat of the modes'
        indicators is small.
    """
    weight = fit.weights.weight
    bounds = (MIN_WEIGHT, 1 - MIN_WEIGHT)
    watched = [k for k, w in enumerate(weight[:MAX_MODES]) if bounds[0] < w < bounds[1]]
    worst, text = 1.0, None
    for k in watched:
        inside = (mode == k).astype(float)
        share = inside.mean(axis=1)
        # One effective draw where a chain never left a mode, or never saw it.
        size = np.array([ess(chain[None, :, None])[0] for chain in inside])
        size = np.where(np.isfinite(size), np.maximum(size, 1.0), 1.0)
        se = fit.weights.weight_se[k]
        variance = weight[k] * (1 - weight[k]) / size + (se**2 if np.isfinite(se) else 0.0)
        deviation = float(np.max(np.abs(share - weight[k]) / np.sqrt(variance)))
        r_hat = float(rhat(inside[..., None])[0])
        excess = max(
            deviation / MAX_DEVIATION, (r_hat if np.isfinite(r_hat) else np.inf) / MAX_RHAT
        )
        if excess > worst:
            worst, text = excess, _text(k, share, weight[k], se, r_hat)
    return text


def _text(k: int, share: np.ndarray, weight: float, se: float, r_hat: float) -> str:
    found = f"R-hat is {r_hat:.2f}" if np.isfinite(r_hat) else "no chain has left its mode"
    agree = np.isfinite(r_hat) and r_hat <= MAX_RHAT
    what = "do not visit the modes by their weights" if agree else "do not mix between the modes"
    return (
        f"the chains {what}: they have from {share.min():.0%} to {share.max():.0%} of their draws "
        f"in mode {k}, whose weight is {weight:.3f}±{se:.3f} ({found}). Either may be wrong: raise "
        "the limits of the fit, and draw more."
    )
