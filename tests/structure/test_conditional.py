"""Mixtures of the units at given hubs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from pymc_multimodal.structure.conditional import Guess, UnitMixtures, log_sum
from pymc_multimodal.structure.explanations import Explanations


def conditional(n_units=3, size=1, n=1):
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
    return mixtures.conditional(mixtures.at(np.zeros((n, 0))))


def test_the_density_is_normalised():
    x = np.linspace(-400, 400, 400_001)
    z = np.broadcast_to(x[:, None, None], (len(x), 3, 1))[None]
    log_q = log_sum(conditional().log_parts(z))[0]
    total = np.exp(log_q).sum(axis=0) * (x[1] - x[0])
    np.testing.assert_allclose(total, 1.0, atol=2e-4)


def test_in_two_dimensions_too():
    x = np.linspace(-60, 60, 1201)
    grid = np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2)
    z = np.broadcast_to(grid[:, None], (len(grid), 3, 2))[None]
    log_q = log_sum(conditional(size=2).log_parts(z))[0]
    np.testing.assert_allclose(np.exp(log_q).sum(axis=0) * (x[1] - x[0]) ** 2, 1.0, atol=5e-3)


def test_draws_have_the_density(rng):
    at = conditional(n=4000)
    z = at.sample(5, rng)[..., 0]
    # Shares of the normals, the heavier densities and the wide one.
    edges = np.array([-np.inf, -1.0, 0.0, 0.5, 1.5, 2.5, 3.0, 4.0, np.inf])
    x = np.linspace(-300, 300, 600_001)
    grid = np.broadcast_to(x[:, None, None], (len(x), 3, 1))[None]
    q = np.exp(log_sum(conditional().log_parts(grid))[0]) * (x[1] - x[0])
    for i in range(3):
        expected = np.histogram(x, edges, weights=q[:, i])[0]
        seen = np.histogram(z[:, :, i], edges)[0] / z[:, :, i].size
        np.testing.assert_allclose(seen, expected, atol=4 * 0.5 / np.sqrt(4000))


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
    np.testing.assert_allclose(log_sum(parts), logsumexp(parts, axis=-1))


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
    z = mixtures.conditional(guess).sample(3, rng)
    assert np.isfinite(z).all()
