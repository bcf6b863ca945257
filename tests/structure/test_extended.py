"""Several points of every unit, and what they say of its explanations."""

from __future__ import annotations

import numpy as np

from pymc_multimodal.structure.extended import Extended


def extended(log_parts):
    """Return one point of one unit for each column of the components' log densities (K + 1, M)."""
    parts = np.asarray(log_parts, dtype=float)[:, None, :, None]
    m = parts.shape[2]
    flat = np.zeros((1, m, 1))
    return Extended(np.zeros((1, 0)), np.zeros((1, m, 1, 1)), flat, flat, np.zeros(1), parts)


def test_the_explanation_of_a_point_is_in_doubt_where_others_are_as_dense():
    # Two explanations and the wide density; of four points of equal weight one is between them.
    found = extended(np.log([[1, 1, 1e-9, 1], [1, 1e-9, 1, 0.25], [0.1, 0.1, 0.1, 0.1]]))
    np.testing.assert_allclose(found.doubt(2, None), [[(0.5 + 0.2) / 4]], atol=1e-6)


def test_places_that_are_one_explanation_leave_no_doubt():
    found = extended(np.log([[1, 1], [1, 2], [0.1, 0.1]]))
    np.testing.assert_allclose(found.doubt(2, np.array([[0, 0]])), 0.0, atol=1e-12)
