"""Products with one matrix for each group of rows."""

from __future__ import annotations

import numpy as np
import pytest

from pymc_multimodal.target.blocks import Blocks


@pytest.mark.parametrize("group", [[2, 0, 2, 1, 0], [0] * 40 + [3], [], [1]])
def test_each_row_is_multiplied_by_the_matrix_of_its_group(group, rng):
    group = np.array(group, dtype=int)
    v, matrices = rng.standard_normal((len(group), 3)), rng.standard_normal((4, 3, 2))
    expected = np.array([row @ matrices[g] for row, g in zip(v, group, strict=True)])
    found = Blocks(group, 4).times(v, matrices)
    np.testing.assert_allclose(found, expected.reshape(len(group), 2), rtol=1e-12, atol=1e-14)
