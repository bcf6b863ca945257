"""Expected acceptance of independence jumps, against its definition and simulated jumps."""

from __future__ import annotations

import numpy as np
from densities import z_scores
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from pymc_multimodal.proposals import expected_acceptance

reproducible = settings(derandomize=True, deadline=None, database=None, max_examples=60)


def test_expected_acceptance_is_that_of_the_jumps(rng):
    pi, q = norm(0.0, 1.0), norm(0.5, 1.3)

    def log_w(x):
        return pi.logpdf(x) - q.logpdf(x)

    n = 400_000
    x, y = pi.rvs(n, random_state=rng), q.rvs(n, random_state=rng)
    exact = np.exp(np.minimum(0.0, log_w(y) - log_w(x)))
    found = np.array([expected_acceptance(log_w(part) + 3.0) for part in np.split(x, 100)])
    assert abs(z_scores(np.array(found)[:, None], exact.mean())[0]) < 4
    # The standard error of the exact mean is a tenth of that; both are about 1e-3 or less.
    assert abs(found.mean() - exact.mean()) < 0.005


@reproducible
@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40),
    st.floats(-1e3, 1e3),
)
def test_expected_acceptance_is_a_probability_whatever_the_constant(log_ratio, constant):
    log_ratio = np.array(log_ratio)
    a = expected_acceptance(log_ratio)
    assert 0 < a <= 1 + 1e-12
    np.testing.assert_allclose(expected_acceptance(log_ratio + constant), a, rtol=1e-9)
    assert np.isclose(expected_acceptance(np.full(len(log_ratio), constant)), 1.0)
    # By its definition: pairs of draws, each the other's proposal.
    v = np.exp(log_ratio.min() - log_ratio)
    np.testing.assert_allclose(a, np.minimum.outer(v, v).mean() / v.mean(), rtol=1e-9)
