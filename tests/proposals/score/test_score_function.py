"""Derivatives, coordinates and objective of a learned score."""

from __future__ import annotations

import numpy as np
import pytest
from densities import two_modes, z_scores
from learned_scores import jacobian, some_mixture, some_network

from pymc_multimodal.proposals.score.score_function import LearnedScore


@pytest.mark.parametrize("d", [1, 4])
def test_derivatives_are_those_of_differences(d, rng):
    mixture, network = some_mixture(d, rng), some_network(d, rng)
    z = 2 * rng.standard_normal((20, d))
    np.testing.assert_allclose(mixture.score(z), jacobian(mixture.log_density, z), atol=1e-6)
    for f, divergence in ((mixture.score, mixture.laplacian), (network, network.divergence)):
        trace = np.trace(jacobian(f, z), axis1=1, axis2=2)
        np.testing.assert_allclose(divergence(z), trace, atol=1e-6)


def test_a_score_follows_its_coordinates(rng):
    score = LearnedScore(some_mixture(3, rng), some_network(3, rng))
    mean, factor = rng.standard_normal(3), rng.standard_normal((3, 3)) + 2 * np.eye(3)
    y = rng.standard_normal((20, 3))
    np.testing.assert_allclose(score.moved(mean, factor)(y), score(mean + y @ factor.T) @ factor)


def test_the_objective_is_the_score_error_up_to_a_constant(rng):
    target = two_modes(3, distance=4.0)
    score = LearnedScore(some_mixture(3, rng), some_network(3, rng))
    x = target.draws(40_000, rng)
    exact = target(x)[1]
    miss = np.sum((score(x) - exact) ** 2, axis=1)
    assert abs(z_scores(score.objective(x) - (miss - np.sum(exact**2, axis=1)), 0.0)) < 4
