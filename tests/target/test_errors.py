"""Two log densities are compared in nats, whatever the data add to both."""

from __future__ import annotations

import numpy as np
import pytest

from pymc_multimodal.target import equal_logp, rounding, same_density, unstable

DOUBLE, SINGLE = np.finfo(float).eps, float(np.finfo(np.float32).eps)


@pytest.mark.parametrize("constant", [0.0, -1e3, -1e6, 1e8])
def test_a_small_part_of_a_nat_is_a_difference_at_any_size(constant):
    here = constant + np.zeros(3)
    there = here + np.array([0.0, 0.01, -0.7])
    np.testing.assert_array_equal(equal_logp(there, here, DOUBLE), [True, False, False])
    assert not same_density(there, here, DOUBLE)
    assert len(unstable(there, here, DOUBLE)) == 1


@pytest.mark.parametrize("size", [1.0, 1e6, 1e12])
def test_rounding_is_no_difference(size, rng):
    """Sums in another order: the error of 10^5 terms."""
    terms = rng.random(100_000) * size / 5e4
    there = np.cumsum(terms)[-1:]
    here = np.cumsum(terms[::-1])[-1:]
    assert same_density(there, here, DOUBLE)
    single = np.cumsum(terms.astype(np.float32))[-1:].astype(float)
    assert abs(single - here) < rounding(here, SINGLE)
    assert same_density(single, here, SINGLE)


def test_outside_of_the_support():
    """Points without density are left out; an image without density is a difference."""
    here, there = np.array([-np.inf, -np.inf, 0.0]), np.array([-np.inf, 1.0, -np.inf])
    np.testing.assert_array_equal(equal_logp(there, here, DOUBLE), [True, True, False])
