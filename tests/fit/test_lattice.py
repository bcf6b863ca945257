"""Regression: borders learned from short chains cut through a phase of a lattice."""

from __future__ import annotations

import numpy as np
import pytest

from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.target import Density

SIDE, COUPLING, WELL, FIELD = 12, 512.0, 0.78, 0.002


def lattice(x):
    """phi^4 on a square with periodic borders: a chain's first points are far from typical ones."""
    phi = x.reshape(-1, SIDE, SIDE)
    near = sum(np.roll(phi, s, axis) for s in (1, -1) for axis in (1, 2))
    well = phi**2 - 1.0
    grad = COUPLING * (near - 4.0 * phi) - WELL * (phi * well - FIELD)
    site = 0.5 * COUPLING * phi * (4.0 * phi - near) + WELL * (0.25 * well**2 - FIELD * phi)
    return -site.sum(axis=(1, 2)), grad.reshape(x.shape)


@pytest.mark.parametrize("seed", [0, 1])
def test_regions_are_the_phases(seed):
    density = Density(
        lattice, SIDE**2, prior=lambda n, rng: 2.0 * rng.standard_normal((n, SIDE**2))
    )
    fit = fit_density(density, FitConfig(random_seed=seed))
    assert fit.n_modes == 2
    for region, draws in enumerate(fit.draws.x):
        sign = np.sign(fit.modes.locations[region].mean())
        own = np.mean(sign * draws.reshape(-1, SIDE**2).mean(axis=1) > 0)
        assert own > 0.97
