"""A search goes from one frozen state to the next, and says when it has settled."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from densities import Mixture, WideNormal, gaussian, two_modes
from searches import match, modes_found, settled_search

from pymc_multimodal.search import (
    ModeSearch,
    begin_search,
    climb_from,
    find_modes,
    find_more_modes,
    modes_of,
)
from pymc_multimodal.search.stopping import has_rare_modes
from pymc_multimodal.status import LimitReached
from pymc_multimodal.target.group import Symmetry
from pymc_multimodal.target.limits import Limits

TWO = two_modes()


def test_a_search_begins_without_evaluations(rng):
    density = TWO.density()
    search = begin_search(density, ModeSearch(), True, rng)
    assert density.n_logp_evals == 0
    assert not search.settled
    assert not search.symmetry_sought
    assert len(search.optima) == 0
    assert search.centre.shape == search.spread.shape == (2,)


def test_each_batch_doubles_the_starts_until_the_search_has_settled(rng):
    density, settings = TWO.density(), ModeSearch()
    search, sizes = begin_search(density, settings, False, rng), []
    while not search.settled:
        before = search
        search = find_modes(density, search, settings, rng)
        sizes.append(search.counts.starts)
        # The old state is as it was.
        assert before.counts.starts == len(before.starts) < len(search.starts)
        np.testing.assert_array_equal(search.starts[: len(before.starts)], before.starts)
        np.testing.assert_array_equal(search.optima.x[: len(before.optima)], before.optima.x)
    assert sizes == [64, 128, 256, 512]
    assert len(search.start_optima) == 512
    assert len(search.points) == len(search.point_optima)
    with pytest.raises(FrozenInstanceError):
        search.settled = False


def test_a_batch_is_the_same_from_the_same_state_and_stream(rng):
    density, settings = TWO.density(), ModeSearch()
    first = find_modes(density, begin_search(density, settings, False, rng), settings, rng)
    again = [find_modes(density, first, settings, np.random.default_rng(1)) for _ in range(2)]
    np.testing.assert_array_equal(again[0].starts, again[1].starts)
    np.testing.assert_array_equal(again[0].optima.x, again[1].optima.x)


def test_the_search_ends_with_its_most_starts(rng):
    search = settled_search(TWO.density(), ModeSearch(max_starts=100), rng)
    assert search.counts.starts == 100


def test_a_search_ends_where_rare_modes_hold_next_to_no_mass(rng):
    """Of 256 modes round one, some are found by one start of 1,024 only."""
    side = 8.0 * (np.stack(np.meshgrid(*[np.arange(16)] * 2), axis=-1).reshape(-1, 2) - 7.5)
    for share, ends in ((1e-3, True), (0.9, False)):
        weights = np.full(len(side), share / len(side))
        weights[0] = 1.0 - share
        target = Mixture(side, [np.eye(2)] * len(side), weights)
        density = target.density(prior=WideNormal(2, sd=35.0))
        search, settings = begin_search(density, ModeSearch(), False, rng), ModeSearch()
        while search.counts.starts < 1024:
            search = find_modes(density, search, settings, rng)
        modes = modes_of(density, search, settings)
        assert modes.singletons.sum() > 5
        assert search.settled == ends


@pytest.mark.parametrize("starts", [20, TWO.means + 0.1])
def test_given_starts_are_one_batch(starts, rng):
    density, settings = TWO.density(), ModeSearch(starts=starts)
    search = find_modes(density, begin_search(density, settings, False, rng), settings, rng)
    assert search.settled


def test_starts_are_many_where_climbs_are_cheap(rng):
    target = gaussian(np.zeros(2), np.eye(2))
    assert modes_found(target.density(), rng).n_starts == 512
    # Without gradient they are fewer.
    assert modes_found(target.density(gradient=False), rng).n_starts == 96
    density = target.density()
    settings = ModeSearch()
    search = find_modes(density, begin_search(density, settings, False, rng), settings, rng)
    # A search that has cost much ends with its second batch.
    dear = find_modes(density, replace(search, n_evals=20_000), settings, rng)
    assert dear.settled
    assert dear.counts.starts == 128
    assert not find_modes(density, search, settings, rng).settled


def test_the_first_batch_finds_the_symmetry(rng):
    settings = ModeSearch()
    target = Mixture([[-4.0, 0.0], [4.0, 0.0]], [np.eye(2)] * 2, [0.5, 0.5])
    density = target.density()
    search = find_modes(density, begin_search(density, settings, True, rng), settings, rng)
    assert search.symmetry_sought
    assert len(search.symmetry.elements) in (2, 4)
    assert len(modes_of(density, search, settings)) == 1
    assert search.optima.multiplicity(search.optima.x).tolist() == [2]
    assert match(search.optima.images(), target.means)[1] < 1e-3
    # Labels of the batch are those of the optima with symmetry.
    assert set(search.start_optima) == {0}


def test_a_given_symmetry_is_used_and_a_wrong_one_refused(rng):
    target = Mixture([[-4.0, 0.0], [4.0, 0.0]], [np.eye(2)] * 2, [0.5, 0.5])
    density, settings = target.density(), ModeSearch(starts=20)
    mirror = Symmetry((np.diag([-1.0, 1.0]),))
    search = find_modes(density, begin_search(density, settings, mirror, rng), settings, rng)
    assert search.symmetry is mirror
    tilted = begin_search(TWO.density(), settings, mirror, rng)
    with pytest.raises(ValueError, match="generator 0 changes the log density"):
        find_modes(TWO.density(), tilted, settings, rng)


def test_climbs_from_points_do_not_count_as_starts(rng):
    target = two_modes(distance=12.0)
    density, settings = target.density(), ModeSearch(locations=target.means[:1])
    search = settled_search(density, settings, rng)
    assert len(modes_of(density, search, settings)) == 1
    more, labels = climb_from(density, search, settings, target.means[[1, 0, 1]] + 0.1)
    modes = modes_of(density, more, settings)
    assert len(modes) == 2
    assert modes.n_starts == 1
    assert more.counts == search.counts
    assert labels[0] == labels[2] != labels[1]
    assert match(modes.locations[labels[:2]], target.means[[1, 0]])[1] < 2e-3


def test_further_starts_count_though_the_search_has_settled(rng):
    density, settings = TWO.density(), ModeSearch(starts=8)
    search = settled_search(density, settings, rng)
    more = find_more_modes(density, search, settings, 40, rng)
    assert (search.counts.starts, more.counts.starts, len(more.starts)) == (8, 48, 48)
    assert more.n_evals > search.n_evals
    assert has_rare_modes(search, settings)
    most = find_more_modes(density, more, settings, 200, rng)
    assert not has_rare_modes(most, settings)
    assert len(modes_of(density, most, settings)) == 2


def test_a_limit_amid_climbs_leaves_the_search_as_it_was(rng):
    density, settings = TWO.density(), ModeSearch(starts=TWO.means[:1])
    search = settled_search(density, settings, rng)
    before = modes_of(density, search, settings)
    spent = density.n_logp_evals
    density.limits = Limits(early_evals=spent + 200)
    with density.limited(), pytest.raises(LimitReached):
        climb_from(density, search, settings, density.prior_draws(500, rng))
    density.limits = Limits()
    after = modes_of(density, search, settings)
    np.testing.assert_array_equal(after.locations, before.locations)
    np.testing.assert_array_equal(after.points, before.points)
    # And the search goes on from there.
    more, labels = climb_from(density, search, settings, TWO.means)
    assert len(modes_of(density, more, settings)) == 2
    assert sorted(labels) == [0, 1]


def test_climbs_that_a_limit_cuts_off_are_counted(rng):
    density = TWO.density()
    density.limits = Limits(last_evals=30)
    settings = ModeSearch()
    search = find_modes(density, begin_search(density, settings, False, rng), settings, rng)
    assert density.n_logp_evals <= 30
    assert 0 < search.counts.unfinished <= search.counts.starts
    assert not search.settled
    # The highest point is known, and higher than every start.
    x, logp = search.highest
    assert logp == pytest.approx(TWO.logp(x[None])[0])
    assert logp >= TWO.logp(search.starts).max()


def test_a_batch_is_as_large_as_a_limit_allows(rng):
    settings = ModeSearch()
    sizes = []
    for limit in (60, 400, 1e9):
        density = TWO.density()
        density.limits = Limits(early_evals=limit)
        search = find_modes(density, begin_search(density, settings, False, rng), settings, rng)
        sizes.append(search.counts.starts)
        assert len(search.optima) > 0
    assert sizes[0] < sizes[1] < sizes[2] == settings.batch
