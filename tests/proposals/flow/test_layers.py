"""Autoregressive layers: transport and its inverse, determinants, bounds."""

from __future__ import annotations

import numpy as np
import pytest
from densities import random_layer
from hypothesis import given, settings
from hypothesis import strategies as st

reproducible = settings(derandomize=True, deadline=None, database=None, max_examples=60)


def some_layer(seed, d, hidden, bounded):
    rng = np.random.default_rng(seed)
    layer = random_layer(d, rng, hidden=hidden)
    return (layer.bounded(rng.standard_normal((20, d))) if bounded else layer), rng


some_layers = {
    "seed": st.integers(0, 2**32 - 1),
    "hidden": st.sampled_from([(3,), (8, 8), (32, 32), (5, 20), (2, 2, 2)]),
    "bounded": st.booleans(),
}


@reproducible
@given(d=st.integers(2, 12), **some_layers)
def test_a_layer_and_its_inverse_undo_each_other(seed, d, hidden, bounded):
    layer, rng = some_layer(seed, d, hidden, bounded)
    x = 2 * rng.standard_normal((30, d))
    # Slopes are exp(-7) to exp(7) at worst; what rounding they leave is amplified by the rest.
    z, _ = layer.forward(x)
    np.testing.assert_allclose(layer.inverse(z), x, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(layer.forward(layer.inverse(x))[0], x, rtol=1e-7, atol=1e-7)


@reproducible
@given(d=st.integers(2, 6), **some_layers)
def test_log_determinant_is_that_of_the_jacobian(seed, d, hidden, bounded):
    layer, rng = some_layer(seed, d, hidden, bounded)
    x, h = rng.standard_normal((1, d)), 1e-5
    steps = h * np.eye(d)
    jacobian = (layer.forward(x + steps)[0] - layer.forward(x - steps)[0]).T / (2 * h)
    sign, log_det = np.linalg.slogdet(jacobian)
    assert sign > 0
    # Central differences: h^2 times third derivatives, and rounding over h.
    np.testing.assert_allclose(layer.forward(x)[1][0], log_det, atol=1e-5)
    sorted_jacobian = jacobian[np.ix_(layer.by_position, layer.by_position)]
    assert np.all(np.triu(sorted_jacobian, 1) == 0), "a coordinate sees one that comes later"


@pytest.mark.parametrize("seed", range(5))
def test_units_that_see_nothing_are_there_from_the_start(seed):
    """The first coordinate may depend on units that depend on no coordinate."""
    rng = np.random.default_rng(seed)
    layer = random_layer(4, rng, idle=True)
    x = rng.standard_normal((30, 4))
    np.testing.assert_allclose(layer.inverse(layer.forward(x)[0]), x, rtol=1e-9, atol=1e-9)


def test_rows_are_transported_by_themselves(rng):
    """Batches are cut into chunks; the order of many rows stays."""
    layer = random_layer(5, rng)
    z = rng.standard_normal((5_000, 5))
    x = layer.inverse(z)
    some = rng.integers(5_000, size=50)
    np.testing.assert_allclose(np.concatenate([layer.inverse(z[[i]]) for i in some]), x[some])
    np.testing.assert_allclose(layer.forward(x)[0], z, atol=1e-9)


def test_bounds_hold_shifts_and_slopes_to_what_draws_showed(rng):
    layer = random_layer(6, rng)
    seen = rng.standard_normal((200, 6))
    tight = layer.bounded(seen)
    for one, two in zip(tight.forward(seen), layer.forward(seen), strict=True):
        np.testing.assert_array_equal(one, two)
    _, low = layer.forward(seen)
    far = 1e3 * rng.standard_normal((200, 6))
    widest = 1.05 * np.ptp(layer.shifts_and_log_slopes(seen)[:, :, 1], axis=0).sum()
    assert np.abs(tight.forward(far)[1] - low.mean()).max() < 2 * widest
