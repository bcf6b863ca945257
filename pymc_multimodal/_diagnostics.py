"""R-hat and effective sample sizes of many quantities at once (Vehtari et al. 2021).

The results are those of ArviZ, which computes one quantity after the other: with a thousand regions
of a dozen quantities each that takes longer than the chains themselves.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtri

__all__ = ["ess", "rank_diagnostics"]

# Fewest draws of a chain, and fewest chains for R-hat; ArviZ gives NaN for fewer.
MIN_DRAWS, MIN_CHAINS = 4, 2
# Offset of the ranks in normal scores (Blom 1958).
RANK_OFFSET = 3 / 8
# Range below which a quantity counts as constant: the resolution of doubles, as in ArviZ.
CONSTANT = 1e-15


def rank_diagnostics(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the rank-normalised split R-hat and the bulk ESS of each quantity.

    Parameters
    ----------
    draws : array of shape (chains, draws, quantities)

    Returns
    -------
    r_hat, ess : arrays of shape (quantities,)
        NaN where they are not defined.
    """
    chains, n, quantities = draws.shape
    undefined = np.full(quantities, np.nan)
    if n < MIN_DRAWS:
        return undefined, undefined
    split = _split(draws)
    scores = _normal_scores(split)
    size = _ess(scores)
    if chains < MIN_CHAINS:
        return undefined, size
    with np.errstate(invalid="ignore"):
        folded = np.abs(split - np.median(split, axis=(1, 2), keepdims=True))
    bulk, tail = _rhat(scores), _rhat(_normal_scores(folded))
    return np.where(tail > bulk, tail, bulk), size


def ess(draws: np.ndarray, method: Literal["bulk", "mean"] = "bulk") -> np.ndarray:
    """Compute the effective sample size of each quantity.

    Parameters
    ----------
    draws : array of shape (chains, draws, quantities)
    method : {"bulk", "mean"}

    Returns
    -------
    array of shape (quantities,)
        NaN where it is not defined.
    """
    if draws.shape[1] < MIN_DRAWS:
        return np.full(draws.shape[2], np.nan)
    split = _split(draws)
    return _ess(_normal_scores(split) if method == "bulk" else split)


def _split(draws: np.ndarray) -> np.ndarray:
    """Divide each chain into halves: (chains, n, q) to (q, 2 chains, n // 2)."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]]).transpose(2, 0, 1)


def _normal_scores(split: np.ndarray) -> np.ndarray:
    """Replace each value by the normal quantile of its rank among those of its quantity."""
    from scipy.stats import rankdata

    flat = split.reshape(len(split), -1)
    # A quantity with NaN has NaN for all ranks.
    rank = rankdata(flat, axis=1)
    scores: np.ndarray = ndtri((rank - RANK_OFFSET) / (flat.shape[1] - 2 * RANK_OFFSET + 1))
    return scores.reshape(split.shape)


def _rhat(split: np.ndarray) -> np.ndarray:
    """R-hat of each quantity of shape (q, chains, n)."""
    n = split.shape[2]
    between = n * split.mean(axis=2).var(axis=1, ddof=1)
    within = split.var(axis=2, ddof=1).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        out: np.ndarray = np.sqrt((between / within + n - 1) / n)
    return out


def _ess(split: np.ndarray) -> np.ndarray:
    """Effective sample size of each quantity of shape (q, chains, n), by Geyer's sequences."""
    _, chains, n = split.shape
    covariance = _mean_autocovariance(split)
    mean_var = covariance[:, 0] * n / (n - 1.0)
    var_plus = covariance[:, 0] + split.mean(axis=2).var(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = 1.0 - (mean_var[:, None] - covariance) / var_plus[:, None]
    rho[:, 0] = 1.0
    size = chains * n
    tau = np.maximum(_autocorrelation_time(rho), 1 / np.log10(size))
    out = np.where(np.isnan(rho).any(axis=1), np.nan, size / tau)
    with np.errstate(invalid="ignore"):
        constant = np.ptp(split, axis=(1, 2)) < CONSTANT
    return np.where(constant, float(size), out)


def _mean_autocovariance(split: np.ndarray) -> np.ndarray:
    """Mean over the chains of the autocovariance at each lag, shape (q, n)."""
    n = split.shape[2]
    m = next_fast_len(2 * n, real=True)
    centred = split - split.mean(axis=2, keepdims=True)
    transform = rfft(centred, n=m, axis=2)
    power = (transform.real**2 + transform.imag**2).mean(axis=1)
    out: np.ndarray = irfft(power, n=m, axis=1)[:, :n] / n
    return out


def _autocorrelation_time(rho: np.ndarray) -> np.ndarray:
    """Sum of Geyer's initial monotone sequence of autocorrelations of shape (q, n), per row."""
    n = rho.shape[1]
    even, odd = rho[:, 0], rho[:, 1]
    kept = np.zeros_like(rho)
    kept[:, :2] = rho[:, :2]
    # Initial positive sequence: pairs of lags are taken as long as their sums are positive.
    last = np.full(len(rho), 1)
    on = np.ones(len(rho), dtype=bool)
    for t in range(1, n - 3, 2):
        on &= even + odd > 0.0
        if not on.any():
            break
        even = np.where(on, rho[:, t + 1], even)
        odd = np.where(on, rho[:, t + 2], odd)
        taken = on & (even + odd >= 0)
        kept[taken, t + 1], kept[taken, t + 2] = even[taken], odd[taken]
        last[on] = t + 2
    end = last - 2
    rows = np.arange(len(rho))
    kept[rows, end + 1] = np.where(even > 0, even, kept[rows, end + 1])
    # Initial monotone sequence: no pair is larger than the one before it.
    for t in range(1, int(end.max(initial=0)) - 1, 2):
        larger = kept[:, t + 1] + kept[:, t + 2] > kept[:, t - 1] + kept[:, t]
        larger &= t <= end - 2
        mean = 0.5 * (kept[:, t - 1] + kept[:, t])
        kept[:, t + 1] = np.where(larger, mean, kept[:, t + 1])
        kept[:, t + 2] = np.where(larger, mean, kept[:, t + 2])
    lag = np.arange(n)
    total = np.sum(np.where(lag <= end[:, None], kept, 0.0), axis=1)
    out: np.ndarray = -1.0 + 2.0 * total + kept[rows, end + 1]
    return out
