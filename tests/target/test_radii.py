"""Bounds of the distances from many centres."""

from __future__ import annotations

import numpy as np
import pytest

from pymc_multimodal.target.radii import RadiusBounds


@pytest.mark.parametrize("units", [np.ones(4), np.array([1e-6, 1.0, 1e3, 1e8])])
def test_bounds_hold_and_are_equal_where_all_covariances_are_one(units, rng):
    centres = 5.0 * rng.standard_normal((12, 4)) * units
    x = np.concatenate([centres, 20.0 * rng.standard_normal((80, 4)) * units])
    one = np.linalg.cholesky(np.cov(rng.standard_normal((4, 30))))
    factors = np.linalg.cholesky([np.cov(rng.standard_normal((4, 9))) for _ in range(12)])
    for scale in (factors, np.stack([one] * 12)):
        scale = units[:, None] * scale
        inverse = np.linalg.inv(scale)
        bounds = RadiusBounds(centres, scale, inverse)
        z = np.einsum("kij,nkj->nki", inverse, x[:, None] - centres)
        squared, lower = np.sum(z**2, axis=2), bounds.squared(x)
        assert (lower <= squared * (1 + 1e-12)).all()
        step = bounds.coordinates(x)[:, None] - bounds.y
        assert (bounds.most * np.sum(step**2, axis=2) >= squared * (1 - 1e-9)).all()
    np.testing.assert_allclose(lower, squared, rtol=1e-6, atol=1e-5)
