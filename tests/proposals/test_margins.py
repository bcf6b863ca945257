"""Densities of independent coordinates against SciPy's distributions and finite differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import ortho_group

from pymc_multimodal.proposals import EllipticalMixture, Margins, WeightedDensities, joined

SIDE = 0.3 * np.sinh(np.linspace(np.arcsinh(1.0), np.arcsinh(40.0 / 0.3), 12))
KNOTS = np.concatenate([-SIDE[::-1], [0.0], SIDE])
LINE = np.full(2, np.inf)
DISTRIBUTIONS = {
    "normal": stats.norm(),
    "wider than thought": stats.norm(scale=2.5),
    "narrower than thought": stats.norm(scale=0.4),
    "t, 2 degrees": stats.t(2),
    "Cauchy": stats.cauchy(),
    "logistic": stats.logistic(),
    "Gumbel": stats.gumbel_r(),
    "skew-normal": stats.skewnorm(5.0, loc=-0.35, scale=0.8),
}


def margins_of(distributions, rotation=None):
    values = np.stack([one.logpdf(KNOTS) for one in distributions])
    rotation = np.eye(len(distributions)) if rotation is None else rotation
    return Margins.through(KNOTS, values, rotation)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_divergence_from_a_distribution_known_at_25_points_is_small(name, rng):
    exact = DISTRIBUTIONS[name]
    margins = margins_of([exact])
    x = exact.rvs(20_000, random_state=rng)[:, None]
    gap = exact.logpdf(x[:, 0]) - margins.log_density(x)
    assert gap.mean() < 4 * gap.std() / np.sqrt(len(x)) + 1e-3
    assert gap.std() < 0.08


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_draws_have_the_density_and_its_integral_is_one(name, rng):
    exact, margins = DISTRIBUTIONS[name], margins_of([DISTRIBUTIONS[name]])
    x = margins.sample(40_000, rng)
    # The mean ratio of any other density to this one is one.
    other = stats.norm(scale=0.3)
    ratio = np.exp(other.logpdf(x[:, 0]) - margins.log_density(x))
    assert abs(ratio.mean() - 1.0) < 4 * ratio.std() / np.sqrt(len(x))
    ends = np.array([-3.0, -1.0, 0.3, 1.0, 4.0])
    below = (x < ends).mean(axis=0)
    error = np.sqrt(below * (1 - below) / len(x))
    np.testing.assert_array_less(np.abs(below - exact.cdf(ends)), 4 * error + 2e-3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.0, 30.0), min_size=24, max_size=24), st.integers(0, 2**32 - 1))
def test_whatever_the_heights_are_a_density_is_normalised_and_draws_have_it(falls, seed):
    down = np.cumsum(falls[:12])
    values = -np.concatenate([down[::-1], [0.0], np.cumsum(falls[12:])])
    margins = Margins.through(KNOTS, values[None], np.eye(1))
    x = margins.sample(4_000, np.random.default_rng(seed))
    other = stats.norm(scale=0.5)
    ratio = np.exp(other.logpdf(x[:, 0]) - margins.log_density(x))
    grid = np.linspace(-5.0, 5.0, 20_001)[:, None]
    variance = np.exp(2 * other.logpdf(grid[:, 0]) - margins.log_density(grid)).sum() / 2000 - 1
    assert abs(ratio.mean() - 1.0) < 6 * np.sqrt((max(variance, 0.0) + 1e-3) / len(x))


def test_another_mode_on_the_way_outwards_is_left_out():
    two = np.logaddexp(stats.norm.logpdf(KNOTS), stats.norm.logpdf(KNOTS, 12.0, 1.0))
    margins = Margins.through(KNOTS, two[None], np.eye(1))
    here, there = margins.log_density(np.array([[0.0], [12.0]]))
    assert here == pytest.approx(stats.norm.logpdf(0.0), abs=0.05)
    assert there < here - 8


def test_points_without_a_finite_density_are_left_out(rng):
    values = np.where(KNOTS > 1.0, -np.inf, stats.norm.logpdf(KNOTS))
    margins = Margins.through(KNOTS, values[None], np.eye(1))
    x = margins.sample(1_000, rng)
    assert np.isfinite(x).all()
    assert np.isfinite(margins.log_density(x)).all()


def test_the_coordinates_are_independent_along_rotated_axes(rng):
    rotation = ortho_group.rvs(3, random_state=rng)
    marginals = [DISTRIBUTIONS[name] for name in ("Gumbel", "t, 2 degrees", "normal")]
    margins = margins_of(marginals, rotation)
    x = rng.standard_normal((50, 3))
    along = x @ rotation
    each = [margins_of([one]).log_density(along[:, i : i + 1]) for i, one in enumerate(marginals)]
    np.testing.assert_allclose(margins.log_density(x), np.sum(each, axis=0))
    z = margins.sample(20_000, rng) @ rotation
    for i, one in enumerate(marginals):
        assert stats.kstest(z[:, i], one.cdf).statistic < 0.02


def test_components_with_margins_are_part_of_a_mixture(rng):
    margins = margins_of([DISTRIBUTIONS["Gumbel"], DISTRIBUTIONS["Cauchy"]])
    mean, scale = np.array([1.0, -2.0]), np.array([[2.0, 0.0], [0.5, 0.3]])
    own = EllipticalMixture.independent(mean, scale, margins, LINE)
    tail = EllipticalMixture.single(mean, 2 * scale, 3.0, LINE, mean)
    q = joined([own, tail], [0.8, 0.2], base=own)
    x = mean + rng.standard_normal((40, 2))
    whitened = np.linalg.solve(scale, (x - mean).T).T
    log_own = margins.log_density(whitened) - np.log(np.linalg.det(scale))
    np.testing.assert_allclose(own.log_density(x), log_own)
    both = np.logaddexp(np.log(0.8) + log_own, np.log(0.2) + tail.log_density(x))
    np.testing.assert_allclose(q.log_density(x), both)
    h = 1e-6
    slopes = [(q.log_density(x + e) - q.log_density(x - e)) / (2 * h) for e in h * np.eye(2)]
    np.testing.assert_allclose(q.score(x), np.stack(slopes, axis=1), rtol=1e-4, atol=1e-5)
    y, component = q.sample_evenly(10_000, rng)
    assert np.mean(component == 0) == pytest.approx(0.8, abs=1e-3)
    ratio = np.exp(tail.log_density(y) - q.log_density(y))
    assert abs(ratio.mean() - 1.0) < 4 * ratio.std() / np.sqrt(len(y))
    # Sums over members, and of each row its own.
    logs = WeightedDensities([q, tail], np.log([0.5, 0.5])).log_density(x)
    np.testing.assert_allclose(logs, np.logaddexp(both, tail.log_density(x)) + np.log(0.5))
    which = rng.integers(2, size=len(x))
    each = EllipticalMixture.log_density_of_each([q, tail], x, which)
    np.testing.assert_allclose(each, np.where(which == 0, both, tail.log_density(x)))
