"""The regions of the modes, and chains that sample each of them.

`explore` runs short unrestricted chains, of which `divide` makes a `Partition`. `begin_chains`
starts chains in each region, and a caller goes on while regions are short of draws::

    chains = begin_chains(sampler, modes, pilot, first_jumps, visit, rng)
    while len(short_regions(chains, settings)):
        chains = advance_chains(sampler, chains, rng)

`Chains` are frozen: an exception within a call leaves the chains that were passed to it valid.
"""

from __future__ import annotations

from pymc_multimodal.regions.away import draws_away
from pymc_multimodal.regions.begin import begin_chains
from pymc_multimodal.regions.chains import (
    ChainRecord,
    Chains,
    RegionSampler,
    ask_of_regions,
    draws_of,
    extend_chains,
    jumps_of,
    n_draws,
    positions,
    skip_regions,
)
from pymc_multimodal.regions.diagnostics import diagnostics_of, stuck, unknown_spread, unmixed
from pymc_multimodal.regions.draws import (
    ChainDiagnostics,
    RegionDraws,
    convergence,
    watched_columns,
)
from pymc_multimodal.regions.nearest import NearestMode
from pymc_multimodal.regions.partition import (
    LabelledPoints,
    Partition,
    PermutedPartition,
    divide,
    expected_labels,
    mixing_groups,
)
from pymc_multimodal.regions.pilot import Pilot, explore, first_parameters, prolonged
from pymc_multimodal.regions.regimes import (
    advance_chains,
    connect_regions,
    escalate_regions,
    short_regions,
)
from pymc_multimodal.regions.settings import MIN_CHAINS, LocalSampling, Regions
from pymc_multimodal.regions.svc import SupportVectors

__all__ = [
    "MIN_CHAINS",
    "ChainDiagnostics",
    "ChainRecord",
    "Chains",
    "LabelledPoints",
    "LocalSampling",
    "NearestMode",
    "Partition",
    "PermutedPartition",
    "Pilot",
    "RegionDraws",
    "RegionSampler",
    "Regions",
    "SupportVectors",
    "advance_chains",
    "ask_of_regions",
    "begin_chains",
    "connect_regions",
    "convergence",
    "diagnostics_of",
    "divide",
    "draws_away",
    "draws_of",
    "escalate_regions",
    "expected_labels",
    "explore",
    "extend_chains",
    "first_parameters",
    "jumps_of",
    "mixing_groups",
    "n_draws",
    "positions",
    "prolonged",
    "short_regions",
    "skip_regions",
    "stuck",
    "unknown_spread",
    "unmixed",
    "watched_columns",
]
