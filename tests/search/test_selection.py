"""Starts that are selected from a sample: high, far apart, and silent about what was missed."""

from __future__ import annotations

import numpy as np
import pytest
from densities import two_modes
from searches import optima_at

from pymc_multimodal.search import ModeSearch, begin_search, find_modes, modes_of
from pymc_multimodal.search.selection import are_selected, select_starts
from pymc_multimodal.search.starts import Starts, start_distribution
from pymc_multimodal.search.state import Search
from pymc_multimodal.status import ModelError
from pymc_multimodal.target.density import Density
from pymc_multimodal.target.limits import Limits

TWO = two_modes()


def sample_of(x):
    x = np.asarray(x, float)
    return Starts.finite(x, TWO.logp(x), np.ones(len(x), dtype=bool))


def empty_search(density, rng):
    return Search.empty(start_distribution(density, ModeSearch(), rng), False)


def test_selected_starts_are_high_and_far_apart(rng):
    density = TWO.density(gradient=False)
    search, sample = empty_search(density, rng), sample_of(TWO.density().prior_draws(200, rng))
    starts, left = select_starts(density, search, sample, 8)
    assert len(starts) == 8
    assert len(left) == 192
    assert starts.logp[0] == sample.logp.max()
    step = (starts.x[:, None] - starts.x) / search.spread
    distance = np.linalg.norm(step, axis=2)[np.triu_indices(8, 1)]
    # Half the distance of two draws, or an eighth of that where the sample is used up.
    assert distance.min() >= 0.5 * np.sqrt(2 * 2) / 8
    assert starts.logp.mean() > sample.logp.mean()
    # Nothing is lost.
    both = np.sort(np.concatenate([starts.logp, left.logp]))
    np.testing.assert_array_equal(both, np.sort(sample.logp))


def test_selected_starts_are_neither_prior_draws_nor_random(rng):
    density = TWO.density(gradient=False)
    sample = sample_of(TWO.density().prior_draws(50, rng))
    starts, _ = select_starts(density, empty_search(density, rng), sample, 4)
    assert not starts.from_prior.any()
    assert not starts.at_random.any()


def test_points_that_a_known_optimum_explains_come_last(rng):
    density = TWO.density(gradient=False)
    known, other = TWO.means
    search = empty_search(density, rng)
    top = float(TWO.logp(known[None])[0])
    search = Search(**{**vars(search), "optima": optima_at([known], [top])})
    sample = sample_of([known + 0.1, known - 0.2, other + 2.0])
    starts, _ = select_starts(density, search, sample, 1)
    np.testing.assert_array_equal(starts.x[0], other + 2.0)


@pytest.mark.parametrize(
    ("gradient", "settings", "selected"),
    [
        (False, ModeSearch(), True),
        (True, ModeSearch(), False),
        (True, ModeSearch(optimiser="cobyqa"), True),
        (False, ModeSearch(optimiser="powell"), False),
        (False, ModeSearch(starts=10), False),
        (False, ModeSearch(starts=np.zeros((1, 2))), False),
    ],
)
def test_starts_are_selected_where_climbs_are_dear(gradient, settings, selected, rng):
    density = TWO.density(gradient=gradient)
    distribution = start_distribution(density, settings, rng)
    assert are_selected(density, settings, distribution) == selected


def test_only_random_starts_say_what_was_missed(rng):
    density, settings = TWO.density(gradient=False), ModeSearch()
    first = find_modes(density, begin_search(density, settings, False, rng), settings, rng)
    modes = modes_of(density, first, settings)
    assert not first.start_tells.any()
    assert np.isnan(modes.seen_basin_mass)
    assert modes.unseen_start_mass_upper == 1.0
    assert not first.settled
    second = find_modes(density, first, settings, rng)
    drawn = np.arange(second.counts.starts) >= first.counts.starts
    np.testing.assert_array_equal(second.start_tells, drawn)
    modes = modes_of(density, second, settings)
    assert modes.unseen_start_mass_upper >= 3.0 / drawn.sum()
    n = second.start_from_prior.sum()
    assert 0 < n < drawn.sum()
    assert modes.seen_basin_mass == pytest.approx(min(1.0, 3.0 / n))


def test_near_a_limit_sample_and_climbs_are_fewer(rng):
    settings, sizes = ModeSearch(), []
    for limit in (60, 200, 1e9):
        density = TWO.density(gradient=False)
        density.limits = Limits(early_evals=limit)
        search = find_modes(density, begin_search(density, settings, False, rng), settings, rng)
        assert density.n_logp_evals < 2 * limit
        assert len(search.optima) > 0
        sizes.append(search.counts.starts)
    assert sizes[0] <= sizes[1] < sizes[2]


def test_a_density_that_is_finite_nowhere_is_an_error(rng):
    density = Density(
        lambda x: (np.full(len(x), -np.inf), None),
        2,
        has_gradient=False,
        prior=lambda n, rng: rng.standard_normal((n, 2)),
    )
    settings = ModeSearch()
    with pytest.raises(ModelError, match="NaN or -inf at all of"):
        find_modes(density, begin_search(density, settings, False, rng), settings, rng)
