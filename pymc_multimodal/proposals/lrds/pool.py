"""Local draws of all regions, pooled by the weights of the regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.proposals.base import split_chains
from pymc_multimodal.target.circle import unroll

if TYPE_CHECKING:
    from pymc_multimodal.regions import RegionDraws

__all__ = ["PooledDraws", "SplitDraws"]

# Most draws kept of one region. Conventional; the number bounds memory and time.
MAX_REGION_DRAWS = 20_000


@dataclass(frozen=True, eq=False)
class PooledDraws:
    """Draws of all regions, unrolled, with the probability that each stands for.

    Attributes
    ----------
    x : array of shape (n, d)
    logp : array of shape (n,)
    probability : array of shape (n,)
        Weight of the region over the number of its draws; the sum is one.
    region : int array of shape (n,)
    """

    x: np.ndarray
    logp: np.ndarray
    probability: np.ndarray
    region: np.ndarray

    @classmethod
    def from_regions(
        cls, local: RegionDraws, weights: np.ndarray, period: np.ndarray, held_out: bool
    ) -> PooledDraws:
        """Pool the chains that are held out to choose by, or all others.

        Parameters
        ----------
        local : RegionDraws
        weights : array of shape (K,)
            Weights of the regions; positive, their sum is one.
        period : array of shape (d,)
        held_out : bool

        Returns
        -------
        PooledDraws
        """
        parts = []
        for k, weight in enumerate(weights):
            _, choose, _ = split_chains(len(local.x[k]))
            chains = np.isin(np.arange(len(local.x[k])), np.r_[choose])
            x, logp = (a[k][chains == held_out] for a in (local.x, local.logp))
            thin = max(1, int(np.ceil(logp.size / MAX_REGION_DRAWS)))
            x = unroll(x.reshape(-1, x.shape[-1]), local.centre[k], period)[::thin]
            n = len(x)
            parts.append((x, logp.ravel()[::thin], np.full(n, weight / n), np.full(n, k)))
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def choose_rows(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Rows of n draws, chosen by probability, with replacement."""
        return rng.choice(len(self.x), size=n, p=self.probability)

    def moments(self, within_regions: bool) -> tuple[np.ndarray, np.ndarray]:
        """Mean of the whole (d,), and covariance (d, d) of the whole or within the regions."""
        mean = self.probability @ self.x
        step = self.x - mean
        if within_regions:
            for k in np.unique(self.region):
                rows = self.region == k
                step[rows] = self.x[rows] - self.x[rows].mean(axis=0)
        return mean, (step * self.probability[:, None]).T @ step


@dataclass(frozen=True, eq=False)
class SplitDraws:
    """Pooled draws to learn from, and others, of different chains, to judge by.

    Attributes
    ----------
    training, held_out : PooledDraws
    """

    training: PooledDraws
    held_out: PooledDraws

    @classmethod
    def from_regions(
        cls, local: RegionDraws, weights: np.ndarray, period: np.ndarray
    ) -> SplitDraws:
        """Pool the draws of all regions twice, see `PooledDraws.from_regions`."""
        return cls(*(
            PooledDraws.from_regions(local, weights, period, held) for held in (False, True)
        ))  # fmt: skip
