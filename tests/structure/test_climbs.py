"""Climbs in all units at once."""

from __future__ import annotations

import numpy as np
import pytest

from pymc_multimodal.structure.climbs import climb_units
from pymc_multimodal.structure.explanations import explain
from pymc_multimodal.target import Structure, chosen_units
from tests.unit_targets import density_of, uneven


def normals(rng, n_units, size):
    """Return a density of independent normals in units, with means and covariances."""
    mean = 3 * rng.standard_normal((n_units, size))
    root = rng.standard_normal((n_units, size, size)) + 2 * np.eye(size)
    covariance = root @ root.swapaxes(1, 2)
    precision = np.linalg.inv(covariance)

    def function(x):
        step = x.reshape(len(x), n_units, size) - mean
        return -0.5 * np.einsum("nui,uij,nuj->nu", step, precision, step)

    depends = np.kron(np.eye(n_units), np.ones((1, size)))
    d = n_units * size
    density = density_of(function, depends, lambda n, g: 5 * g.standard_normal((n, d)))
    return density, mean, covariance


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_normal_is_found_exactly(size, rng):
    density, mean, covariance = normals(rng, 5, size)
    units = chosen_units(density, True)
    starts = 5 * rng.standard_normal((3, 5, size))
    ends = climb_units(density, units, np.zeros((3, 0)), starts, np.full((5, size), 5.0), 30)
    assert ends.ended.all()
    np.testing.assert_allclose(ends.z, np.broadcast_to(mean, ends.z.shape), atol=2e-2)
    found = ends.scale @ ends.scale.swapaxes(-1, -2)
    np.testing.assert_allclose(
        found, np.broadcast_to(covariance, found.shape), rtol=1e-3, atol=1e-3
    )
    log_z = 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    np.testing.assert_allclose(ends.log_mass, np.broadcast_to(log_z, (3, 5)), atol=1e-3)


def test_no_width_exceeds_the_spread(rng):
    density, _, _ = normals(rng, 4, 1)
    units = chosen_units(density, True)
    spread = np.full((4, 1), 0.1)
    ends = climb_units(density, units, np.zeros((1, 0)), np.zeros((1, 4, 1)), spread, 5)
    assert (ends.scale <= 0.1 * (1 + 1e-9)).all()


def test_an_optimum_with_a_kink_has_a_width(rng):
    # exp(-|x|) has the standard deviation 1.4 and no curvature at its optimum.
    density = density_of(
        lambda x: -np.abs(x - 0.3), np.eye(3), lambda n, g: 3 * g.standard_normal((n, 3))
    )
    units = chosen_units(density, True)
    starts = rng.standard_normal((4, 3, 1))
    ends = climb_units(density, units, np.zeros((4, 0)), starts, np.full((3, 1), 3.0), 40)
    assert ends.ended.all()
    np.testing.assert_allclose(ends.z, 0.3, atol=0.1)
    assert ends.scale.min() > 0.1
    assert ends.scale.max() < 1.5


@pytest.mark.parametrize("kink", [True, False])
def test_the_bottom_of_a_valley_is_no_optimum(kink):
    """The slope vanishes there, and the curvature far away is that of an optimum."""

    def function(x):
        return -0.5 * ((np.abs(x) - 1.5) / 0.4) ** 2 if kink else -((x**2 - 2.25) ** 2)

    density = density_of(function, np.eye(3), lambda n, g: 4 * g.standard_normal((n, 3)))
    units = chosen_units(density, True)
    starts, spread = np.array([0.0, 1.2, -1.2])[:, None], np.full((3, 1), 4.0)
    ends = climb_units(density, units, np.zeros((1, 0)), starts[None], spread, 15)
    np.testing.assert_array_equal(ends.ended, [[False, True, True]])
    starts = np.repeat(starts[:, None], 3, axis=1)
    found = explain(density, units, np.zeros((1, 0)), starts, spread)
    assert found.z.shape[2] == 2
    np.testing.assert_allclose(np.sort(found.z[0, :, :, 0]), [[-1.5, 1.5]] * 3, atol=0.02)


def test_outside_of_the_support_no_climb_ends():
    def function(x):
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(x > 0, -x - 2 / x, -np.inf)

    density = density_of(function, np.eye(3), lambda n, g: g.standard_normal((n, 3)))
    units = chosen_units(density, True)
    starts = np.array([[[-1.0], [1.0], [2.0]]])
    ends = climb_units(density, units, np.zeros((1, 0)), starts, np.ones((3, 1)), 30)
    np.testing.assert_array_equal(ends.ended, [[False, True, True]])
    np.testing.assert_allclose(ends.z[0, 1:], np.sqrt(2), atol=1e-2)


def test_widths_of_very_different_size_are_no_error(rng):
    """One coordinate is a logarithm of a scale, whose slope far out is large, the other is flat."""

    def function(x):
        z = x.reshape(len(x), 3, 2)
        return (
            -np.exp(np.minimum(2 * z[..., 0], 600.0))
            + z[..., 0]
            - 0.5 * z[..., 1] ** 2 * z[..., 0] ** 2
        )

    density = density_of(
        function, np.kron(np.eye(3), np.ones((1, 2))), lambda n, g: 4 * g.standard_normal((n, 6))
    )
    units = chosen_units(density, True)
    starts = 10 * rng.standard_normal((8, 3, 2))
    ends = climb_units(density, units, np.zeros((8, 0)), starts, np.full((3, 2), 4.0), 3)
    assert np.isfinite(ends.scale).all()
    assert (np.diagonal(ends.scale, axis1=-2, axis2=-1) > 0).all()


def test_what_pads_a_small_unit_does_not_move(rng):
    """Differences along it are rounding, which would have been a slope."""
    density, _ = uneven()
    units = chosen_units(density, Structure())
    z = units.gather(density.prior_draws(32, rng))
    g = density.prior_draws(32, rng)[:, units.hubs]
    ends = climb_units(density, units, g, 3 * z, np.ones((11, 2)), 15)
    assert (units.sizes == [1] * 8 + [2] * 3).all()
    np.testing.assert_array_equal(ends.z[:, :8, 1], 0.0)
    np.testing.assert_array_equal(ends.scale[:, :8], ends.scale[:, :8] * np.eye(2))
    np.testing.assert_allclose(ends.scale[:, :8, 1, 1], 1.0, rtol=1e-12)


def test_explanations_that_are_bent_stay_at_hubs_nearby(rng):
    """Coarse differences at their optima promise a gain that is not there."""
    density, _ = uneven()
    units = chosen_units(density, Structure())
    starts, spread = units.gather(density.prior_draws(32, rng)), np.ones((11, 2))
    first = explain(density, units, np.array([[-0.5]]), starts, spread)
    hubs = np.array([[-0.8], [0.2]])
    z, width = (np.repeat(part.swapaxes(1, 2), 2, axis=0) for part in (first.z, first.width))
    there = explain(density, units, hubs, z, spread, 8, width)
    for found in (first, there):
        assert (np.isfinite(found.log_mass).sum(axis=2) == [1] * 8 + [2] * 3).all()
        assert (np.sort(np.sign(found.z[:, 8:, :, 0])) == [-1, 1]).all()
        np.testing.assert_allclose(found.share[:, 8:], 0.5, atol=0.1)
