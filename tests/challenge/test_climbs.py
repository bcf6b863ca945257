"""Where further climbs begin, and what they may cost."""

from __future__ import annotations

import numpy as np
import pytest
from densities import VonMises, two_modes
from searches import settled_search

from pymc_multimodal.challenge import Reference, climb_starts, climb_within
from pymc_multimodal.search import ModeSearch, modes_of
from pymc_multimodal.target.density import Density
from pymc_multimodal.target.limits import Limits

LINE = np.full(2, np.inf)


def test_half_of_the_starts_are_intermediate_particles(rng):
    density, reference = two_modes().density(), Reference(np.zeros(2), np.full(2, 5.0), LINE)
    particles = rng.standard_normal((300, 2))
    x = climb_starts(density, two_modes().means, particles, reference, 400, rng)
    assert x.shape == (400, 2)
    known = (x[:, None] == particles).all(axis=2)
    assert known.any(axis=1).sum() == 200
    assert known.sum(axis=0).max() == 1


def test_without_particles_all_lie_around_what_is_known(rng):
    density, reference = two_modes().density(), Reference(np.zeros(2), np.full(2, 5.0), LINE)
    x = climb_starts(density, two_modes().means, np.empty((0, 2)), reference, 300, rng)
    assert len(x) == 300
    # On the way to a draw of the reference, whose medians are at 3.6 of 5, and never beyond.
    assert 1.0 < np.median(np.linalg.norm(x, axis=1)) < 5.0


def test_starts_are_where_the_density_is(rng):
    def half(x):
        return np.where(x[:, 0] > 0, -0.5 * np.sum(x**2, axis=1), -np.inf), -x

    density = Density(half, 2)
    reference = Reference(np.zeros(2), np.ones(2), LINE)
    x = climb_starts(
        density, np.array([[1.0, 0.0]]), rng.standard_normal((50, 2)), reference, 200, rng
    )
    assert 50 < len(x) < 200
    assert np.isfinite(density.logp(x)).all()


def test_circular_starts_are_wrapped(rng):
    target = VonMises([np.pi, 0.5], [8.0, 12.0], [0.6, 0.4])
    density = target.density()
    reference = Reference(np.zeros(target.dim), np.ones(target.dim), density.period)
    optima = np.full((1, target.dim), 3.0)
    x = climb_starts(density, optima, optima[:0], reference, 200, rng)
    np.testing.assert_array_equal(x, density.wrap(x))


@pytest.mark.parametrize("gradient", [True, False])
def test_climbs_end_with_their_budget(gradient, rng):
    density, budget = two_modes(dim=2).density(gradient=gradient), 1_500
    settings = ModeSearch(starts=32)
    search = settled_search(density, settings, rng)
    points = density.prior_draws(4096, rng)
    before = density.n_logp_evals
    found, climbs = climb_within(density, search, settings, points, budget)
    spent = density.n_logp_evals - before
    assert 8 <= climbs < 4096
    assert spent < budget + 2 * budget / climbs * 8 + 500
    assert len(modes_of(density, found, settings)) == 2
    assert climb_within(density, search, settings, points[:0], budget) == (search, 0)
    assert climb_within(density, search, settings, points[:5], np.inf)[1] == 5


def test_climbs_that_a_limit_cuts_off_keep_what_was_found(rng):
    target = two_modes(dim=3)
    density = target.density()
    settings = ModeSearch(starts=target.means[:1])
    search = settled_search(density, settings, rng)
    assert len(modes_of(density, search, settings)) == 1
    before = density.n_logp_evals
    density.limits = Limits(early_evals=before + 1_000)
    # Eight climbs are made before the limit: from around both modes in turn.
    points = target.means[np.arange(1024) % 2] + 2.0 * rng.standard_normal((1024, 3))
    with density.limited():
        found, climbs = climb_within(density, search, settings, points, 1e9)
    assert 8 <= climbs < 1024
    assert len(modes_of(density, found, settings)) == 2
