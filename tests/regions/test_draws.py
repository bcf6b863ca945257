"""The coordinates whose convergence is checked: none that is stuck goes unseen."""

from __future__ import annotations

import numpy as np
import pytest

from pymc_multimodal.regions import watched_columns


def test_few_coordinates_are_all_watched(rng):
    np.testing.assert_array_equal(watched_columns(rng.standard_normal((8, 20, 48))), np.arange(48))


@pytest.mark.parametrize("d", [96, 144, 192, 480, 1000])
@pytest.mark.parametrize("period", [2, 3, 4, 8])
def test_every_component_of_a_variable_is_watched(d, period, rng):
    """Of a variable of shape (48, 2) even spacing takes the first components only."""
    x = rng.standard_normal((8, 100, d))
    columns = watched_columns(x)
    assert len(np.unique(columns % period)) == period
    # Draws that have converged add no others.
    assert len(columns) <= 48


@pytest.mark.parametrize("stuck", [1, 95, 500, 999])
@pytest.mark.parametrize("what", ["mean", "scale"])
def test_a_single_stuck_coordinate_of_a_thousand_is_watched(stuck, what, rng):
    x = rng.standard_normal((16, 100, 1000))
    if what == "mean":
        x[:8, :, stuck] += 1.0
    else:
        x[:8, :, stuck] *= 3.0
    assert stuck in watched_columns(x)


def test_coordinates_that_do_not_move_are_no_error(rng):
    x = rng.standard_normal((8, 20, 100))
    x[:, :, 7] = 3.0
    x[:, :, 9] = np.arange(8)[:, None]
    columns = watched_columns(x)
    assert 9 in columns
    # One or two draws tell nothing of their chains.
    assert len(watched_columns(x[:, :3])) <= 48
