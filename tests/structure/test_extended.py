"""Several points of every unit, and what they say of its explanations."""

from __future__ import annotations

import numpy as np

from pymc_multimodal.structure.conditional import Conditional
from pymc_multimodal.structure.extended import Extended

# Two normals of equal share and width 1, and points of equal weight.
MEANS, POINTS = (-1.0, 1.0), np.array([-1.0, 0.0, 0.5, 5.0])


def extended():
    """Return points of one unit with two explanations."""
    one = np.ones((1, 1, 2, 1, 1))
    conditional = Conditional(
        np.array(MEANS).reshape(1, 1, 2, 1),
        one,
        one,
        np.log([0.45, 0.45, 0.1]).reshape(1, 1, 3),
        (np.zeros((1, 1)), np.full((1, 1), 3.0)),
        np.ones((1, 1), dtype=bool),
    )
    flat = np.zeros((1, len(POINTS), 1))
    z = POINTS.reshape(1, -1, 1, 1)
    return Extended(np.zeros((1, 0)), z, flat, flat, np.zeros(1), conditional)


def test_the_explanation_of_a_point_is_in_doubt_where_the_normal_of_another_is_as_high():
    # The log densities of both normals differ by 2 z.
    other = 1.0 / (1.0 + np.exp(2.0 * np.abs(POINTS)))
    np.testing.assert_allclose(extended().doubts(None)[0, :, 0], other)
    np.testing.assert_allclose(extended().doubt(None), [[other.mean()]])


def test_places_that_are_one_explanation_leave_no_doubt():
    np.testing.assert_allclose(extended().doubt(np.array([[0, 0]])), 0.0, atol=1e-12)


def test_shares_are_those_of_the_labels():
    np.testing.assert_array_equal(extended().label[0, 2:, 0], [1, 1])
    label = np.array([0, 0, 0, 1]).reshape(1, 4, 1)
    np.testing.assert_allclose(extended().mass(label), [[[0.75, 0.25]]])
