"""Starts lie where the density is finite, near the centre and far from it."""

from __future__ import annotations

import numpy as np
import pytest
from densities import WideNormal, gaussian
from searches import five_modes, modes_found

from pymc_multimodal.search import ModeSearch, start_distribution
from pymc_multimodal.search.starts import draw_starts, first_starts
from pymc_multimodal.status import ModelError
from pymc_multimodal.target.density import Density


def test_some_starts_are_near_the_centre_and_some_far_out(rng):
    density = gaussian(np.zeros(64), np.eye(64)).density()
    distribution = start_distribution(density, ModeSearch(), rng)
    starts = draw_starts(density, distribution, ModeSearch(), 1000, rng)
    x = starts.x
    np.testing.assert_array_equal(starts.logp, density.logp(x))
    np.testing.assert_array_equal(starts.from_prior, np.arange(1000) % 2 == 0)
    assert x.shape == (1000, 64)
    size = np.linalg.norm(x, axis=1) / np.linalg.norm(density.prior_draws(1000, rng), axis=1).mean()
    assert np.mean(size < 0.3) == pytest.approx(0.075, abs=0.03)
    assert np.mean(size > 1.5) == pytest.approx(0.125, abs=0.04)


def test_nowhere_to_start_from_is_an_error(rng):
    density = Density(lambda x: (np.full(len(x), np.nan), np.zeros_like(x)), 2, prior=WideNormal(2))
    with pytest.raises(ModelError, match="NaN or -inf at all of 640 prior draws"):
        modes_found(density, rng)


def test_starts_given_as_points_are_used(rng):
    target = five_modes()
    modes = modes_found(target.density(), rng, starts=target.means[[1, 1, 3]] + 0.1)
    assert modes.n_starts == 3
    assert sorted(modes.hits) == [1, 2]


def test_centre_and_spread_are_those_of_the_prior(rng):
    def prior(n, rng):
        return rng.normal([3.0, -1.0, 7.0], [1.0, 20.0, 0.0], (n, 3))

    density = gaussian(np.zeros(3), np.eye(3)).density(prior=prior)
    starts = start_distribution(density, ModeSearch(), rng)
    assert density.n_logp_evals == 0
    assert (np.abs(starts.centre - [3.0, -1.0, 7.0]) <= [0.4, 8.0, 0.0]).all()
    np.testing.assert_allclose(starts.spread[:2], [1.0, 20.0], rtol=0.3)
    # A coordinate that does not vary has a spread too.
    assert 0 < starts.spread[2] < 0.1


def test_a_third_of_later_starts_lies_in_the_box_of_the_optima(rng):
    density, optima = gaussian(np.zeros(2), np.eye(2)).density(), np.array([[90.0, 90], [99, 99]])
    distribution = start_distribution(density, ModeSearch(), rng)
    starts = draw_starts(density, distribution, ModeSearch(), 300, rng, optima)
    x = starts.x
    # Neither in the box nor scaled about the centre: the prior draws are a third.
    assert starts.from_prior.sum() == 100
    assert (x[starts.from_prior] < 80).all()
    assert len(x) == 300
    assert np.sum((x > 80).all(axis=1)) == 100


def test_points_outside_of_the_support_are_no_starts(rng):
    def half(x):
        return np.where(x[:, 0] > 0, -0.5 * (x**2).sum(axis=1), -np.inf), -x

    density = Density(half, 2, prior=WideNormal(2))
    distribution = start_distribution(density, ModeSearch(), rng)
    starts = draw_starts(density, distribution, ModeSearch(), 100, rng)
    x = starts.x
    assert 30 < starts.from_prior.sum() < 70
    assert len(x) == 100
    assert (x[:, 0] > 0).all()
    given = start_distribution(density, ModeSearch(starts=[[1.0, 0.0], [-1.0, 0.0]]), rng)
    first = first_starts(density, given, ModeSearch(), rng, slice(0, 2))
    assert not first.from_prior.any()
    np.testing.assert_array_equal(first.x, [[1.0, 0.0]])
