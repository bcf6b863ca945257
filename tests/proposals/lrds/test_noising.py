"""Noise levels of the three processes, and the density of noised paths."""

from __future__ import annotations

import numpy as np
import pytest
from densities import z_scores
from scipy.stats import multivariate_normal

from pymc_multimodal.proposals.lrds.noising import geometric, pinned, variance_preserving

NOISINGS = {
    "geometric": geometric(6, 0.2, 3.0),
    "variance-preserving": variance_preserving(6, scale=2.0),
    "pinned": pinned(6, 1.5),
}


def test_levels_of_the_processes():
    """X_t = s(t) (X_0 + c(t) Z) of each process, from its own formulas."""
    t = np.linspace(0, 1, 7)
    alpha = 0.1 * t + 0.5 * 9.9 * t**2
    np.testing.assert_allclose(
        NOISINGS["variance-preserving"].levels ** 2, 4.0 * (np.exp(alpha) - 1.0)
    )
    t = np.arange(7) / 7
    bridge = 1.5**2 * t * (1 - t)
    np.testing.assert_allclose(NOISINGS["pinned"].levels ** 2, bridge / (1 - t) ** 2)
    ratio = NOISINGS["geometric"].levels[2:] / NOISINGS["geometric"].levels[1:-1]
    np.testing.assert_allclose(ratio, 15.0**0.2)


@pytest.mark.parametrize("name", NOISINGS)
def test_paths_have_the_density_that_is_said(name, rng):
    noising = NOISINGS[name]
    x = rng.standard_normal((4, 3))
    path = noising.forward(x, rng)
    np.testing.assert_array_equal(path[0], x)
    expected = sum(
        multivariate_normal(np.zeros(3), v * np.eye(3)).logpdf(path[k + 1] - path[k])
        for k, v in enumerate(noising.added)
    )
    np.testing.assert_allclose(noising.log_density(path), expected)
    last = noising.forward(np.zeros((20_000, 1)), rng)[-1] / noising.levels[-1]
    assert np.abs(z_scores(np.hstack([last, last**2]), [0, 1])).max() < 4
