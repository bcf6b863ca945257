"""Posteriors of many coordinates that are nearly normal once a few hubs are given.

>>> split = find_split(density)  # doctest: +SKIP
>>> anchors = find_anchors(density, split, starts, rng)  # doctest: +SKIP
"""

from __future__ import annotations

from pymc_multimodal.conditional.anchors import Anchor, find_anchors
from pymc_multimodal.conditional.climbs import Climbed, climb_hubs
from pymc_multimodal.conditional.mixture import (
    AnchorMixture,
    AnchorPartition,
    Completed,
    HubGenerator,
    UnbiasedHubs,
)
from pymc_multimodal.conditional.split import Split, find_split

__all__ = [
    "Anchor",
    "AnchorMixture",
    "AnchorPartition",
    "Climbed",
    "Completed",
    "HubGenerator",
    "Split",
    "UnbiasedHubs",
    "climb_hubs",
    "find_anchors",
    "find_split",
]
