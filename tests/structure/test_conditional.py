"""Mixtures of the units at given hubs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from pymc_multimodal.structure.conditional import Guess, UnitMixtures, log_sum
from pymc_multimodal.structure.explanations import Explanations


def conditional(n_units=3, size=1, n=1, points=8):
    """Return mixtures of two explanations, the second of them only in the first unit."""
    z = np.zeros((1, n_units, 2, size))
    z[:, :, 1] = 3.0
    scale = np.broadcast_to(0.5 * np.eye(size), (1, n_units, 2, size, size)).copy()
    log_mass = np.log(np.array([0.6, 0.4])) + np.zeros((1, n_units, 2))
    log_mass[:, 1:, 1] = -np.inf
    anchors = Explanations(np.zeros((1, 0)), z, scale, log_mass, np.zeros(1))
    inside = np.ones((n_units, size), dtype=bool)
    mixtures = UnitMixtures.at_anchors(
        anchors, np.zeros(0), np.zeros((n_units, size)), np.full((n_units, size), 2.0), inside
    )
    return mixtures.conditional(mixtures.at(np.zeros((n, 0))), points)


def test_the_density_is_normalised():
    x = np.linspace(-400, 400, 400_001)
    z = np.broadcast_to(x[:, None, None], (len(x), 3, 1))[None]
    log_q = log_sum(conditional().log_parts(z))[0]
    total = np.exp(log_q).sum(axis=0) * (x[1] - x[0])
    np.testing.assert_allclose(total, 1.0, atol=2e-4)


def test_in_two_dimensions_too():
    x = np.linspace(-80, 80, 801)
    grid = np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2)
    z = np.broadcast_to(grid[:, None], (len(grid), 3, 2))[None]
    log_q = log_sum(conditional(size=2).log_parts(z))[0]
    np.testing.assert_allclose(np.exp(log_q).sum(axis=0) * (x[1] - x[0]) ** 2, 1.0, atol=5e-3)


def test_draws_have_the_density(rng):
    at = conditional(n=4000)
    z = at.sample(5, rng)[..., 0]
    edges = np.array([-np.inf, -1.0, 0.0, 0.5, 1.5, 2.5, 3.0, 4.0, np.inf])
    x = np.linspace(-300, 300, 600_001)
    grid = np.broadcast_to(x[:, None, None], (len(x), 3, 1))[None]
    q = np.exp(log_sum(conditional().log_parts(grid))[0]) * (x[1] - x[0])
    for i in range(3):
        expected = np.histogram(x, edges, weights=q[:, i])[0]
        seen = np.histogram(z[:, :, i], edges)[0] / z[:, :, i].size
        np.testing.assert_allclose(seen, expected, atol=4 * 0.5 / np.sqrt(4000))


def mean_weight(at, z):
    """Mean weight of points (n, m, N, b), if each unit is half of a normal and half of another."""
    r2 = [np.square((z - c) / 0.5).sum(axis=3) for c in (0.0, 3.0)]
    log_normal = -z.shape[3] * np.log(0.5 * np.sqrt(2 * np.pi))
    target = log_normal + np.logaddexp(np.log(0.6) - 0.5 * r2[0], np.log(0.4) - 0.5 * r2[1])
    return np.exp(target - log_sum(at.log_parts(z)))[:, :, 0].mean(axis=1)


@pytest.mark.parametrize("size", [1, 2])
def test_mean_weights_are_unbiased_and_vary_less_than_those_of_independent_points(size, rng):
    n, m = 20_000, 16
    at = conditional(n=n, size=size, points=m)
    means = mean_weight(at, at.sample(m, rng))
    single = mean_weight(at, at.sample(1, rng))
    assert abs(means.mean() - 1.0) < 4 * means.std() / np.sqrt(n)
    assert means.var() < 0.6 * single.var() / m


def test_one_point_of_each_unit_is_of_the_wide_density(rng):
    m = 10
    at = conditional(n=500, points=m)
    # Its share is 1 / m, and the lattice divides the shares evenly.
    assert np.exp(at.log_share[..., -1]) == pytest.approx(1 / m)
    z = at.sample(m, rng)[:, :, 1, 0]
    far = (np.abs(z) > 6).sum(axis=1)
    assert far.max() <= 2


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_others_depend_on_a_given_point_as_if_all_had_been_drawn(size, rng):
    n, m = 20_000, 3
    at = conditional(n=n, size=size, points=m)
    fresh = at.sample(m, rng)
    row = rng.integers(m, size=n)
    z = at.sample(m, rng, fresh[np.arange(n), row])
    inside = [np.abs(v[..., 0, :]).max(axis=2) < 1 for v in (z, fresh)]
    counts = [np.bincount(v.sum(axis=1), minlength=m + 1) / n for v in inside]
    np.testing.assert_allclose(counts[0], counts[1], atol=4 * 0.5 / np.sqrt(n))
    pairs = [np.mean(np.tanh(v[:, 0, 0]) * np.tanh(v[:, 1, 0])) for v in (z, fresh)]
    assert abs(pairs[0] - pairs[1]) < 4 / np.sqrt(n)


def test_a_given_point_is_among_the_draws_and_keeps_the_others_fair(rng):
    n = 6000
    at = conditional(n=n)
    given = at.sample(1, rng)[:, 0]
    z = at.sample(4, rng, given)
    assert ((z == given[:, None]).any(axis=3).sum(axis=1) >= 1).all()
    # A point that was drawn, with others drawn as if with it, is a draw of all four together.
    fresh = at.sample(4, rng)
    for moment in (1, 2):
        a, b = (np.mean(np.clip(v[..., 0], -5, 5) ** moment, axis=(0, 1)) for v in (z, fresh))
        np.testing.assert_allclose(a, b, atol=0.15)
    # How many of the four are in the second explanation of the first unit.
    a, b = ((v[:, :, 0, 0] > 1.5).sum(axis=1) for v in (z, fresh))
    np.testing.assert_allclose(
        np.bincount(a, minlength=5) / n, np.bincount(b, minlength=5) / n, atol=0.03
    )


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 6)])
def test_log_sum_is_that_of_scipy(shape, rng):
    parts = rng.standard_normal(shape)
    parts[0, 0] = -np.inf
    np.testing.assert_allclose(log_sum(parts, axis=-1), logsumexp(parts, axis=-1))


def test_a_unit_without_an_explanation_is_covered_by_the_wide_density(rng):
    at = conditional()
    guess = Guess(at.mean, at.scale, np.full((1, 3, 2), -np.inf))
    mixtures = UnitMixtures.at_anchors(
        Explanations(np.zeros((1, 0)), at.mean, at.scale, guess.log_mass, np.zeros(1)),
        np.zeros(0),
        np.zeros((3, 1)),
        np.ones((3, 1)),
        np.ones((3, 1), dtype=bool),
    )
    z = mixtures.conditional(guess, 3).sample(3, rng)
    assert np.isfinite(z).all()
