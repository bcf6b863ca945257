"""Errors of weighted samples: by strata, for many groups, and of modes with few draws each."""

from __future__ import annotations

import numpy as np
import pytest
from densities import Mixture
from searches import settled_search

from pymc_multimodal.approximation import (
    FirstAnswer,
    LeftOut,
    WeightedSample,
    first_round,
    negligible_modes,
)
from pymc_multimodal.proposals import EllipticalMixture, GaussianMixture
from pymc_multimodal.search import ModeSearch, modes_of
from pymc_multimodal.target import Target

LINE = np.full(2, np.inf)


def many_normals(k, dim, seed=0):
    """Normals of equal width, at least 12 standard deviations apart on the first two axes."""
    rng = np.random.default_rng(seed)
    means = np.zeros((k, dim))
    means[:, :2] = 12.0 * np.array([divmod(i, 10) for i in range(k)])
    weights = rng.uniform(1.0, 3.0, k)
    return Mixture(means, [np.eye(dim)] * k, weights / weights.sum())


def modes_at_means(target, rng):
    density, settings = target.density(), ModeSearch(starts=target.means + 0.3)
    search = settled_search(density, settings, rng)
    return Target(density), search, modes_of(density, search, settings)


@pytest.mark.parametrize("k", [1, 2, 7])
def test_errors_of_groups_are_those_of_their_indicators(k, rng):
    counts = np.array([40, 1, 0, 25, 2])
    stratum = np.repeat(np.arange(5), counts)
    logp = np.where(rng.random(68) < 0.1, -np.inf, rng.standard_normal(68))
    sample = WeightedSample(np.zeros((68, 1)), logp, np.zeros(68), stratum, counts)
    group, share = rng.integers(-1, k, 68), rng.random(k)
    inside = group[:, None] == np.arange(k)
    expected = sample.standard_error(sample.ratio[:, None] * (inside - share))
    np.testing.assert_allclose(sample.group_errors(group, share), expected, rtol=1e-9)
    np.testing.assert_allclose(
        sample.group_means(group, k), (sample.ratio[:, None] * inside).mean(axis=0)
    )


def test_components_get_their_shares_of_the_draws(rng):
    """Numbers differ from the shares by less than one, and not in the mean."""
    weights, same = np.array([0.62, 0.33, 0.05]), np.stack([np.eye(2)] * 3)
    inner = GaussianMixture(weights, np.zeros((3, 2)), same)
    q = EllipticalMixture(inner, np.array([np.inf, 5.0, 3.0]), LINE, np.zeros(2))
    counts = np.array([np.bincount(q.sample_evenly(37, rng)[1], minlength=3) for _ in range(2000)])
    assert (counts.sum(axis=1) == 37).all()
    assert (np.abs(counts - 37 * weights) < 1).all()
    # The variance of a number that is rounded at random is at most 1/4.
    np.testing.assert_allclose(counts.mean(axis=0), 37 * weights, atol=4 * 0.5 / 2000**0.5)


def test_errors_of_many_modes_are_calibrated(rng):
    """Each mode has some 150 draws, of which a tenth are of its tails."""
    target = many_normals(100, 8)
    folded, search, modes = modes_at_means(target, rng)
    assert len(modes) == 100
    found = first_round(folded, modes, search.distribution, FirstAnswer(), 0.01, rng)
    assert found.verdict.precise
    weights = found.weights
    z = (weights.weight - target.weights[target.component(modes.locations)]) / weights.weight_se
    # The mean of 100 squares of normal variables is 1 within 4 * sqrt(2 / 100).
    assert 1 - 4 * np.sqrt(2 / 100) < np.mean(z**2) < 1 + 4 * np.sqrt(2 / 100)
    assert np.abs(z).max() < 4.5
    assert abs(weights.total) < 4 * weights.total_se


def test_of_many_modes_none_is_negligible_for_being_small_beside_all(rng):
    """One of a hundred modes holds less than the error asked for, and half as much as others do."""
    target = many_normals(100, 2)
    folded, search, modes = modes_at_means(target, rng)
    every = np.ones(len(modes), dtype=bool)
    small = negligible_modes(
        folded, modes, search.distribution, every, 0.02, rng, LeftOut.of(search.optima)
    )
    assert not small.any()
