"""Overlaps of components, and bounds that hold."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from learned_scores import line, slowest
from scipy.stats import norm

from pymc_multimodal.proposals.mixture import GaussianMixture
from pymc_multimodal.proposals.score.clusters import analyse_clusters, crossing_rates
from pymc_multimodal.proposals.score.overlap import (
    log_sobolev_bound,
    overlap_matrix,
    spanning_tree_paths,
)

MIN_OVERLAP = 0.05


def poincare_bound(overlap, weights, constants):
    """The Poincare constant bounded as `log_sobolev_bound` bounds the log-Sobolev constant."""
    load = np.zeros(len(weights))
    for (i, j), path in spanning_tree_paths(overlap).items():
        for a, b in pairwise(path):
            edge = 2 * (1 / overlap[a, b] - 1)
            load[[a, b]] += weights[i] * weights[j] * (len(path) - 1) * edge
    return np.max(constants * (1 + load / weights))


@pytest.mark.parametrize("dim", [1, 32])
@pytest.mark.parametrize("distance", [0.0, 1.0, 3.0, 5.0])
def test_overlap_of_two_normals(dim, distance, rng):
    means = np.zeros((2, dim))
    means[1] = distance / np.sqrt(dim)
    mixture = GaussianMixture.from_covariances(
        np.array([0.3, 0.7]), means, np.stack([np.eye(dim)] * 2)
    )
    z = mixture.sample(40_000, rng)
    overlap, error = overlap_matrix(mixture.log_parts(z), mixture.weights)
    exact = 2 * norm.cdf(-distance / 2)
    assert abs(overlap[0, 1] - exact) < 4 * error[0, 1] + 1e-12
    assert overlap[0, 1] == overlap[1, 0]
    assert np.all(np.diag(overlap) == 1)


def test_a_bound_where_the_chi_square_divergence_is_infinite(rng):
    """N(0, I) mixed with N(0, 2 I): the second has no finite chi-square with the first."""
    far = np.array([5.0, 10.0, 20.0])
    excess = 2 * norm.logpdf(far, scale=np.sqrt(2)) - norm.logpdf(far)
    assert np.allclose(excess, excess[0]), "the integrand p^2 / q does not decay"
    for dim in (1, 10):
        mixture = GaussianMixture.from_covariances(
            np.array([0.5, 0.5]), np.zeros((2, dim)), np.stack([np.eye(dim), 2 * np.eye(dim)])
        )
        found = analyse_clusters(mixture, rng, MIN_OVERLAP)
        assert len(found) == 1
        assert found.overlap[0, 1] > 0.25
        bound = log_sobolev_bound(found.overlap, mixture.weights, np.array([1.0, 2.0]))
        assert 1.5 < bound < 2 * (1 + 8 / found.overlap[0, 1])
        assert np.isfinite(found.log_sobolev_all)
    true = slowest(line([0.0, 0.0], [1.0, 2.0]), -12, 12)
    overlap, _ = overlap_matrix(
        (one := line([0.0, 0.0], [1.0, 2.0])).log_parts(one.sample(40_000, rng)), one.weights
    )
    assert 1 < true < poincare_bound(overlap, one.weights, np.array([1.0, 2.0]))
    assert true < log_sobolev_bound(overlap, one.weights, np.array([1.0, 2.0]))


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.1, 0.9)])
def test_bounds_hold_and_rates_are_right_on_the_line(weights, rng):
    for distance in (1.0, 2.0, 4.0, 6.0):
        mixture = line([0.0, distance], weights=weights)
        true = slowest(mixture, -7, distance + 7)
        delta = 2 * norm.cdf(-distance / 2)
        overlap = np.array([[1.0, delta], [delta, 1.0]])
        assert true < poincare_bound(overlap, mixture.weights, np.ones(2))
        assert true < log_sobolev_bound(overlap, mixture.weights, np.ones(2))
        if distance >= 4:
            rates = crossing_rates(mixture)
            assert np.isclose(1 / rates.sum(), true, rtol=0.25)


def test_a_chain_of_parts_is_bounded_through_its_tree():
    means = np.arange(4) * 2.0
    mixture = line(means)
    gap = np.abs(means[:, None] - means)
    overlap = 2 * norm.cdf(-gap / 2)
    assert slowest(mixture, -7, 13) < poincare_bound(overlap, mixture.weights, np.ones(4))
    # Only what the maximal spanning tree holds counts: neighbours.
    neighbours = np.where(gap <= 2, overlap, 1e-9)
    assert np.isclose(
        log_sobolev_bound(overlap, mixture.weights, np.ones(4)),
        log_sobolev_bound(neighbours, mixture.weights, np.ones(4)),
    )
    cut = np.where(gap <= 2, overlap, 0.0)
    cut[1, 2] = cut[2, 1] = 0.0
    assert np.isinf(log_sobolev_bound(cut, mixture.weights, np.ones(4)))
    assert log_sobolev_bound(np.ones((1, 1)), np.ones(1), np.array([3.0])) == 3.0


def test_the_bound_grows_as_one_over_the_overlap():
    values = [
        log_sobolev_bound(np.array([[1.0, d], [d, 1.0]]), np.array([0.5, 0.5]), np.ones(2))
        for d in (1e-2, 1e-4)
    ]
    assert np.isclose(values[1] / values[0], 100, rtol=0.2)
