"""Langevin dynamics on Gaussians, where everything is known."""

from __future__ import annotations

import numpy as np
import pytest
from densities import z_scores

from pymc_multimodal.proposals.score.langevin import largest_curvature, run_langevin


@pytest.mark.parametrize("averaged", [True, False])
def test_the_spread_of_a_gaussian_run(averaged, rng):
    step, n = 0.5, 40_000
    metric = np.array([[2.0, 0.0], [0.7, 0.5]])
    precision = np.linalg.inv(metric @ metric.T)
    start = rng.standard_normal((n, 2)) @ metric.T
    [z] = run_langevin(lambda z: -z @ precision, start, metric, step, [40], rng, averaged=averaged)
    y = z @ np.linalg.inv(metric).T
    exact = 1.0 if averaged else 1 / (1 - step / 2)
    assert np.abs(z_scores(y**2, exact)).max() < 4
    assert abs(z_scores(y[:, 0] * y[:, 1], 0.0)) < 4


def test_it_is_the_largest_curvature(rng):
    precision = np.diag([1.0, 9.0, 25.0])
    z = rng.standard_normal((100, 3))
    eye, half = (np.tile(f * np.eye(3), (100, 1, 1)) for f in (1.0, 0.5))
    assert np.isclose(largest_curvature(lambda z: -z @ precision, z, eye, rng), 25.0, rtol=0.02)
    assert np.isclose(largest_curvature(lambda z: -z @ precision, z, half, rng), 25 / 4, rtol=0.02)
