"""What the tests of chains and of evidence share."""

from __future__ import annotations

import numpy as np
from searches import modes_found

from pymc_multimodal._compat import ess
from pymc_multimodal.regions import (
    LocalSampling,
    RegionSampler,
    advance_chains,
    begin_chains,
    explore,
    short_regions,
)


def prepared(density, rng, config=None, **search):
    """The stages before local sampling: config, modes and pilot chains."""
    config = config or LocalSampling()
    modes = modes_found(density, rng, **search)
    return config, modes, explore(density, modes, config, rng)


def begun(density, partition, modes, pilot, config, rng, fit_jumps=None):
    """The context of regions' chains, and the chains with their first batch of draws."""
    sampler = RegionSampler(density, partition, config, modes.locations, fit_jumps)
    return sampler, begin_chains(sampler, modes, pilot, (), None, rng)


def run(sampler, chains, rng, until=None):
    """The chains when every region passes its checks or has as many draws as are allowed."""
    while len(short_regions(chains, sampler.settings, until)):
        chains = advance_chains(sampler, chains, rng, until)
    return chains


def z_of_means(draws, expected, size=400):
    """Deviations of the means of quantities (chains, draws, q), in errors by their ESS."""
    effective = ess(draws, method="mean")
    assert effective.min() > size, "too few effective draws for the error to mean anything"
    flat = draws.reshape(-1, draws.shape[-1])
    return (flat.mean(axis=0) - expected) / (flat.std(axis=0) / np.sqrt(effective))
