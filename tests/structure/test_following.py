"""How explanations move with the hubs."""

from __future__ import annotations

import numpy as np
from unit_targets import shifted_wells

from pymc_multimodal.structure.catalogue import catalogued
from pymc_multimodal.structure.explanations import explain
from pymc_multimodal.structure.following import slopes_of


def test_slopes_are_the_derivatives_of_the_explanations(rng):
    # The wells of unit i are at +-1 + a_i g.
    slope = np.array([0.5, -1.0, 2.0])
    density, units = shifted_wells(slope)
    g = np.array([[0.0], [0.3]])
    starts = np.concatenate([np.full((1, 3, 1), s) for s in (-1.5, 1.5)])
    known = explain(density, units, g, starts, np.ones((3, 1)))
    found, _ = slopes_of(density, units, known, np.ones(1))
    expected = np.broadcast_to(slope[:, None, None, None], found.shape[1:])
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=0.02)


def test_masses_change_with_the_height_of_explanations(rng):
    # Of unit i the well at 1 + a_i g rises by the tilt, the other one falls by it.
    density, units = shifted_wells(np.array([0.5, -1.0, 2.0]), tilt=0.4)
    starts = np.concatenate([np.full((1, 3, 1), s) for s in (-1.5, 1.5)])
    known, other = (
        explain(density, units, np.full((1, 1), g), starts, np.ones((3, 1))) for g in (0.0, 0.2)
    )
    known = catalogued(density, units, known, np.ones(1), np.ones((3, 1)))
    _, z, log_mass = known.expected(other.g, np.ones(1))
    order, own = np.argsort(other.z[0, :, :, 0], axis=1), np.argsort(z[0, :, :, 0], axis=1)
    found = np.take_along_axis(log_mass[0], own, axis=1)
    exact = np.take_along_axis(other.log_mass[0], order, axis=1)
    np.testing.assert_allclose(np.diff(exact), 0.16, atol=0.02)
    np.testing.assert_allclose(np.diff(found), np.diff(exact), atol=0.02)


def test_explanations_are_expected_where_the_slopes_lead_to():
    slope = np.array([0.5, -1.0, 2.0])
    density, units = shifted_wells(slope)
    starts = np.concatenate([np.full((1, 3, 1), s) for s in (-1.5, 1.5)])
    known = explain(density, units, np.zeros((1, 1)), starts, np.ones((3, 1)))
    found = catalogued(density, units, known, np.ones(1), np.ones((3, 1)))
    nearest, z, _ = found.expected(np.array([[2.0]]), np.ones(1))
    assert nearest.tolist() == [0]
    at = found.z[0] + 2.0 * slope[:, None, None]
    np.testing.assert_allclose(z[0], at, atol=0.05)


def test_an_explanation_keeps_its_place_where_the_other_is_gone():
    # Far from zero, the hub tilts all units so much that one well of two is no optimum.
    density, units = shifted_wells(np.zeros(3), tilt=2.5)
    g = np.array([[0.0], [-3.0], [3.0]])
    starts = np.concatenate([np.full((1, 3, 1), s) for s in (-1.5, 1.5)])
    known = explain(density, units, g, starts, np.ones((3, 1)))
    places = catalogued(density, units, known, np.ones(1), np.ones((3, 1)))
    there = np.isfinite(places.log_mass)
    alone = there.sum(axis=2) == 1
    assert alone.any()
    above = places.z[..., 0] > 0
    of_place = [np.unique(above[:, :, k][there[:, :, k]]) for k in range(2)]
    assert [len(v) for v in of_place] == [1, 1]
    assert of_place[0] != of_place[1]
