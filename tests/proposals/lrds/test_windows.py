"""Copies of points on circular coordinates."""

from __future__ import annotations

import numpy as np

from pymc_multimodal.proposals.lrds import Windows

PERIOD = np.array([2 * np.pi, np.inf])


def log_density(y):
    """Far from the same for two copies of a point."""
    return -0.5 * (y[:, 0] - 1.0) ** 2 - 0.5 * y[:, 1] ** 2


def test_copies_are_drawn_with_the_probability_that_is_said(rng):
    windows = Windows(np.array([[-2.0, 0.0], [2.0, 0.0], [2.0, 5.0]]), PERIOD)
    x = np.repeat([[3.0, 0.5]], 20_000, axis=0)
    copy, log_probability = windows.draw_copy(x, log_density, rng)
    np.testing.assert_allclose(windows.log_probability(copy, log_density), log_probability)
    values, counts = np.unique(copy[:, 0].round(9), return_counts=True)
    # The second and the third window hold the same copy, which counts once.
    np.testing.assert_allclose(values, [3.0 - 2 * np.pi, 3.0])
    logs = log_density(np.column_stack([values, [0.5, 0.5]]))
    share = np.exp(logs - np.logaddexp.reduce(logs))
    error = np.sqrt(share * (1 - share) / len(x))
    assert np.all(np.abs(counts / len(x) - share) < 4 * error + 1e-4)


def test_copies_outside_of_all_windows_have_probability_zero():
    windows = Windows(np.array([[2.0, 0.0]]), PERIOD)
    y = np.array([[2.0, 0.0], [2.0 + 2 * np.pi, 0.0]])
    np.testing.assert_array_equal(windows.log_probability(y, log_density), [0.0, -np.inf])


def test_points_on_the_line_are_their_only_copies(rng):
    windows = Windows(np.zeros((3, 2)), np.full(2, np.inf))
    x = 100 * rng.standard_normal((5, 2))
    copy, log_probability = windows.draw_copy(x, log_density, rng)
    np.testing.assert_array_equal(copy, x)
    np.testing.assert_array_equal(log_probability, 0.0)
    np.testing.assert_array_equal(windows.log_probability(x, log_density), 0.0)
