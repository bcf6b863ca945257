"""Curvature is measured in any units, and barriers along curved ridges."""

from __future__ import annotations

import numpy as np
import pytest
from densities import Mixture, Ring, gaussian

from pymc_multimodal.search import triangular
from pymc_multimodal.search.curvature import (
    barriers,
    common_scale,
    inverse_scale,
    negative_hessian,
)
from pymc_multimodal.target.density import Density


class LogCosh:
    """A logistic-like peak: minus sum of log cosh(x / size), curvature 1 / size^2 at zero."""

    def __init__(self, size):
        self.size = np.asarray(size)

    def __call__(self, x):
        y = x / self.size
        return -np.log(np.cosh(y)).sum(axis=1), -np.tanh(y) / self.size


@pytest.mark.parametrize("exponent", [-8, -4, 0, 4, 8])
@pytest.mark.parametrize("wider", [1.0, 30.0, 1e3])
@pytest.mark.parametrize("gradient", [True, False])
def test_curvature_is_measured_in_any_units(exponent, wider, gradient):
    """Starts may be spread `wider` than the peak, whose coordinates have different units."""
    size = 10.0 ** np.array([exponent, -exponent, 0.0])
    covariance = np.array([[1.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 1.0]])
    target = gaussian(np.zeros(3), covariance * np.outer(size, size))
    hessian = negative_hessian(target.density(gradient=gradient), np.zeros(3), wider * size)
    expected = np.linalg.inv(covariance)
    # Values alone have the step's square as error and rounding over the step's square.
    tolerance = 1e-6 if gradient else 1e-4
    np.testing.assert_allclose(hessian * np.outer(size, size), expected, atol=tolerance)
    peak = Density(LogCosh(size), 3)
    found = negative_hessian(peak, np.zeros(3), wider * size) * np.outer(size, size)
    # The last step is at most 3e-3 of the width that the first one saw.
    np.testing.assert_allclose(found, np.eye(3), atol=1e-3)


def test_triangular_factors_keep_the_product(rng):
    root = rng.standard_normal((4, 3, 3))
    factor = triangular(root)
    np.testing.assert_allclose(factor @ factor.swapaxes(1, 2), root @ root.swapaxes(1, 2))
    np.testing.assert_array_equal(factor, np.tril(factor))
    assert (np.diagonal(factor, axis1=1, axis2=2) > 0).all()


def test_no_direction_is_wider_than_the_starts():
    hessian = np.diag([4.0, 0.0, -1.0])
    scale = inverse_scale(hessian[None], np.array([2.0, 3.0, 5.0]))[0]
    np.testing.assert_allclose(scale @ scale.T, np.diag([0.25, 9.0, 25.0]), atol=1e-12)


def test_the_common_scale_is_the_mean_covariance_of_the_modes(rng):
    spread = np.array([1.0, 10.0, 100.0])
    scale = triangular(rng.standard_normal((4, 3, 3)) * spread[:, None])
    root = common_scale(scale, spread)
    np.testing.assert_array_equal(root, np.tril(root))
    mean = (scale @ scale.swapaxes(1, 2)).mean(axis=0)
    ratio = root @ root.T / mean
    np.testing.assert_allclose(ratio, ratio[0, 0])
    # In units of the spread the mean of the squared widths is one.
    assert np.mean(np.sum(root**2, axis=1) / spread**2) == pytest.approx(1.0)
    np.testing.assert_array_equal(common_scale(scale[:0], spread), np.diag(spread))


def test_a_straight_path_measures_the_valley():
    target = Mixture([[-3.0], [3.0]], [np.eye(1)] * 2, [0.5, 0.5])
    x = np.array([[-3.0], [3.0]])
    logp, scale = target.logp(x), np.ones((2, 1, 1))
    valley = target.logp(np.zeros((1, 1)))[0]
    found = barriers(target.density(), x, logp, scale, np.array([[0, 1]]))
    np.testing.assert_allclose(found, logp.min() - valley, rtol=1e-6)


@pytest.mark.parametrize("gradient", [True, False])
def test_a_path_is_bent_along_a_ridge_where_there_is_a_gradient(gradient):
    density = Ring().density(gradient=gradient)
    x = np.array([[3.0, 0.0], [0.0, 3.0]])
    scale = inverse_scale(
        np.stack([negative_hessian(density, p, np.full(2, 3.0)) for p in x]), np.full(2, 3.0)
    )
    height = barriers(density, x, density.logp(x), scale, np.array([[0, 1]]))[0]
    assert (height < 1.0) == gradient
    assert height > -0.1
