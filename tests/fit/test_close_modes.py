"""Weights of modes that are so close that borders cut pieces off."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from densities import Mixture, WideNormal

from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.proposals import Hybrid


def three_modes(distance, dim=10):
    """Three anisotropic Gaussians whose closest means are `distance` spreads apart."""
    rng = np.random.default_rng(10)
    turns = np.linalg.qr(rng.standard_normal((3, dim, dim)))[0]
    covariances = (turns * np.geomspace(0.2, 3.0, dim)) @ turns.swapaxes(1, 2)
    means = rng.standard_normal((3, dim))
    gaps = []
    for a, b in combinations(range(3), 2):
        line = means[a] - means[b]
        direction = line / np.linalg.norm(line)
        spread = direction @ (covariances[a] + covariances[b]) @ direction / 2
        gaps.append(np.linalg.norm(line) / np.sqrt(spread))
    return Mixture(means * distance / min(gaps), covariances, [0.5, 0.3, 0.2])


@pytest.mark.parametrize(
    ("distance", "seed"),
    # The others are slow: four whole fits take half a minute.
    [(6.0, 1), *(pytest.param(*p, marks=pytest.mark.slow) for p in ((5.0, 1), (5.0, 2), (6.0, 2)))],
)
def test_weights_of_close_modes_are_right(distance, seed, rng):
    """Regression: slivers that borders had cut off were weighed wrongly, by 0.03 at worst."""
    target = three_modes(distance)
    generator = Hybrid(families=("gaussian", "mixture"))
    config = FitConfig(target_se=0.003, generator=generator, random_seed=seed)
    fit = fit_density(target.density(prior=WideNormal(10, 5.0)), config)
    assert fit.n_modes == 3
    n = 400_000
    share = np.bincount(fit.label(target.draws(n, rng)), minlength=3) / n
    error = np.hypot(fit.weights.weight_se, np.sqrt(share * (1 - share) / n))
    assert np.all(np.abs(fit.weights.weight - share) < 4 * error)
    assert fit.weights.weight_se.max() < 0.02, "the errors say something"
    assert abs(fit.weights.total) < 4 * fit.weights.total_se
