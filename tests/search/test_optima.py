"""Sets of optima grow, keep their indices, and group optima by saddles and volumes."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from densities import gaussian
from searches import joined, optima_at

from pymc_multimodal.search import OptimumSet
from pymc_multimodal.target.density import Density
from pymc_multimodal.target.group import Symmetry

MIRROR = Symmetry((np.diag([-1.0, 1.0]),))
PLANE = gaussian(np.zeros(2), np.eye(2)).density()


def test_an_optimum_more_leaves_the_old_set_as_it_was():
    one = optima_at([[1.0, 2.0]], [0.5])
    two = one.add(np.array([4.0, 5.0]), -1.0, np.diag([4.0, 0.0]))
    assert (len(one), len(two)) == (1, 2)
    np.testing.assert_array_equal(two.x[: len(one)], one.x)
    np.testing.assert_array_equal(two.group, [0, 1])
    # Laplace's approximation; the flat direction is as wide as the starts.
    np.testing.assert_allclose(two.log_mass, [0.5, -1.0 + np.log(0.5 * 10.0)])
    with pytest.raises(FrozenInstanceError):
        one.x = two.x


def test_sets_that_grow_from_one_set_do_not_share_what_they_add():
    """The matrices of a set of many optima are not copied each time; a set that is kept stays."""
    first = optima_at(np.arange(20.0).reshape(10, 2), np.zeros(10), widths=1.0 + np.arange(10))
    hessian, scale = first.hessian.copy(), first.scale.copy()
    a = first.add(np.full(2, 50.0), 0.0, 4.0 * np.eye(2))
    b = first.add(np.full(2, 60.0), 0.0, 9.0 * np.eye(2))
    c = a.add(np.full(2, 70.0), 0.0, 16.0 * np.eye(2))
    for grown in (first, a, b, c):
        np.testing.assert_array_equal(grown.hessian[:10], hessian)
        np.testing.assert_array_equal(grown.scale[:10], scale)
    assert [float(s.hessian[10, 0, 0]) for s in (a, b, c)] == [4.0, 9.0, 4.0]
    assert float(c.hessian[11, 1, 1]) == 16.0
    again = pickle.loads(pickle.dumps(c))
    np.testing.assert_array_equal(again.add(np.zeros(2), 0.0, np.eye(2)).hessian[:12], c.hessian)


def test_points_fall_on_optima_within_a_standard_deviation_and_a_nat():
    optima = optima_at([[0.0, 0.0], [5.0, 0.0]], [0.0, 0.0], widths=[0.5, 2.0])
    x = np.array([[0.4, 0.0], [0.6, 0.0], [4.0, 1.0], [2.5, 0.0], [0.0, 0.0]])
    logp = np.array([-0.3, -0.3, -0.3, -0.3, 1.5])
    assert optima.nearest(PLANE, x, logp).tolist() == [0, -1, 1, -1, -1]


def test_other_optima_do_not_fall_on_one_where_the_density_curves_upwards():
    """Where a climb without gradient has ended at a saddle, its Hessian makes all points near."""
    optima = OptimumSet.empty(np.full(2, 2.0)).add(np.zeros(2), 0.0, np.diag([9.0, -25.0]))
    x = np.array([[0.1, 7.0], [5.0, 7.0], [0.1, 1.0], [0.5, 1.0]])
    logp = np.full(4, -0.5)
    # The direction without a maximum is as wide as the starts, and no wider.
    assert optima.nearest(PLANE, x, logp).tolist() == [-1, -1, 0, -1]
    assert [optima.nearest(PLANE, x[i : i + 1], logp[:1])[0] for i in range(4)] == [-1, -1, 0, -1]
    np.testing.assert_allclose(optima.curvature(0), np.diag([9.0, 0.25]))


def test_the_curvature_of_an_optimum_is_its_hessian():
    flat = np.array([[4.0, 1.0], [1.0, 0.25]])
    for hessian in (np.diag([4.0, 9.0]), flat):
        optima = OptimumSet.empty(np.full(2, 2.0)).add(np.zeros(2), 0.0, hessian)
        np.testing.assert_array_equal(optima.curvature(0), hessian)


def test_a_point_alone_falls_on_the_same_optimum_as_among_others(rng):
    density = Density(lambda x: (np.zeros(len(x)), 0 * x), 2, period=np.array([2 * np.pi, np.inf]))
    widths = rng.uniform(0.2, 1.0, 30)
    optima = optima_at(3 * rng.uniform(-1, 1, (30, 2)), rng.standard_normal(30), widths=widths)
    x, logp = 3 * rng.uniform(-1, 1, (400, 2)), rng.standard_normal(400)
    every = optima.nearest(density, x, logp)
    alone = [optima.nearest(density, x[i : i + 1], logp[i : i + 1])[0] for i in range(400)]
    assert every.tolist() == alone
    assert (every >= 0).mean() > 0.2


def test_points_fall_on_optima_across_the_seam_of_a_circle():
    density = Density(lambda x: (np.zeros(len(x)), 0 * x), 2, period=np.array([2 * np.pi, np.inf]))
    optima = optima_at([[np.pi - 0.1, 0.0]], [0.0], widths=0.3)
    assert optima.nearest(density, np.array([[0.1 - np.pi, 0.0]]), np.zeros(1)).tolist() == [0]


def test_images_of_an_optimum_are_one_entry():
    optima = optima_at([[3.0, 0.0], [0.0, 5.0]], [0.0, 0.0], symmetry=MIRROR)
    x = np.array([[-3.1, 0.0], [0.1, 5.0]])
    assert optima.nearest(PLANE, x, np.zeros(2)).tolist() == [0, 1]
    assert optima.multiplicity(optima.x).tolist() == [2, 1]
    np.testing.assert_allclose(optima.images(), [[3.0, 0.0], [-3.0, 0.0], [0.0, 5.0]])
    np.testing.assert_allclose(optima.canonical_image(np.array([-2.0, 1.0])), [2.0, 1.0])
    # A climb ends near a mode that is its own image, and not at it.
    close = optima_at([[3.0, 0.0], [1e-6, 5.0]], [0.0, 0.0], symmetry=MIRROR)
    assert close.multiplicity(close.x).tolist() == [2, 1]
    alone = optima_at([[3.0, 0.0]], [0.0])
    assert alone.multiplicity(alone.x).tolist() == [1]
    np.testing.assert_array_equal(alone.images(), alone.x)


def test_a_mode_that_holds_two_images_of_an_optimum_is_fixed_by_the_element_between_them():
    alone = optima_at([[3.0, 0.0], [-3.0, 0.0]], [0.0, 0.0])
    folded = optima_at([[3.0, 0.0]], [0.0], symmetry=MIRROR)
    apart = folded.record_stabilisers(alone, np.array([0, 0]))
    assert apart.fixing_modes(folded.x)[0].shape == (0, 2, 2)
    one_mode = joined(alone, [[0, 1]], [-0.1])
    fixed = folded.record_stabilisers(one_mode, np.array([0, 0]))
    np.testing.assert_allclose(fixed.fixing_modes(folded.x)[0], MIRROR.generators)


def test_summits_are_the_highest_of_each_group_that_is_not_negligible():
    points = [[0.0, 0.0], [1.0, 0.0], [9.0, 0.0], [0.0, 9.0]]
    optima = optima_at(points, [0.0, 0.5, 2.0, -15.0])
    optima = joined(optima, [[0, 1]], [-0.1])
    assert optima.summits(negligible=20.0).tolist() == [2, 1, 3]
    # 12 nats and half a nat for each of two dimensions.
    assert optima.summits(negligible=12.0).tolist() == [2, 1]
    assert optima.mode_of(optima.summits(12.0)).tolist() == [1, 1, 0, -1, -1]
    empty = OptimumSet.empty(np.ones(2))
    assert empty.summits_left_out().tolist() == []
    assert empty.summits(12.0).tolist() == []
    assert empty.mode_of(empty.summits(12.0)).tolist() == [-1]


def test_modes_that_are_left_out_stay_known():
    points = [[0.0, 0.0], [1.0, 0.0], [9.0, 0.0], [0.0, 9.0]]
    optima = joined(optima_at(points, [0.0, 0.5, 2.0, 1.0]), [[0, 1]], [-0.1])
    fewer = optima.leaving_out(np.array([0, 1]))
    assert optima.summits(12.0).tolist() == [2, 3, 1]
    assert fewer.summits(12.0).tolist() == [2, 3]
    assert fewer.summits_left_out().tolist() == [1]
    assert fewer.mode_of(fewer.summits(12.0)).tolist() == [-1, -1, 0, 1, -1]
    # A climb that ends there ends at a known optimum.
    assert fewer.nearest(PLANE, np.array([[0.1, 0.0]]), np.zeros(1)).tolist() == [0]
    # An optimum more of the same mode, of less mass, changes nothing; one of more mass does.
    small = joined(fewer.add(np.array([2.0, 0.0]), 0.0, 4 * np.eye(2)), [[1, 4]], [-0.1])
    assert small.summits(12.0).tolist() == [2, 3]
    large = joined(fewer.add(np.array([2.0, 0.0]), 3.0, np.eye(2)), [[1, 4]], [-0.1])
    assert 4 in large.summits(12.0)
    # Without a saddle between them it is a mode of its own.
    other = fewer.add(np.array([30.0, 0.0]), 0.0, np.eye(2))
    assert other.summits(12.0).tolist() == [2, 3, 4]
