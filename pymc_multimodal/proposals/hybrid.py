"""The default generator: the regions' densities, mixed by the regions' weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pymc_multimodal.proposals.base import RegionalMixture
from pymc_multimodal.proposals.families import RegionalFamilies

if TYPE_CHECKING:
    import numpy as np

    from pymc_multimodal.proposals.base import RegionFit
    from pymc_multimodal.regions import RegionDraws
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["Hybrid"]


@dataclass(frozen=True)
class Hybrid(RegionalFamilies):
    """A density for each region, mixed by the regions' weights.

    Parameters
    ----------
    families : tuple of {"gaussian", "mixture", "network"}
        Density families that may be used. A Gaussian or Student-t density ("gaussian") is always
        fitted first.
    max_components : int
        Largest number of components of a mixture.
    min_gain : float
        Gain in mean log density of held-out draws (nats) from which on a larger family is used.
    network : Network
        Settings of the network.
    defensive : float
        Share of the heavy-tailed component of every region.
    defensive_df : float
        Degrees of freedom of the heavy-tailed component; at most 1 where the draws are heavy-tailed
        themselves.

    Raises
    ------
    TypeError, ValueError
        If a setting has the wrong type, or is out of range.

    Notes
    -----
    It is used where arXiv 2505.07825 has its regional networks. All families here have densities,
    which makes the corrected draws exact. `PublishedHybrid` is the recipe of the paper.
    """

    @property
    def regional(self) -> RegionalFamilies:
        """How the density of each region is fitted."""
        return self

    def build(
        self,
        fitted: RegionFit,
        local: RegionDraws,
        weights: np.ndarray,
        rng: np.random.Generator,
        density: LogDensity | None = None,
    ) -> RegionalMixture:
        """Mix the regions' densities by the regions' weights."""
        return RegionalMixture(fitted.densities, weights)
