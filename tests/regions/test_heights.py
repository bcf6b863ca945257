"""The floor of plausible log densities holds for Gaussians of any dimension."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from pymc_multimodal.regions.heights import plausible_floor


@pytest.mark.parametrize("d", [1, 2, 10, 100, 1000])
@pytest.mark.parametrize(("log_share", "factor"), [(4.0, 2.5), (20.0, 1.4)])
def test_hardly_any_draw_is_below_the_floor(d, log_share, factor):
    """Twice the distance from the mode is chi-square distributed: the exact share is known."""
    floor = plausible_floor(0.0, d, log_share)
    assert chi2.logsf(-2 * floor, d) <= -log_share
    # The bound is of the size of the quantile itself.
    exact = -0.5 * chi2.isf(np.exp(-log_share), d)
    assert factor * exact < floor < exact


def test_the_floor_moves_with_the_height():
    heights = np.array([-3.0, 0.0, 1e6])
    np.testing.assert_allclose(
        heights - plausible_floor(heights, 5), -plausible_floor(0.0, 5), rtol=1e-9
    )
