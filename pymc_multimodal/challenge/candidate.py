"""What a challenge judges: a fit as it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.evidence import Weights
    from pymc_multimodal.moves.local import MoveParameters
    from pymc_multimodal.proposals.base import RegionDensity
    from pymc_multimodal.regions.draws import RegionDraws
    from pymc_multimodal.regions.partition import Partition
    from pymc_multimodal.search.finder import ModeFinder
    from pymc_multimodal.search.modes import Modes
    from pymc_multimodal.target.target import Target

__all__ = ["FitCandidate"]


@dataclass(frozen=True)
class FitCandidate:
    """A fit of K regions that is to be judged.

    Attributes
    ----------
    finder : ModeFinder
        Climbs, and knows the modes it has climbed to.
    searched : Modes
        The modes known to the fit, before any were joined.
    partition : Partition
    densities : sequence of RegionDensity
    local : RegionDraws
    tuning : MoveParameters
        Of the moves inside the regions.
    weights : Weights
    density : Target
        The one that was fitted, folded where it is symmetric.
    """

    finder: ModeFinder
    searched: Modes
    partition: Partition
    densities: Sequence[RegionDensity]
    local: RegionDraws
    tuning: MoveParameters
    weights: Weights
    density: Target
