"""R-hat and ESS of many quantities at once are those of ArviZ, one after the other."""

from __future__ import annotations

import numpy as np
import pytest

from pymc_multimodal import _compat
from pymc_multimodal._diagnostics import ess, rank_diagnostics


@pytest.mark.parametrize("shape", [(16, 100, 4), (4, 9, 4), (2, 4, 4), (3, 7, 4), (1, 50, 4)])
@pytest.mark.parametrize("correlation", [0.0, 0.95, -0.5])
def test_all_quantities_at_once_are_as_arviz_has_each(shape, correlation, rng):
    x = rng.standard_normal(shape)
    for t in range(1, shape[1]):
        x[:, t] = correlation * x[:, t - 1] + np.sqrt(1 - correlation**2) * x[:, t]
    # Ties; a constant; a chain elsewhere.
    x[:, :, 0], x[:, :, 1] = np.round(x[:, :, 0]), 3.0
    x[0, :, 2] += 2.0
    np.testing.assert_allclose(ess(x, "mean"), _compat.ess(x, "mean"), rtol=1e-9)
    x[0, 0, 3] = -np.inf
    r_hat, bulk = rank_diagnostics(x)
    np.testing.assert_allclose(bulk, _compat.ess(x), rtol=1e-9)
    np.testing.assert_allclose(ess(x), bulk)
    np.testing.assert_allclose(r_hat, _compat.rhat(x), rtol=1e-9)


def test_what_is_not_defined_is_nan():
    few = np.zeros((4, 3, 2))
    assert np.isnan(rank_diagnostics(few)).all()
    assert np.isnan(ess(few, "mean")).all()
    holed = np.random.default_rng(0).standard_normal((4, 20, 2))
    holed[0, 0, 0] = np.nan
    np.testing.assert_array_equal(np.isnan(rank_diagnostics(holed)), [[True, False]] * 2)


def test_the_tail_index_of_equal_ratios_is_minus_infinity(rng):
    """ArviZ 1 refuses a tail of equal values; few ratios have no tail."""
    below = np.r_[-rng.random(800), np.zeros(200)]
    assert _compat.pareto_k(below) == -np.inf
    assert _compat.pareto_k(np.zeros(100)) == -np.inf
    assert np.isnan(_compat.pareto_k(np.zeros(24)))
    pareto = -np.log1p(-(np.arange(4000) + 0.5) / 4000) / 2.0
    assert abs(_compat.pareto_k(pareto) - 0.5) < 0.15
