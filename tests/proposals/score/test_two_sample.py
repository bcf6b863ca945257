"""The two-sample test."""

from __future__ import annotations

import numpy as np

from pymc_multimodal.proposals.score.two_sample import permutation_test


def test_the_two_sample_test_has_its_level_and_power(rng):
    null = [
        permutation_test(rng.standard_normal((60, 2)), rng.standard_normal((50, 2)), rng, 99)[1]
        for _ in range(100)
    ]
    assert np.sum(np.array(null) <= 0.1) <= 10 + 4 * 3
    shifted = rng.standard_normal((100, 2)) + 1.0
    assert permutation_test(shifted, rng.standard_normal((100, 2)), rng, 99)[1] == 0.01
