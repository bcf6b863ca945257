"""Clusters of components, and what is said of a run that agrees with counted crossings."""

from __future__ import annotations

import numpy as np
import pytest
from learned_scores import line

from pymc_multimodal.proposals.score.clusters import analyse_clusters, cluster_labels
from pymc_multimodal.proposals.score.langevin import run_langevin

MIN_OVERLAP = 0.05


def test_clusters_are_numbered_by_weight_and_times_scale(rng):
    mixture = line([0.0, 1.0, 30.0, 90.0], weights=[0.1, 0.1, 0.3, 0.5])
    found = analyse_clusters(mixture, rng, MIN_OVERLAP)
    np.testing.assert_array_equal(found.cluster, [2, 2, 1, 0])
    np.testing.assert_allclose(found.weights, [0.5, 0.3, 0.2])
    assert np.all(found.departure_probability(10.0) < 1e-9)
    assert set(found.pair_mixing(10.0).values()) == {"apart"}
    assert found.describe(10.0).count("keeps the weight") == 3
    assert np.isinf(found.log_sobolev_all)
    one = analyse_clusters(line([0.0]), rng, MIN_OVERLAP)
    assert "nothing is known of modes" in one.describe(1.0)


@pytest.mark.parametrize("distance", [4.0, 4.5, 5.0, 6.0, 8.0])
def test_the_verdict_agrees_with_crossings_that_are_counted(distance, rng):
    mixture = line([0.0, distance], weights=[0.3, 0.7])
    found = analyse_clusters(mixture, rng, MIN_OVERLAP)
    assert len(found) == 2
    step, n = 0.05, 2_000
    z = mixture.sample(n, rng)
    home = cluster_labels(found, mixture, z)
    marks = [20, 100, 1000]
    for mark, end in zip(
        marks, run_langevin(mixture.score, z, np.eye(1), step, marks, rng), strict=True
    ):
        moved = cluster_labels(found, mixture, end) != home
        verdict = found.pair_mixing(step * mark)[0, 1]
        expected = found.departure_probability(step * mark)
        for c in (0, 1):
            share = np.mean(moved[home == c])
            error = np.sqrt(max(share * (1 - share), 1 / n) / np.sum(home == c))
            # Points near the border count as having crossed at once: as many as the overlap says.
            border = found.overlap[0, 1]
            assert expected[c] / 1.6 - 4 * error - border < share
            assert share < 1.6 * expected[c] + 4 * error + border
            if verdict == "apart":
                assert share < 0.05 + border + 4 * error
            if verdict == "mixes":
                assert share > 0.8 * found.weights[1 - c] - 4 * error
