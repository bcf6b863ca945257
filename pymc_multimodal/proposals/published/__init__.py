"""The recipe of arXiv 2505.07825: settings, labels, maps and generator."""

from pymc_multimodal.proposals.published.generator import PublishedGenerator, PublishedHybrid
from pymc_multimodal.proposals.published.labels import (
    EmpiricalScore,
    LabelledPairs,
    MapError,
    SmoothedScore,
    labelled_pairs,
    reverse_ode,
    schedule,
)
from pymc_multimodal.proposals.published.maps import SupervisedMap, train_map
from pymc_multimodal.proposals.published.recipe import GaussianProposals, learn_map

__all__ = [
    "EmpiricalScore",
    "GaussianProposals",
    "LabelledPairs",
    "MapError",
    "PublishedGenerator",
    "PublishedHybrid",
    "SmoothedScore",
    "SupervisedMap",
    "labelled_pairs",
    "learn_map",
    "reverse_ode",
    "schedule",
    "train_map",
]
