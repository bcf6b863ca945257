"""Optima are joined to modes by saddles, masses and volumes."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from densities import gaussian
from scipy.spatial.distance import cdist
from searches import joined, optima_at

from pymc_multimodal.search import OptimumSet
from pymc_multimodal.search.merging import neighbours

PLANE = gaussian(np.zeros(2), np.eye(2)).density()


@pytest.mark.parametrize(("saddle", "groups"), [(-0.9, 1), (-1.1, 2)])
def test_saddles_join_what_they_do_not_part_by_the_barrier(saddle, groups):
    optima = optima_at([[0.0, 0.0], [3.0, 0.0]], [1.0, 0.0])
    assert len(np.unique(joined(optima, [[0, 1]], [saddle]).group)) == groups


def test_the_group_of_less_mass_has_to_rise_above_the_saddle():
    """A narrow summit is higher by 3 nats and holds less mass: it is a mode if it rises."""
    optima = optima_at([[0.0, 0.0], [3.0, 0.0]], [0.0, 3.0], widths=[2.0, 0.3])
    assert optima.log_mass[0] > optima.log_mass[1]
    # The lower optimum is 0.5 nats above the saddle, the one of less mass 3.5.
    assert len(np.unique(joined(optima, [[0, 1]], [-0.5]).group)) == 2


def test_a_shoulder_belongs_to_one_of_two_modes():
    optima = optima_at([[-4.0, 0.0], [0.0, 0.0], [4.0, 0.0]], [0.0, -2.0, 0.0])
    assert joined(optima, [[0, 1], [1, 2]], [-2.1, -2.2]).group.tolist() == [0, 0, 2]


def test_optima_of_very_different_volume_are_not_joined():
    # The limit sqrt(8 d) of the log volumes is 4 in two dimensions.
    for width, groups in ((np.exp(1.9), 1), (np.exp(2.1), 2)):
        optima = optima_at([[0.0, 0.0], [3.0, 0.0]], [0.0, 0.0], widths=[1.0, width])
        assert len(np.unique(joined(optima, [[0, 1]], [-0.1]).group)) == groups


def test_neighbours_are_each_optimum_with_its_nearest():
    optima = optima_at([[0.0, 0.0], [1.0, 0.0], [10.0, 0.0]], np.zeros(3))
    assert neighbours(optima, PLANE, k=1).tolist() == [[0, 1], [1, 2]]
    assert neighbours(optima, PLANE).tolist() == [[0, 1], [0, 2], [1, 2]]


def test_neighbours_of_many_optima_need_little_memory(rng):
    """All steps between 1,500 optima in 32 dimensions would be 576 MB."""
    optima = replace(
        OptimumSet.empty(np.ones(32)), x=rng.standard_normal((1500, 32)), logp=np.zeros(1500)
    )
    density = gaussian(np.zeros(32), np.eye(32)).density()
    tracemalloc.start()
    pairs = neighbours(optima, density)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6
    distance = cdist(optima.x, optima.x)
    nearest = np.argsort(distance, axis=1)[:, 1:6]
    expected = {tuple(sorted((i, int(j)))) for i in range(1500) for j in nearest[i]}
    assert set(map(tuple, pairs.tolist())) == expected
