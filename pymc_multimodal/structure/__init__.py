"""Posteriors that fall apart into units: explanations of each unit in place of K^N modes.

>>> units = chosen_units(density, True)  # doctest: +SKIP
>>> found = explain_hubs(density, units, starts, rng)  # doctest: +SKIP
"""

from __future__ import annotations

from pymc_multimodal.structure.borders import Borders, look_at_borders
from pymc_multimodal.structure.clusters import ClusterPartition, Clusters, cluster
from pymc_multimodal.structure.conditional import UnitMixtures
from pymc_multimodal.structure.explanations import Explanations
from pymc_multimodal.structure.extended import UnitProposals
from pymc_multimodal.structure.hubs import (
    Explained,
    density_of_hubs,
    explain_hubs,
    lost_explanations,
    missing_explanations,
    several_explanations,
)
from pymc_multimodal.structure.integration import (
    MOST_POINTS,
    UnbiasedMarginal,
    UnitSample,
    choose_points,
    draw_units,
)
from pymc_multimodal.structure.moves import UnitGenerator, UnitMove
from pymc_multimodal.structure.parts import with_parts
from pymc_multimodal.structure.result import UnitModes, shares, unit_modes

__all__ = [
    "MOST_POINTS",
    "Borders",
    "ClusterPartition",
    "Clusters",
    "Explained",
    "Explanations",
    "UnbiasedMarginal",
    "UnitGenerator",
    "UnitMixtures",
    "UnitModes",
    "UnitMove",
    "UnitProposals",
    "UnitSample",
    "choose_points",
    "cluster",
    "density_of_hubs",
    "draw_units",
    "explain_hubs",
    "look_at_borders",
    "lost_explanations",
    "missing_explanations",
    "several_explanations",
    "shares",
    "unit_modes",
    "with_parts",
]
