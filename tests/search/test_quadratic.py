"""Quadratic functions by regression: exact where the log density is one, and refused elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from densities import StudentT, gaussian, two_modes

from pymc_multimodal.search.quadratic import (
    POINTS_PER_COEFFICIENT,
    Evaluated,
    fit_quadratic,
    n_coefficients,
)


def no_periods(x, centre):
    return x


def fitted(target, x, spread=5.0):
    """Fit around the highest of some points."""
    logp = target.logp(x)
    best = np.argmax(logp)
    unit = np.full(x.shape[1], spread)
    return fit_quadratic(Evaluated(x, logp), x[best], logp[best], unit, no_periods)


def covariance(d, rng, condition=1e4):
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return (turn * np.geomspace(1.0 / condition, 1.0, d)) @ turn.T


@pytest.mark.parametrize("d", [1, 2, 5, 8])
def test_a_normal_density_is_found_exactly(d, rng):
    mean, cov = rng.standard_normal(d), covariance(d, rng)
    target = gaussian(mean, cov)
    fit = fitted(target, target.draws(3 * n_coefficients(d), rng))
    np.testing.assert_allclose(fit.x, mean, atol=1e-6)
    np.testing.assert_allclose(fit.hessian @ cov, np.eye(d), atol=1e-6)
    assert fit.logp == pytest.approx(target.logp(mean[None])[0], abs=1e-8)
    assert fit.error < 1e-6


def test_too_few_points_say_nothing(rng):
    target = gaussian(np.zeros(3), np.eye(3))
    least = int(np.ceil(POINTS_PER_COEFFICIENT * n_coefficients(3)))
    x = 0.5 * target.draws(least, rng)
    assert fitted(target, x[:-1]) is None
    assert fitted(target, x) is not None


def test_points_in_a_plane_say_nothing(rng):
    x = rng.standard_normal((200, 3))
    x[:, 2] = x[:, 0]
    assert fitted(gaussian(np.zeros(3), np.eye(3)), x) is None


def test_a_saddle_and_a_slope_have_no_maximum(rng):
    x = 0.3 * rng.standard_normal((100, 2))
    for logp in (x[:, 0] ** 2 - x[:, 1] ** 2, 3 * x[:, 0] - 1e-6 * (x**2).sum(1)):
        best = np.argmax(logp)
        known = Evaluated(x, logp)
        assert fit_quadratic(known, x[best], logp[best], np.ones(2), no_periods) is None


def test_a_rough_density_is_refused(rng):
    x = rng.standard_normal((300, 3))
    logp = -0.5 * (x**2).sum(1) + np.where(rng.random(300) < 0.5, 1.0, 0.0)
    best = np.argmax(logp)
    assert fit_quadratic(Evaluated(x, logp), x[best], logp[best], np.ones(3), no_periods) is None


def test_points_of_another_mode_are_left_out(rng):
    target = two_modes(3, distance=8.0)
    fit = fitted(target, target.draws(200, rng))
    k = np.argmin(np.linalg.norm(target.means - fit.x, axis=1))
    np.testing.assert_allclose(fit.x, target.means[k], atol=0.02)
    np.testing.assert_allclose(fit.hessian @ target.covariances[k], np.eye(3), atol=0.05)


def test_the_fit_of_a_heavy_tail_grows_no_further_than_it_describes(rng):
    target = StudentT(2, 4.0)
    fit = fitted(target, 0.3 * target.draws(2000, rng), spread=3.0)
    assert fit.error < 1.0
    # The curvature at the mode of a t density is (df + d) / df.
    np.testing.assert_allclose(fit.hessian, 1.5 * np.eye(2), atol=0.3)


def test_the_error_says_how_well_the_function_describes(rng):
    exact = gaussian(np.zeros(3), np.eye(3))
    heavy = StudentT(3, 2.0)
    x = 0.4 * rng.standard_normal((28, 3))
    assert fitted(exact, x).error < 1e-6 < fitted(heavy, x).error
