"""Sums over many densities leave out only what adds next to nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from pymc_multimodal.proposals import (
    EllipticalMixture,
    GaussianMixture,
    WeightedDensities,
    defensive_mixture,
)

LINE = np.full(3, np.inf)


def densities(n, spread, rng, period=LINE):
    """Gaussians and mixtures of two, each with its defensive component."""
    out = []
    for i in range(n):
        size = 1 + i % 2
        means = spread * rng.standard_normal(3) + rng.standard_normal((size, 3))
        factors = np.linalg.cholesky(
            [np.cov(rng.standard_normal((3, 9))) + 0.1 * np.eye(3) for _ in range(size)]
        )
        inner = GaussianMixture(np.full(size, 1 / size), means, factors)
        heavy = np.where(rng.random(size) < 0.3, 5.0, np.inf)
        out.append(defensive_mixture(EllipticalMixture(inner, heavy, period, means[0])))
    return out


@pytest.mark.parametrize("n", [3, 60])
@pytest.mark.parametrize("spread", [0.5, 8.0, 200.0])
@pytest.mark.parametrize("period", [LINE, np.array([np.inf, 6.0, np.inf])], ids=["line", "circle"])
def test_the_sum_is_that_of_all_densities(n, spread, period, rng):
    qs = densities(n, spread, rng, period)
    x = np.concatenate([q.sample(4, rng) for q in qs])
    x = np.concatenate([x[np.isfinite(x).all(axis=1)], 1e4 * rng.standard_normal((5, 3))])
    log_weights = np.log(rng.dirichlet(np.ones(n)))
    expected = logsumexp([w + q.log_density(x) for q, w in zip(qs, log_weights, strict=True)], 0)
    weighted = WeightedDensities(qs, log_weights)
    np.testing.assert_allclose(weighted.log_density(x), expected, rtol=0, atol=2e-7)
    terms = weighted.terms(x)
    np.testing.assert_allclose(terms.log_sum, expected, rtol=0, atol=2e-7)
    each = np.array([w + q.log_density(x) for q, w in zip(qs, log_weights, strict=True)])
    np.testing.assert_allclose(each[terms.member, terms.row], terms.log_term, rtol=1e-9)
    np.testing.assert_allclose(np.bincount(terms.row, terms.share), 1.0)
    member, top = weighted.largest(x)
    np.testing.assert_array_equal(member, each.argmax(axis=0))
    np.testing.assert_allclose(top, each.max(axis=0), rtol=1e-9)


def test_rows_with_densities_of_their_own_are_computed_together(rng):
    qs = densities(7, 5.0, rng)
    which = rng.integers(7, size=50)
    x = 5.0 * rng.standard_normal((50, 3))
    expected = [qs[k].log_density(row[None])[0] for k, row in zip(which, x, strict=True)]
    found = EllipticalMixture.log_density_of_each(qs, x, which)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("n", [3, 60])
def test_no_points_have_no_terms(n, rng):
    weighted = WeightedDensities(densities(n, 5.0, rng), np.log(np.full(n, 1 / n)))
    none = np.empty((0, 3))
    assert weighted.log_density(none).shape == (0,)
    assert len(weighted.terms(none).row) == 0
    assert [part.shape for part in weighted.largest(none)] == [(0,), (0,)]
