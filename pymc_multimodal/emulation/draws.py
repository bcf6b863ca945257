"""Draws of the emulated posterior, corrected by the ratios of the judged draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from pymc_multimodal.approximation import systematic_rows

if TYPE_CHECKING:
    from pymc_multimodal.approximation import WeightedSample
    from pymc_multimodal.emulation.judged import EmulatedPosterior

__all__ = ["EmulatedDraws", "corrected_draws"]

# Draws of each fit. Conventional: shares of a half vary by 0.006.
DRAWS = 8000
# Draws of each region at least. Conventional.
LEAST = 100
# Judged draws of each region at least. Conventional: with fewer, these themselves are resampled.
LEAST_JUDGED = 5
# Smallest variance of a direction, in units of the coordinates'. Conventional.
LEAST_VARIANCE = 1e-8


@dataclass(frozen=True, eq=False)
class EmulatedDraws:
    """Weighted draws of an emulated posterior.

    Attributes
    ----------
    x : array of shape (n, d)
    log_density : array of shape (n,)
        By the emulator.
    share : array of shape (n,)
        Weights; their sum is one.
    region : array of int, shape (n,)
    """

    x: np.ndarray
    log_density: np.ndarray
    share: np.ndarray
    region: np.ndarray

    def __len__(self) -> int:
        return len(self.x)


def corrected_draws(
    posterior: EmulatedPosterior,
    sample: WeightedSample,
    weight: np.ndarray,
    rng: np.random.Generator,
) -> EmulatedDraws | None:
    """Draw the emulated posterior, each draw with the ratio of the judged draw that is nearest.

    Each region has the weight that the judged draws gave. Within a region some thousand draws vary
    less than the judged ones, and the ratios of the true density to the emulated one, which vary
    little, are known at the judged ones.

    Parameters
    ----------
    posterior : EmulatedPosterior
    sample : WeightedSample
        Judged draws.
    weight : array of shape (K,)
        Weights of the regions.
    rng : numpy.random.Generator

    Returns
    -------
    EmulatedDraws or None
        None if a region has too few judged draws.
    """
    parts = []
    for k in np.flatnonzero(weight > 0):
        rows = np.flatnonzero((posterior.region == k) & (posterior.sample.ratio > 0))
        # The wide draws are not of the emulated posterior: they lie where few of its draws do.
        judged = np.flatnonzero((sample.stratum == k) & np.isfinite(sample.logp))
        if len(judged) < LEAST_JUDGED or not len(rows):
            return None
        n = max(LEAST, int(np.ceil(DRAWS * weight[k])))
        ratio = posterior.sample.ratio[rows]
        order = _along_widest(posterior.sample.x[rows], ratio)
        rows = rows[order[systematic_rows(ratio[order], n, rng)]]
        x = posterior.sample.x[rows]
        true = sample.x[judged]
        emulated, value = posterior.emulator.log_density(true), posterior.sample.logp[rows]
        log_ratio = sample.logp[judged] - emulated
        nearest = _nearest(true, x, emulated, value)
        share = np.exp(log_ratio - log_ratio.max())[nearest]
        parts.append((x, value, weight[k] * share / share.sum(), np.full(len(x), k)))
    x, value, share, region = (np.concatenate(part) for part in zip(*parts, strict=True))
    return EmulatedDraws(x, value, share / share.sum(), region)


def _nearest(
    x: np.ndarray, draws: np.ndarray, value: np.ndarray, value_of_draws: np.ndarray
) -> np.ndarray:
    """Row of the point (m, d) that is nearest to each draw (n, d), in units of their covariance.

    Their emulated log densities, (m,) and (n,), count as much as all coordinates together. In many
    dimensions points of the middle are the nearest ones of draws in the tails, too, and there an
    emulator errs most.
    """
    spread = np.maximum(draws.std(axis=0), 1e-300)
    centre = draws.mean(axis=0)
    x, draws = (x - centre) / spread, (draws - centre) / spread
    variance, vectors = np.linalg.eigh(draws.T @ draws / len(draws))
    white = vectors / np.sqrt(np.maximum(variance, LEAST_VARIANCE))
    height = np.sqrt(x.shape[1]) / max(value_of_draws.std(), 1e-300)
    places = np.column_stack([x @ white, height * value])
    queries = np.column_stack([draws @ white, height * value_of_draws])
    out: np.ndarray = cKDTree(places).query(queries)[1]
    return out


def _along_widest(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Order of weighted points (n, d) along their widest direction, shape (n,).

    Systematic draws in that order vary least along it.
    """
    share = weight / weight.sum()
    gap = x - share @ x
    scaled = gap / np.maximum(np.sqrt(share @ gap**2), 1e-300)
    _, vectors = np.linalg.eigh((share[:, None] * scaled).T @ scaled)
    out: np.ndarray = np.argsort(scaled @ vectors[:, -1], kind="stable")
    return out
