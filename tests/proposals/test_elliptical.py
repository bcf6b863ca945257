"""Elliptical densities against SciPy and finite differences, and their defensive component."""

from __future__ import annotations

import numpy as np
import pytest
from densities import StudentT, z_scores
from scipy.stats import multivariate_normal, multivariate_t

from pymc_multimodal.proposals import (
    EllipticalMixture,
    GaussianMixture,
    defensive_mixture,
    joined,
)

LINE = np.full(2, np.inf)


def elliptical(df=(np.inf,), period=LINE, centre=(0.0, 0.0), size=1.7):
    """A density with one component for each of `df`, along the diagonal."""
    j = len(df)
    means = np.asarray(centre) + 2.5 * np.linspace(-1.0, 1.0, j)[:, None] * (j > 1)
    factor = size * np.linalg.cholesky(np.array([[1.0, 0.4], [0.4, 1.0]]))
    weights = np.arange(1.0, j + 1) / np.arange(1.0, j + 1).sum()
    mixture = GaussianMixture(weights, means, np.stack([factor] * j))
    return EllipticalMixture(mixture, np.array(df), period, np.asarray(centre))


@pytest.mark.parametrize("df", [np.inf, 3.0])
def test_one_component_is_scipys_density(df, rng):
    q = elliptical((df,), centre=(1.0, -2.0))
    covariance = q.scales[0] @ q.scales[0].T
    x = 10 * rng.standard_normal((50, 2))
    exact = (
        multivariate_normal(q.means[0], covariance).logpdf(x)
        if np.isinf(df)
        else multivariate_t(q.means[0], covariance, df=df).logpdf(x)
    )
    np.testing.assert_allclose(q.log_density(x), exact)


def test_a_circular_density_is_periodic(rng):
    q = elliptical((3.0, np.inf), np.array([2 * np.pi, np.inf]), (2.8, 0.0), 1.2)
    x = rng.uniform(-3, 3, (50, 2))
    before = x.copy()
    np.testing.assert_allclose(q.log_density(x + np.array([2 * np.pi, 0.0])), q.log_density(x))
    np.testing.assert_array_equal(x, before)
    drawn = q.sample(1_000, rng)
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    assert np.abs(drawn[:, 0]).max() <= np.pi


def test_score_is_the_gradient(rng):
    q = elliptical((np.inf, 5.0, np.inf), np.array([20.0, np.inf]))
    x, h = 3 * rng.standard_normal((50, 2)), 1e-5
    slopes = [(q.log_density(x + e) - q.log_density(x - e)) / (2 * h) for e in h * np.eye(2)]
    np.testing.assert_allclose(q.score(x), np.stack(slopes, axis=1), rtol=1e-6, atol=1e-7)


def test_the_family_is_that_of_the_undefended_density():
    one, two = elliptical((4.0,)), elliptical((np.inf, np.inf))
    assert defensive_mixture(one).family == one.family == "gaussian"
    assert defensive_mixture(two).family == two.family == "mixture"
    assert defensive_mixture(two).undefended is two


def test_a_joined_density_is_the_sum_of_its_parts(rng):
    parts, shares = [elliptical((4.0, np.inf)), elliptical((np.inf,), size=0.3)], [0.7, 0.3]
    q = joined(parts, shares, base=parts[0])
    x = 3 * rng.standard_normal((50, 2))
    exact = sum(w * np.exp(part.log_density(x)) for w, part in zip(shares, parts, strict=True))
    np.testing.assert_allclose(np.exp(q.log_density(x)), exact)
    assert q.undefended is parts[0]
    assert joined(parts, shares).undefended.family == "mixture"
    with pytest.raises(ValueError, match="zip"):
        joined(parts, [1.0])


# ------------------------------------------------------------------ the defensive component


def test_the_defensive_component_bounds_the_ratio(rng):
    """For targets whose tails are no heavier than its own, wherever one looks."""
    narrow = elliptical(size=0.3)
    q = defensive_mixture(narrow, 0.05, 4.0, width=1.2)
    assert np.isclose(q.weights.sum(), 1.0)
    direction = rng.standard_normal((20, 2))
    far = np.concatenate([r * direction for r in (1e1, 1e3, 1e6)])
    target = StudentT(2, 4.0)
    ratio = target.logp(far) - q.log_density(far)
    # Both fall like r^-6; the gap is log 0.05 and the scales' ratio: 0.36^-4 (t) at most 1e4.
    assert np.ptp(ratio) < 3
    assert ratio.max() < np.log(1 / 0.05) + 4 * np.log(1 / 0.2)
    assert (target.logp(far) - narrow.log_density(far)).max() > 1e6


def test_the_defensive_component_has_the_mixtures_covariance(rng):
    base = elliptical((np.inf, np.inf, np.inf))
    q = defensive_mixture(base, 0.5, 1e6, width=1.0)
    x = base.sample(200_000, rng)
    scale = q.scales[-1]
    z = np.linalg.solve(scale, (x - q.means[-1]).T).T
    values = np.stack([z[:, 0], z[:, 1], z[:, 0] ** 2, z[:, 1] ** 2, z[:, 0] * z[:, 1]], axis=1)
    assert np.abs(z_scores(values, [0, 0, 1, 1, 0])).max() < 4
