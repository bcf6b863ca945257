"""What the tests of chains and of evidence share."""

from __future__ import annotations

import numpy as np
from searches import modes_found

from pymc_multimodal._compat import ess
from pymc_multimodal.regions.pilot import explore
from pymc_multimodal.regions.settings import LocalSampling


def prepared(density, rng, config=None, **search):
    """The stages before local sampling: config, modes and pilot chains."""
    config = config or LocalSampling()
    modes = modes_found(density, rng, **search)
    return config, modes, explore(density, modes, config, rng)


def z_of_means(draws, expected, size=400):
    """Deviations of the means of quantities (chains, draws, q), in errors by their ESS."""
    effective = ess(draws, method="mean")
    assert effective.min() > size, "too few effective draws for the error to mean anything"
    flat = draws.reshape(-1, draws.shape[-1])
    return (flat.mean(axis=0) - expected) / (flat.std(axis=0) / np.sqrt(effective))
