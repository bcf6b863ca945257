"""Copies of points on circles: all are the same point, and lines are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from pymc_multimodal.target import displacement, into_window, is_circular, unroll, wrap

PERIOD = np.array([2 * np.pi, np.inf, 1.0])


def test_a_coordinate_of_finite_period_is_circular():
    np.testing.assert_array_equal(is_circular(PERIOD), [True, False, True])


def test_a_displacement_is_the_shortest_step(rng):
    x, centre = 50 * rng.standard_normal((2, 200, 3))
    step = displacement(x, centre, PERIOD)
    assert (np.abs(step[:, [0, 2]]) <= PERIOD[[0, 2]] / 2 * (1 + 1e-9)).all()
    np.testing.assert_array_equal(step[:, 1], x[:, 1] - centre[:, 1])
    turns = (x - centre - step)[:, [0, 2]] / PERIOD[[0, 2]]
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-9)
    np.testing.assert_array_equal(centre + step, centre + (unroll(x, centre, PERIOD) - centre))


def test_points_outside_of_the_window_have_no_value():
    centre = np.array([3.0, 0.0, 0.0])
    x = np.array([[3.0 + 3.0, 100.0, 0.4], [3.0 + 3.2, 0.0, 0.0], [3.0, 0.0, -0.6]])
    inside = into_window(x, centre, PERIOD)
    np.testing.assert_allclose(inside[0], wrap(x[0], PERIOD))
    assert np.isnan(inside[1:]).all()


@pytest.mark.parametrize("function", [unroll, into_window])
def test_lines_are_returned_as_they_are(function, rng):
    x = 1e3 * rng.standard_normal((5, 2))
    assert function(x, np.zeros(2), np.full(2, np.inf)) is x
