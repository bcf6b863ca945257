"""Component analysis: overlaps, bounds that hold, and verdicts that agree with what runs do."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.linalg import eigh
from scipy.stats import norm

from pymc_multimodal.proposals.score.clusters import analyse_clusters, crossing_rates
from pymc_multimodal.proposals.score.langevin import run_langevin
from pymc_multimodal.proposals.score.overlap import (
    log_sobolev_bound,
    overlap_matrix,
    spanning_tree_paths,
)
from pymc_multimodal.proposals.score.score_function import GaussianParts

MIN_OVERLAP = 0.05


def poincare_bound(overlap, weights, constants):
    """The Poincare constant bounded as `log_sobolev_bound` bounds the log-Sobolev constant."""
    load = np.zeros(len(weights))
    for (i, j), path in spanning_tree_paths(overlap).items():
        for a, b in pairwise(path):
            edge = 2 * (1 / overlap[a, b] - 1)
            load[[a, b]] += weights[i] * weights[j] * (len(path) - 1) * edge
    return np.max(constants * (1 + load / weights))


def line(means, variances=None, weights=None):
    """A mixture on the line."""
    k = len(means)
    variances = np.ones(k) if variances is None else np.asarray(variances, float)
    weights = np.full(k, 1 / k) if weights is None else np.asarray(weights, float)
    return GaussianParts(weights, np.asarray(means, float)[:, None], variances[:, None, None])


def slowest(parts, low, high, points=2_000):
    """The mixture's Poincare constant: one over the least positive eigenvalue on a grid."""
    u = np.linspace(low, high, points)
    h = u[1] - u[0]
    p = np.exp(parts.log_mixture(u[:, None]))
    between = np.exp(parts.log_mixture(0.5 * (u[1:] + u[:-1])[:, None])) / h**2
    energy = np.diag(np.append(between, 0) + np.append(0, between))
    energy -= np.diag(between, 1) + np.diag(between, -1)
    values = eigh(energy, np.diag(p), eigvals_only=True, subset_by_index=[0, 1])
    return 1 / values[1]


@pytest.mark.parametrize("dim", [1, 32])
@pytest.mark.parametrize("distance", [0.0, 1.0, 3.0, 5.0])
def test_overlap_of_two_normals(dim, distance, rng):
    means = np.zeros((2, dim))
    means[1] = distance / np.sqrt(dim)
    parts = GaussianParts(np.array([0.3, 0.7]), means, np.stack([np.eye(dim)] * 2))
    z, _ = parts.draw(40_000, rng)
    overlap, error = overlap_matrix(parts.log_densities(z), parts.weights)
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
        parts = GaussianParts(
            np.array([0.5, 0.5]), np.zeros((2, dim)), np.stack([np.eye(dim), 2 * np.eye(dim)])
        )
        found = analyse_clusters(parts, rng, MIN_OVERLAP)
        assert len(found) == 1
        assert found.overlap[0, 1] > 0.25
        bound = log_sobolev_bound(found.overlap, parts.weights, np.array([1.0, 2.0]))
        assert 1.5 < bound < 2 * (1 + 8 / found.overlap[0, 1])
        assert np.isfinite(found.log_sobolev_all)
    true = slowest(line([0.0, 0.0], [1.0, 2.0]), -12, 12)
    overlap, _ = overlap_matrix(
        (one := line([0.0, 0.0], [1.0, 2.0])).log_densities(one.draw(40_000, rng)[0]), one.weights
    )
    assert 1 < true < poincare_bound(overlap, one.weights, np.array([1.0, 2.0]))
    assert true < log_sobolev_bound(overlap, one.weights, np.array([1.0, 2.0]))


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.1, 0.9)])
def test_bounds_hold_and_rates_are_right_on_the_line(weights, rng):
    for distance in (1.0, 2.0, 4.0, 6.0):
        parts = line([0.0, distance], weights=weights)
        true = slowest(parts, -7, distance + 7)
        delta = 2 * norm.cdf(-distance / 2)
        overlap = np.array([[1.0, delta], [delta, 1.0]])
        assert true < poincare_bound(overlap, parts.weights, np.ones(2))
        assert true < log_sobolev_bound(overlap, parts.weights, np.ones(2))
        if distance >= 4:
            rates = crossing_rates(parts)
            assert np.isclose(1 / rates.sum(), true, rtol=0.25)


