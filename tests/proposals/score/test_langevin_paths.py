"""Langevin paths as proposals; tests/contracts/test_generators.py has their densities."""

from __future__ import annotations

import numpy as np
from densities import HalfSpace, exact_local, two_modes
from learned_scores import jacobian

from pymc_multimodal import ScoreLangevin
from pymc_multimodal.proposals.score.langevin_paths import elliptical_score


def test_gradients_of_regional_densities(rng):
    target = two_modes(3)
    local = exact_local(target, HalfSpace().label, 2, rng)
    x = 3 * rng.standard_normal((20, 3))
    for q in ScoreLangevin().fit_regions(local, np.full(3, np.inf), rng).densities:
        np.testing.assert_allclose(elliptical_score(q, x), jacobian(q.log_density, x), atol=1e-6)
