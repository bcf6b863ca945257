"""The search finds the modes that are there, and no others."""

from __future__ import annotations

import numpy as np
import pytest
from densities import (
    Funnel,
    Mixture,
    Plateau,
    Ring,
    Shoulder,
    VonMises,
    WideNormal,
    two_modes,
)
from searches import five_modes, match, modes_found, settled_search

from pymc_multimodal.search import (
    ModeSearch,
    begin_search,
    climb_from,
    find_modes,
    highest_point,
    modes_of,
)
from pymc_multimodal.search.batches import SCOUTS
from pymc_multimodal.search.classify import MAX_ESCAPES
from pymc_multimodal.target.density import Density
from pymc_multimodal.target.limits import Limits


def codes(result):
    return {s.code for s in result.statuses}


def test_all_modes_of_a_mixture_are_found_with_their_curvature(rng):
    target = five_modes()
    modes = modes_found(target.density(), rng)
    assert len(modes) == 5
    index, off = match(modes.locations, target.means)
    # Other components' tails move a summit by about exp(-9) of their distance.
    assert off < 2e-3
    assert sorted(index) == list(range(5))
    assert np.all(np.diff(modes.log_density) <= 0)
    np.testing.assert_allclose(modes.log_density, target.logp(modes.locations))
    covariance = modes.scale @ np.swapaxes(modes.scale, 1, 2)
    np.testing.assert_allclose(covariance[index], target.covariances, rtol=0.02, atol=0.02)
    assert modes.hits.sum() <= modes.n_starts
    assert np.all(modes.hits > 0)
    assert not modes.runaway
    assert len(modes.points) == len(modes.point_modes)
    assert modes.starts.shape == (modes.n_starts, target.dim)
    ended = modes.start_modes[modes.start_modes >= 0]
    np.testing.assert_array_equal(np.bincount(ended, minlength=5), modes.hits)


def test_the_modes_of_the_starts_follow_the_numbers_of_the_modes(rng):
    modes = modes_found(five_modes().density(), rng)
    order = np.array([3, 0, 4, 1, 2])
    taken = modes.take(order)
    np.testing.assert_array_equal(order[taken.start_modes], modes.start_modes)
    merged = modes.merged(np.array([0, 1, 0, 1, 2]))
    np.testing.assert_array_equal(np.bincount(merged.start_modes), merged.hits)


def test_some_of_the_modes_are_taken_with_their_optima_and_starts(rng):
    modes = modes_found(five_modes().density(), rng)
    some = modes.take(np.array([3, 1]))
    np.testing.assert_array_equal(some.locations, modes.locations[[3, 1]])
    np.testing.assert_array_equal(some.hits, modes.hits[[3, 1]])
    kept = np.isin(modes.optimum_modes, [3, 1])
    np.testing.assert_array_equal(some.optima, modes.optima[kept])
    np.testing.assert_array_equal(some.optimum_ids, modes.optimum_ids[kept])
    np.testing.assert_array_equal(some.optimum_modes, modes.optimum_modes[kept] == 1)
    ended = np.select([modes.point_modes == 3, modes.point_modes == 1], [0, 1], -1)
    np.testing.assert_array_equal(some.point_modes, ended)


