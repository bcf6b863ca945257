"""Draws of the emulated posterior by all that was evaluated, those of judged draws among it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation import systematic_rows

if TYPE_CHECKING:
    from pymc_multimodal.emulation.judged import EmulatedPosterior
    from pymc_multimodal.emulation.rounds import Emulator

__all__ = ["EmulatedDraws", "informed_draws"]

# Draws of each fit. Conventional: shares of a half vary by 0.006.
DRAWS = 8000
# Draws of each region at least. Conventional.
LEAST = 100
# Effective share of the draws of a region below which the two emulators do not agree. Conventional.
MIN_EFFECTIVE_SHARE = 0.5


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


def informed_draws(
    posterior: EmulatedPosterior,
    emulator: Emulator,
    weight: np.ndarray,
    rng: np.random.Generator,
) -> EmulatedDraws | None:
    """Draw the emulated posterior, and weigh the draws by an emulator that knows more.

    Each region has the weight that the judged draws gave. Within a region a few thousand draws vary
    less than the judged ones, and the emulator that knows the judged draws, too, corrects them.

    Parameters
    ----------
    posterior : EmulatedPosterior
    emulator : Emulator
        That knows the judged draws, too.
    weight : array of shape (K,)
        Weights of the regions.
    rng : numpy.random.Generator

    Returns
    -------
    EmulatedDraws or None
        None if the two emulators do not agree.
    """
    parts = []
    for k in np.flatnonzero(weight > 0):
        rows = np.flatnonzero((posterior.region == k) & (posterior.sample.ratio > 0))
        if not len(rows):
            return None
        n = max(LEAST, int(np.ceil(DRAWS * weight[k])))
        rows = rows[_along_widest(posterior.sample.x[rows], posterior.sample.ratio[rows])]
        x = posterior.sample.x[rows[systematic_rows(posterior.sample.ratio[rows], n, rng)]]
        x, counts = np.unique(x, axis=0, return_counts=True)
        value = emulator.log_density(x)
        ratio = value - posterior.emulator.log_density(x)
        high = ratio.max()
        if not np.isfinite(high):
            return None
        share = counts * np.exp(ratio - high)
        if share.sum() ** 2 < MIN_EFFECTIVE_SHARE * n * np.sum(share**2 / counts):
            return None
        parts.append((x, value, weight[k] * share / share.sum(), np.full(len(x), k)))
    x, value, share, region = (np.concatenate(part) for part in zip(*parts, strict=True))
    return EmulatedDraws(x, value, share / share.sum(), region)


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
