"""What a challenge judges: a fit as it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.search import climb_from, modes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.evidence import Weights
    from pymc_multimodal.moves.local import MoveParameters
    from pymc_multimodal.proposals.base import RegionDensity
    from pymc_multimodal.regions.draws import RegionDraws
    from pymc_multimodal.regions.partition import Partition
    from pymc_multimodal.search import Modes, ModeSearch, Search
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.target import Target

__all__ = ["FitCandidate", "SearchHolder"]


@dataclass
class SearchHolder:
    """Holds the newest state of a search.

    Attributes
    ----------
    density : Density
    settings : ModeSearch
    search : Search
    """

    density: Density
    settings: ModeSearch
    search: Search

    def extend(self, points: np.ndarray) -> tuple[Modes, np.ndarray]:
        """Climb from points; returns the modes, and the mode of each point, -1 for none."""
        self.search, labels = climb_from(self.density, self.search, self.settings, points)
        return modes_of(self.density, self.search, self.settings), labels


@dataclass(frozen=True)
class FitCandidate:
    """A fit of K regions that is to be judged.

    Attributes
    ----------
    finder : SearchHolder
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

    finder: SearchHolder
    searched: Modes
    partition: Partition
    densities: Sequence[RegionDensity]
    local: RegionDraws
    tuning: MoveParameters
    weights: Weights
    density: Target