def test_a_chain_of_parts_is_bounded_through_its_tree():
    means = np.arange(4) * 2.0
    parts = line(means)
    gap = np.abs(means[:, None] - means)
    overlap = 2 * norm.cdf(-gap / 2)
    assert slowest(parts, -7, 13) < poincare_bound(overlap, parts.weights, np.ones(4))
    # Only what the maximal spanning tree holds counts: neighbours.
    neighbours = np.where(gap <= 2, overlap, 1e-9)
    assert np.isclose(
        log_sobolev_bound(overlap, parts.weights, np.ones(4)),
        log_sobolev_bound(neighbours, parts.weights, np.ones(4)),
    )
    cut = np.where(gap <= 2, overlap, 0.0)
    cut[1, 2] = cut[2, 1] = 0.0
    assert np.isinf(log_sobolev_bound(cut, parts.weights, np.ones(4)))
    assert log_sobolev_bound(np.ones((1, 1)), np.ones(1), np.array([3.0])) == 3.0


def test_the_bound_grows_as_one_over_the_overlap():
    values = [
        log_sobolev_bound(np.array([[1.0, d], [d, 1.0]]), np.array([0.5, 0.5]), np.ones(2))
        for d in (1e-2, 1e-4)
    ]
    assert np.isclose(values[1] / values[0], 100, rtol=0.2)


def test_clusters_are_numbered_by_weight_and_times_scale(rng):
    parts = line([0.0, 1.0, 30.0, 90.0], weights=[0.1, 0.1, 0.3, 0.5])
    found = analyse_clusters(parts, rng, MIN_OVERLAP)
    np.testing.assert_array_equal(found.cluster, [2, 2, 1, 0])
    np.testing.assert_allclose(found.weights, [0.5, 0.3, 0.2])
    assert np.all(found.departure_probability(10.0) < 1e-9)
    assert set(found.pair_mixing(10.0).values()) == {"apart"}
    assert found.describe(10.0).count("keeps the weight") == 3
    assert np.isinf(found.log_sobolev_all)
    one = analyse_clusters(line([0.0]), rng, MIN_OVERLAP)
    assert "nothing is known of modes" in one.describe(1.0)


@pytest.mark.parametrize("distance", [4.0, 4.5, 5.0, 6.0, 8.0])
def test_the_verdict_agrees_with_crossings_that_are_counted(distance, rng):
    parts = line([0.0, distance], weights=[0.3, 0.7])
    found = analyse_clusters(parts, rng, MIN_OVERLAP)
    assert len(found) == 2
    step, n = 0.05, 2_000
    z, _ = parts.draw(n, rng)
    home = found.cluster[parts.label(z)]
    marks = [20, 100, 1000]
    for mark, end in zip(
        marks, run_langevin(parts.score, z, np.eye(1), step, marks, rng), strict=True
    ):
        moved = found.cluster[parts.label(end)] != home
        verdict = found.pair_mixing(step * mark)[0, 1]
        expected = found.departure_probability(step * mark)
        for c in (0, 1):
            share = np.mean(moved[home == c])
            error = np.sqrt(max(share * (1 - share), 1 / n) / np.sum(home == c))
            # Points near the border count as having crossed at once: as many as the overlap says.
            border = found.overlap[0, 1]
            assert expected[c] / 1.6 - 4 * error - border < share
            assert share < 1.6 * expected[c] + 4 * error + border
            if verdict == "apart":
                assert share < 0.05 + border + 4 * error
            if verdict == "mixes":
                assert share > 0.8 * found.weights[1 - c] - 4 * error
