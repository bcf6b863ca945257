"""Triangular maps: inverses, Jacobians and gradients against finite differences and known laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pymc_multimodal.proposals import Dependence, EllipticalMixture, Margins, TriangularMap

KNOTS = np.linspace(-6.0, 6.0, 25)
LINE = np.full(3, np.inf)


def chain():
    """Return a map in which coordinate 2 moves 0, and 0 moves and scales 1."""
    first = Dependence(2, np.array([0]), KNOTS, KNOTS[:, None] ** 2, 0.0 * KNOTS[:, None])
    second = Dependence(0, np.array([1]), KNOTS, np.sin(KNOTS)[:, None], 0.1 * KNOTS[:, None])
    return TriangularMap(3, (first, second))


def test_shifts_and_scales_are_those_of_the_sources(rng):
    z = rng.uniform(-1.0, 1.0, size=(200, 3))
    y = chain().forward(z)
    np.testing.assert_allclose(y[:, 2], z[:, 2])
    np.testing.assert_allclose(y[:, 0], z[:, 2] ** 2 + z[:, 0], atol=1e-12)
    moved = np.sin(y[:, 0]) + np.exp(0.1 * y[:, 0]) * z[:, 1]
    np.testing.assert_allclose(y[:, 1], moved, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_inverse_is_that_of_the_map_and_the_sum_of_log_scales_its_jacobian(seed):
    rng = np.random.default_rng(seed)
    shifts, log_scales = rng.normal(size=(2, 25, 2)), 0.5 * rng.normal(size=(2, 25, 2))
    both = (
        Dependence(1, np.array([0, 2]), KNOTS, shifts[0], log_scales[0]),
        Dependence(0, np.array([2]), KNOTS, shifts[1][:, :1], log_scales[1][:, :1]),
    )
    mapped, z = TriangularMap(3, both), 2.0 * rng.standard_normal((20, 3))
    y = mapped.forward(z)
    back, stretch = mapped.inverse(y)
    np.testing.assert_allclose(back, z, rtol=1e-8, atol=1e-8)
    h = 1e-6
    columns = [(mapped.forward(z + e) - mapped.forward(z - e)) / (2 * h) for e in h * np.eye(3)]
    _, log_det = np.linalg.slogdet(np.stack(columns, axis=2))
    np.testing.assert_allclose(stretch, log_det, atol=1e-6)


def normal_margins(triangular):
    values = np.tile(stats.norm.logpdf(KNOTS), (3, 1))
    return Margins.through(KNOTS, values, np.eye(3), triangular)


def test_a_density_with_a_map_is_normalised_and_has_its_gradient(rng):
    mean, scale = np.array([0.5, -1.0, 2.0]), np.tril(rng.uniform(0.4, 1.0, (3, 3)))
    q = EllipticalMixture.independent(mean, scale, normal_margins(chain()), LINE)
    x = q.sample(40_000, rng)
    other = stats.multivariate_normal(mean, 0.2 * scale @ scale.T)
    ratio = np.exp(other.logpdf(x) - q.log_density(x))
    assert abs(ratio.mean() - 1.0) < 4 * ratio.std() / np.sqrt(len(x))
    # Between knots the log density is linear.
    at, h = x[:50], 1e-7
    slopes = [(q.log_density(at + e) - q.log_density(at - e)) / (2 * h) for e in h * np.eye(3)]
    near = np.isclose(q.score(at), np.stack(slopes, axis=1), rtol=1e-3, atol=1e-3).all(axis=1)
    assert near.mean() > 0.95


def test_a_bent_ridge_is_described_by_margins_and_a_map(rng):
    q, u = normal_margins(chain()), rng.standard_normal((2_000, 3))
    y = np.empty_like(u)
    y[:, 2] = u[:, 2]
    y[:, 0] = u[:, 0] + y[:, 2] ** 2
    y[:, 1] = np.sin(y[:, 0]) + np.exp(0.1 * y[:, 0]) * u[:, 1]
    exact = stats.norm.logpdf(u).sum(axis=1) - 0.1 * y[:, 0]
    gap = (exact - q.log_density(y))[np.abs(y[:, 0]) < 6.0]
    assert gap.std() < 0.1
    assert gap.mean() == pytest.approx(0.0, abs=0.02)


def test_beyond_the_knots_shifts_stay_what_they_are_at_the_last_one():
    mapped = chain()
    far = mapped.forward(np.array([[0.0, 0.0, 6.0], [0.0, 0.0, 60.0]]))
    np.testing.assert_allclose(far[0, :2], far[1, :2])
    slopes = mapped.dependences[0].slopes(np.array([60.0]))
    np.testing.assert_array_equal(slopes, 0.0)
