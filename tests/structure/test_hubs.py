"""Hubs, with the explanations of all units there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pymc_multimodal.search import ModeSearch, begin_search
from pymc_multimodal.structure import (
    ClusterPartition,
    UnitMixtures,
    UnitProposals,
    explain_hubs,
    lost_explanations,
    missing_explanations,
    several_explanations,
)
from pymc_multimodal.structure.clusters import cluster
from pymc_multimodal.target import chosen_units
from tests.unit_targets import density_of, pairs


def explained(density, rng):
    units = chosen_units(density, True)
    starts = begin_search(density, ModeSearch(), False, rng).distribution
    return units, starts, explain_hubs(density, units, starts, rng)


@pytest.mark.parametrize("hub", [True, False])
def test_both_explanations_of_every_unit_are_found(hub, rng):
    density = pairs(hub=hub)
    _, _, found = explained(density, rng)
    np.testing.assert_array_equal(found.n_explanations, 2)
    share = np.sort(found.anchors.share, axis=2)[..., ::-1]
    np.testing.assert_allclose(share[..., 0], 0.7, atol=1e-2)
    assert (found.clusters is None) == (not hub)


def test_the_particles_of_the_hub_have_its_distribution(rng):
    _, _, found = explained(pairs(), rng)
    mean = found.clusters.share @ found.clusters.centre
    assert abs(mean[0]) < 0.5
    assert 0.6 < found.hub_scale[0] < 1.5


def test_an_explanation_has_one_place_at_all_anchors(rng):
    _, _, found = explained(pairs(), rng)
    anchors = found.anchors
    side = np.sign(anchors.z[..., 0] - anchors.g[:, 0, None, None])
    there = np.isfinite(anchors.log_mass)
    assert there.sum(axis=2).max() == 2
    for i in range(anchors.z.shape[1]):
        for k in range(anchors.z.shape[2]):
            assert len(np.unique(side[there[:, i, k], i, k])) <= 1


def test_explanations_that_are_lost_on_the_way_are_found(rng):
    """An explanation that the anchors with positive hubs lack is followed nowhere near these."""
    density = pairs()
    units, starts, found = explained(density, rng)
    log_mass = found.anchors.log_mass.copy()
    gone = np.ix_(found.anchors.g[:, 0] > 0, [2], [1])
    lost = log_mass[gone].max()
    log_mass[gone] = -np.inf
    found = replace(found, anchors=replace(found.anchors, log_mass=log_mass))
    centre = units.gather(starts.centre[None])[0]

    def share(of):
        mixtures = UnitMixtures.at_anchors(
            of.anchors, of.hub_scale, centre, of.spread, units.inside
        )
        proposals = UnitProposals(units, mixtures, of.spread, 8)
        return lost_explanations(density, proposals, np.array([[0.8], [1.2], [-1.0]]), rng)

    before, more = share(found)
    mass = np.exp(lost) / np.exp(found.anchors.log_mass[0]).sum(axis=1)[0]
    assert before[2] == pytest.approx(2 / 3 * mass, abs=0.05)
    assert np.delete(before, 2).max() == 0.0
    after, _ = share(found.with_more(density, units, more))
    assert after.max() == 0.0


def test_a_first_look_counts_combinations(rng):
    density = pairs(n_units=10)
    units = chosen_units(density, True)
    starts = begin_search(density, ModeSearch(), False, rng).distribution
    assert several_explanations(density, units, starts, rng) > 6
    plain = density_of(lambda x: -0.5 * x**2, np.eye(10), lambda n, g: g.standard_normal((n, 10)))
    units = chosen_units(plain, True)
    starts = begin_search(plain, ModeSearch(), False, rng).distribution
    assert several_explanations(plain, units, starts, rng) == 0
    assert plain.n_logp_evals < 2000


def test_an_explanation_that_is_not_known_is_found_from_far_out(rng):
    density = pairs(hub=False)
    units, starts, found = explained(density, rng)
    anchors = found.anchors
    spread = found.spread
    centre = units.gather(starts.centre[None])[0]

    def proposals(known):
        mixtures = UnitMixtures.at_anchors(known, found.hub_scale, centre, spread, units.inside)
        return UnitProposals(units, mixtures, spread, 8)

    g = np.zeros((1, 0))
    missing, _ = missing_explanations(density, proposals(anchors), g, rng)
    np.testing.assert_allclose(missing, 0.0, atol=1e-6)
    anchors.log_mass[0, 3, 1] = -np.inf
    missing, more = missing_explanations(density, proposals(anchors), g, rng)
    share = 1 - anchors.share[0, 3, 0] if anchors.share[0, 3, 0] < 1 else None
    assert share is None
    assert missing[3] == pytest.approx(0.3, abs=0.02)
    assert missing.sum() == pytest.approx(missing[3], abs=1e-6)
    whole = found.with_more(density, units, more)
    np.testing.assert_array_equal(whole.n_explanations, 2)


def test_clusters_far_apart_are_regions(rng):
    g = np.concatenate([rng.standard_normal((150, 2)), 10 + rng.standard_normal((50, 2))])
    found = cluster(g, np.full(2, np.inf), rng)
    assert found.n_regions == 2
    partition = ClusterPartition(found)
    label = partition.label(g)
    np.testing.assert_array_equal(label, np.repeat([0, 1], [150, 50]))
    points = np.concatenate([np.zeros((200, 1)), g], axis=1)
    np.testing.assert_array_equal(partition.of_points(np.array([1, 2])).label(points), label)


def test_one_normal_is_one_region(rng):
    found = cluster(rng.standard_normal((300, 3)), np.full(3, np.inf), rng)
    assert found.n_regions == 1
    draws = found.sample(4000, rng)
    np.testing.assert_allclose(draws.mean(axis=0), 0.0, atol=0.25)
    np.testing.assert_allclose(draws.std(axis=0), 1.0, atol=0.2)


def test_a_mode_of_the_hubs_that_is_known_is_kept(rng):
    """Two equal modes of the hub, far apart: the ends of climbs are put beside the particles."""
    own = np.log(np.array([0.5, 0.5]))

    def function(x):
        g, z = x[:, :1], x[:, 1:]
        hub = np.logaddexp(
            *(w - 0.5 * ((g - m) / 0.1) ** 2 for w, m in zip(own, (-8, 8), strict=False))
        )
        sides = [-0.5 * ((z - s) / 0.3) ** 2 - 0.05 * (z - g / 4) ** 2 for s in (-1.0, 1.0)]
        return np.concatenate([hub, np.logaddexp(*sides)], axis=1)

    depends = np.concatenate([np.eye(7)[:1], np.eye(7)[1:] + np.eye(7)[:1]]) > 0
    density = density_of(function, depends, lambda n, g: 6 * g.standard_normal((n, 7)))
    units = chosen_units(density, True)
    starts = begin_search(density, ModeSearch(), False, rng).distribution
    optima = np.full((2, 7), 1.0)
    optima[:, 0] = -8, 8
    found = explain_hubs(density, units, starts, rng, optima)
    assert found.clusters.n_regions == 2
    np.testing.assert_allclose(np.sort(found.clusters.centre[:, 0])[[0, -1]], [-8, 8], atol=0.5)
    # The unit of length is the width of a mode, and not the distance between them.
    assert 0.02 < found.hub_scale[0] < 0.5
