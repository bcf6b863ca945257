"""A screening where evaluations are dear: few values find what tens of climbs have missed."""

from __future__ import annotations

import numpy as np
import pytest
from densities import four_normals, two_modes

from pymc_multimodal.search import ModeSearch, begin_search, find_modes, modes_of, screen_dear
from pymc_multimodal.target.limits import Limits

# Four normals in six dimensions; the basin of the second holds 2 % of the prior, and 0.3 of the
# posterior.
FOUR = four_normals(log_z=0.0)


def four_modes():
    density = FOUR.density(gradient=False, prior=lambda n, rng: 3.0 * rng.standard_normal((n, 6)))
    # The history is what marks a density whose evaluations are dear.
    density.keep_history()
    return density


def searched(density, settings, seed):
    rng = np.random.default_rng(seed)
    search = begin_search(density, settings, False, rng)
    while not search.settled:
        search = find_modes(density, search, settings, rng)
    return search, rng


def n_found(search):
    return len(np.unique(FOUR.component(search.optima.x)))


def test_values_find_the_modes_that_climbs_have_missed():
    before, after, spent = [], [], []
    for seed in range(4):
        density = four_modes()
        search, rng = searched(density, ModeSearch(), seed)
        found, seen = screen_dear(density, search, ModeSearch(), rng)
        before.append(n_found(search))
        after.append(n_found(found))
        spent.append(seen.n_evals)
        assert seen.new_modes == len(found.optima) - len(search.optima)
        assert seen.n_points >= 150
        assert seen.entered_share == pytest.approx(3.0 / seen.n_points)
    # The climbs alone miss modes of weight 0.3 and 0.4.
    assert min(before) < 4
    assert after == [4] * 4
    # The points, and some thirty evaluations of each climb to a new mode.
    assert max(spent) < 600


def test_modes_that_are_described_take_no_further_climbs():
    target = two_modes(dim=3, distance=6.0, weights=(0.3, 0.7))
    density = target.density(gradient=False)
    density.keep_history()
    search, rng = searched(density, ModeSearch(), 1)
    assert len(search.optima) == 2
    found, seen = screen_dear(density, search, ModeSearch(), rng)
    assert len(found.optima) == 2
    assert seen.new_modes == 0
    assert seen.n_climbs <= 4
    assert seen.n_points == 150
    assert not seen.cut_short


def test_settings_and_limits_give_the_number_of_points(rng):
    density = two_modes(dim=2).density(gradient=False)
    density.keep_history()
    search, _ = searched(density, ModeSearch(), 2)
    assert screen_dear(density, search, ModeSearch(screening=40), rng)[1].n_points == 40
    none = screen_dear(density, search, ModeSearch(screening=0), rng)[1]
    assert none.n_points == none.n_evals == 0
    assert none.statuses == ()
    given, _ = searched(density, ModeSearch(starts=np.zeros((1, 2))), 2)
    assert screen_dear(density, given, ModeSearch(starts=np.zeros((1, 2))), rng)[1].n_points == 0
    most = density.n_logp_evals + 100
    with density.within(Limits(last_evals=most)):
        found, seen = screen_dear(density, search, ModeSearch(), rng)
    assert density.n_logp_evals <= most
    assert 0 < seen.n_points <= 25
    assert seen.cut_short
    assert len(modes_of(density, found, ModeSearch())) >= len(
        modes_of(density, search, ModeSearch())
    )