def test_the_search_counts_its_evaluations_and_repeats(rng):
    density = five_modes().density()
    first, again = (modes_found(density, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.locations, again.locations)
    np.testing.assert_array_equal(first.points, again.points)
    assert density.n_logp_evals > 2 * first.n_starts


def test_a_narrow_mode_beside_a_wide_one_is_a_mode_of_its_own(rng):
    """Hardly a valley lies between the summits, in 64 dimensions, but all of the draws' way."""
    target = two_modes(dim=64)
    modes = modes_found(target.density(), rng, starts=target.means)
    assert len(modes) == 2
    assert match(modes.locations, target.means)[1] < 1e-2


def hyperbola(x):
    """Two branches along which the ridge is by turns narrow and wide; prior of its size."""
    r = x[:, 0] * x[:, 1] - 1.0
    slope = -(r / 0.05**2)[:, None] * x[:, ::-1] - x / 100.0**2
    return -0.5 * (r / 0.05) ** 2 - 0.5 * np.sum((x / 100.0) ** 2, axis=1), slope


def test_a_ridge_that_changes_its_width_is_one_mode(rng):
    density = Density(hyperbola, 2, prior=lambda n, rng: 100.0 * rng.standard_normal((n, 2)))
    assert len(modes_found(density, rng)) == 2


def test_a_ring_is_one_mode(rng):
    modes = modes_found(Ring().density(), rng)
    assert len(modes) == 1
    assert len(modes.optima) > 5
    assert np.all(modes.optimum_modes == 0)


def test_modes_on_a_circle_are_told_apart_across_the_seam(rng):
    target = VonMises([np.pi, 0.3], [20.0, 10.0], [0.6, 0.4])
    modes = modes_found(target.density(), rng)
    assert len(modes) == 2
    # The first sits on the seam: pi and -pi are one place.
    assert np.isclose(np.abs(modes.locations[0, 0]), np.pi, atol=1e-3)
    assert np.isclose(modes.locations[1, 0], 0.3, atol=1e-3)


def test_a_saddle_is_no_mode_but_leads_to_those_beside_it(rng):
    target = Mixture([[-4.0, 0.0], [4.0, 0.0]], [np.eye(2)] * 2, [0.5, 0.5])
    modes = modes_found(target.density(), rng, starts=np.zeros((1, 2)))
    assert len(modes) == 2
    np.testing.assert_allclose(np.sort(modes.locations[:, 0]), [-4.0, 4.0], atol=1e-3)


def test_a_flat_place_is_no_mode(rng):
    # Most starts land where the floor is flat to rounding error.
    modes = modes_found(Plateau().density(prior=WideNormal(2, sd=20.0)), rng, starts=60)
    assert len(modes) == 1
    np.testing.assert_allclose(modes.locations[0], 0.0, atol=1e-3)
    assert "flat" in codes(modes)


def test_a_shoulder_does_not_bridge_two_modes(rng):
    """Regression: both barriers to the shoulder are low, that between the summits is not."""
    modes = modes_found(Shoulder().density(), rng)
    assert len(modes) == 2
    np.testing.assert_allclose(np.sort(modes.locations[:, 0]), [-4.0, 4.0], atol=0.01)
    assert np.any(np.abs(modes.optima[:, 0]) < 0.1), "the shoulder itself was not found"


@pytest.mark.parametrize(("barrier", "expected"), [(3.0, 2), (5.0, 1)])
def test_the_barrier_decides_what_is_one_mode(barrier, expected, rng):
    """The summits rise 4 nats above the saddles."""
    assert len(modes_found(Shoulder().density(), rng, barrier=barrier)) == expected


@pytest.mark.parametrize(("log_weight", "expected"), [(-8.0, 2), (-30.0, 1)])
def test_a_mode_without_mass_is_left_out(log_weight, expected, rng):
    small = np.exp(log_weight)
    target = Mixture([[-8.0, 0.0], [8.0, 0.0]], [np.eye(2)] * 2, [1 - small, small])
    modes = modes_found(target.density(prior=WideNormal(2, sd=8.0)), rng)
    assert len(modes) == expected
    assert ("negligible" in codes(modes)) == (expected == 1)


def test_locations_are_refined_and_nothing_else_is_searched(rng):
    target = five_modes()
    modes = modes_found(target.density(), rng, locations=target.means[:2] + 0.2)
    assert len(modes) == 2
    assert match(modes.locations, target.means[:2])[1] < 2e-3
    assert modes.n_starts == 2
    # Nothing can be said of what such a search misses.
    assert np.isnan(modes.unseen_start_mass_upper)
    assert np.isnan(modes.seen_basin_mass)
    assert "singletons" not in codes(modes)


def test_radius_draws_eight_starts_around_each_location(rng):
    target = five_modes()
    modes = modes_found(target.density(), rng, locations=target.means[:2], radius=0.1)
    assert modes.n_starts == 16
    np.testing.assert_array_equal(modes.hits, [8, 8])


def test_locations_need_no_prior(rng):
    target = two_modes()
    modes = modes_found(Density(target, 2), rng, locations=target.means)
    assert len(modes) == 2


@pytest.mark.parametrize("starts", [7, 200])
def test_a_number_of_starts_is_kept_to(starts, rng):
    assert modes_found(two_modes().density(), rng, starts=starts).n_starts == starts


def test_a_density_that_grows_without_end_is_recognised(rng):
    modes = modes_found(Funnel().density(prior=WideNormal(6, sd=1.0)), rng, starts=200)
    assert modes.runaway
    assert len(modes) == 1
    [status] = [s for s in modes.statuses if s.code == "runaway"]
    assert "modes, if there are several, are lumped together" in status.remedy
    assert "non-centred form" in status.remedy
    assert np.isfinite(modes.log_density).all()
    assert np.isfinite(modes.locations).all()


def test_unseen_basins_are_estimated_from_singletons(rng):
    """40 equal basins and 64 starts leave some unseen, and say so; many starts leave none."""
    side = 12.0 * np.stack(np.meshgrid(np.arange(8), np.arange(5)), axis=-1).reshape(-1, 2)
    target = Mixture(side, [0.5 * np.eye(2)] * 40, np.full(40, 1 / 40))

    def prior(n, rng):
        return rng.uniform([-6, -6], [90, 54], (n, 2))

    few = modes_found(target.density(prior=prior), rng, starts=64, stretch=1.0)
    missed = 1 - len(few) / 40
    assert 0 < missed < 0.5
    # Good-Turing: the number of singletons is about Poisson, so its error is its root.
    n_once = few.singletons.sum()
    assert abs(n_once - 64 * missed) <= 4 * np.sqrt(n_once + 64 * missed)
    assert missed < few.unseen_start_mass_upper <= 1
    assert "singletons" in codes(few)
    many = modes_found(target.density(prior=prior), rng, starts=1000, stretch=1.0)
    assert len(many) == 40
    assert np.isclose(many.unseen_start_mass_upper, 3 / 1000)


def test_what_was_searched_is_said_beside_a_mode_that_was_missed(rng):
    """Half of the mass is in a mode whose basin holds 3e-6 of the prior: nothing reassures."""
    centre = np.array([6.0, 0, 0, 0, 0])
    target = Mixture([np.zeros(5), centre], [np.eye(5), 0.01 * np.eye(5)], [0.5, 0.5])
    density = target.density()
    search = settled_search(density, ModeSearch(), rng)
    modes = modes_of(density, search, ModeSearch())
    assert len(modes) == 1
    n = np.sum(search.start_from_prior & (search.start_optima >= 0))
    assert 200 < n < 300
    assert np.isclose(modes.seen_basin_mass, 3 / n)
    assert modes.seen_basin_mass > 3e-6
    [status] = [s for s in modes.statuses if s.code == "searched"]
    assert f"{n} prior draws" in status.cause
    assert "may be missing" in status.cause


def test_basins_of_the_share_that_is_named_are_seen(rng):
    """A narrow mode of 0.02 of a uniform prior: of 150 prior draws, 3 / 150 is just that share."""
    target = Mixture([[-3.0, 0.0], [3.0, 0.0]], [np.eye(2), 1e-4 * np.eye(2)], [0.5, 0.5])

    def prior(n, rng):
        # The narrow mode's own climbs begin within 3e-2 of it, and nothing else does.
        x = rng.normal([-3.0, 0.0], 1.0, (n, 2))
        near = rng.random(n) < 0.02
        x[near] = rng.normal([3.0, 0.0], 0.01, (int(near.sum()), 2))
        return x

    missed = 0
    for seed in range(40):
        modes = modes_found(
            target.density(prior=prior), np.random.default_rng(seed), starts=300, stretch=1e-6
        )
        assert np.isclose(modes.seen_basin_mass, 3 / 150)
        missed += len(modes) < 2
    # One in twenty is missed: of 40 searches no more than 6 are, with a probability of 99.7 %.
    assert missed <= 6


@pytest.mark.parametrize("gradient", [True, False])
def test_climbs_that_a_limit_cut_off_are_no_evidence(gradient, rng):
    """Most climbs are cut off: nothing is known of what was missed."""
    density = five_modes().density(gradient=gradient)
    density.limits = Limits(last_evals=40)
    settings = ModeSearch(optimiser=None if gradient else "powell")
    search = find_modes(density, begin_search(density, settings, False, rng), settings, rng)
    modes = modes_of(density, search, settings) if len(search.optima) else highest_point(search)
    assert search.counts.unfinished > 0
    assert not modes.unseen_start_mass_upper < 1.0
    assert not modes.seen_basin_mass < 1.0
    codes = {s.code: s.cause for s in modes.statuses}
    assert len(search.optima) == 0 or "any mode may be missing" in codes["searched"]
    if "singletons" in codes:
        assert "up to 100.0%" in codes["singletons"]


def test_saddles_are_rationed_by_batch_and_dropped_ones_are_said(rng):
    """Starts on the mirror of two modes all climb to the saddle between."""
    target = Mixture([[-4.0, 0.0], [4.0, 0.0]], [np.eye(2)] * 2, [0.5, 0.5])
    density, settings = target.density(), ModeSearch(starts=np.zeros((60, 2)))
    search = settled_search(density, settings, rng)
    assert search.counts.escapes == MAX_ESCAPES
    assert search.counts.saddles == 60 - SCOUTS - MAX_ESCAPES
    [status] = [s for s in modes_of(density, search, settings).statuses if s.code == "saddles"]
    assert (status.level, "32 climbs" in status.cause) == ("warning", True)
    # The next batch has its own ration.
    later, labels = climb_from(density, search, settings, np.zeros((30, 2)))
    assert np.sum(labels >= 0) == MAX_ESCAPES
    assert later.counts.saddles == search.counts.saddles + 30 - MAX_ESCAPES


def test_merging_and_renumbering_keep_what_belongs_together(rng):
    modes = modes_found(five_modes().density(), rng)
    order = np.array([3, 0, 4, 2, 1])
    moved = modes.take(order)
    np.testing.assert_array_equal(moved.locations, modes.locations[order])
    np.testing.assert_array_equal(order[moved.optimum_modes], modes.optimum_modes)
    known = modes.point_modes >= 0
    np.testing.assert_array_equal(order[moved.point_modes[known]], modes.point_modes[known])
    joined = modes.merged(np.array([0, 1, 0, 2, 1]))
    assert len(joined) == 3
    np.testing.assert_array_equal(joined.locations, modes.locations[[0, 1, 3]])
    assert joined.hits.sum() == modes.hits.sum()
