"""Where further climbs begin, and what they may cost."""

from __future__ import annotations

import numpy as np
import pytest
from densities import VonMises, two_modes
from searches import settled_search

from pymc_multimodal.challenge.candidate import SearchHolder
from pymc_multimodal.challenge.climbs import beginnings, climb_from
from pymc_multimodal.challenge.tempered import Reference
from pymc_multimodal.search import ModeSearch, modes_of
from pymc_multimodal.target.density import Density

LINE = np.full(2, np.inf)


def test_half_of_the_beginnings_come_from_the_trail(rng):
    density, reference = two_modes().density(), Reference(np.zeros(2), np.full(2, 5.0), LINE)
    trail = rng.standard_normal((300, 2))
    x = beginnings(density, two_modes().means, trail, reference, 400, rng)
    assert x.shape == (400, 2)
    known = (x[:, None] == trail).all(axis=2)
    assert known.any(axis=1).sum() == 200
    assert known.sum(axis=0).max() == 1


def test_without_a_trail_all_lie_around_what_is_known(rng):
    density, reference = two_modes().density(), Reference(np.zeros(2), np.full(2, 5.0), LINE)
    x = beginnings(density, two_modes().means, np.empty((0, 2)), reference, 300, rng)
    assert len(x) == 300
    # On the way to a draw of the reference, whose medians are at 3.6 of 5, and never beyond.
    assert 1.0 < np.median(np.linalg.norm(x, axis=1)) < 5.0


def test_beginnings_are_where_the_density_is(rng):
    def half(x):
        return np.where(x[:, 0] > 0, -0.5 * np.sum(x**2, axis=1), -np.inf), -x

    density = Density(half, 2)
    reference = Reference(np.zeros(2), np.ones(2), LINE)
    x = beginnings(
        density, np.array([[1.0, 0.0]]), rng.standard_normal((50, 2)), reference, 200, rng
    )
    assert 50 < len(x) < 200
    assert np.isfinite(density.logp(x)).all()


def test_circular_beginnings_are_wrapped(rng):
    target = VonMises([np.pi, 0.5], [8.0, 12.0], [0.6, 0.4])
    density = target.density()
    reference = Reference(np.zeros(target.dim), np.ones(target.dim), density.period)
    optima = np.full((1, target.dim), 3.0)
    x = beginnings(density, optima, optima[:0], reference, 200, rng)
    np.testing.assert_array_equal(x, density.wrap(x))


@pytest.mark.parametrize("gradient", [True, False])
def test_climbs_end_with_their_budget(gradient, rng):
    density = two_modes(dim=3).density(gradient=gradient)
    settings = ModeSearch()
    finder = SearchHolder(density, settings, settled_search(density, settings, rng))
    known = modes_of(density, finder.search, settings)
    points = density.prior_draws(1024, rng)
    before = density.n_logp_evals
    climbs, found = climb_from(finder, known, points, 3_000)
    spent = density.n_logp_evals - before
    assert 8 <= climbs < 1024
    assert spent < 3_000 + 2 * 3_000 / climbs * 8 + 1_000
    assert len(found) == 2
    assert climb_from(finder, known, points[:0], 3_000) == (0, known)
    assert climb_from(finder, known, points[:5], np.inf)[0] == 5


def test_climbs_that_a_limit_cuts_off_keep_what_was_found(rng):
    target = two_modes(dim=3)
    density = target.density()
    settings = ModeSearch(starts=target.means[:1])
    finder = SearchHolder(density, settings, settled_search(density, settings, rng))
    known = modes_of(density, finder.search, settings)
    assert len(known) == 1
    before = density.n_logp_evals
    density.limit = lambda: density.n_logp_evals > before + 1_000
    with density.limited():
        climbs, found = climb_from(finder, known, density.prior_draws(1024, rng), 1e9)
    assert 8 <= climbs < 1024
    assert len(found) == 2
