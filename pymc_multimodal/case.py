"""What a challenge judges: a fit as it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.density import Density
    from pymc_multimodal.draws import LocalDraws
    from pymc_multimodal.generators.base import RegionDensity
    from pymc_multimodal.modes import ModeFinder, Modes
    from pymc_multimodal.regions import Partition
    from pymc_multimodal.weights import Weights

__all__ = ["Case"]


@dataclass(frozen=True)
class Case:
    """A fit of K regions that is to be judged.

    Attributes
    ----------
    finder : ModeFinder
        Climbs, and knows the modes it has climbed to.
    searched : Modes
        The modes known to the fit, before any were joined.
    partition : Partition
    densities : sequence of RegionDensity
    local : LocalDraws
    weights : Weights
    density : Density
        The one that was fitted, folded where it is symmetric.
    """

    finder: ModeFinder
    searched: Modes
    partition: Partition
    densities: Sequence[RegionDensity]
    local: LocalDraws
    weights: Weights
    density: Density
