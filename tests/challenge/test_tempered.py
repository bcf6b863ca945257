"""The tempered search by itself: its evidences are unbiased, its particles posterior draws."""

from __future__ import annotations

import numpy as np
import pytest
from densities import Banana, VonMises, gaussian, two_modes
from scipy.special import logsumexp

from pymc_multimodal.challenge import Reference, TemperedSettings, tempered_smc
from pymc_multimodal.target.density import Density

LINE = np.full(2, np.inf)


@pytest.mark.parametrize(
    ("target", "gradient"),
    [
        (two_modes(dim=3, distance=8.0, weights=(0.3, 0.7), log_z=2.5), True),
        (two_modes(dim=2, distance=8.0, weights=(0.3, 0.7), log_z=-1.0), False),
        (Banana(2), True),
        (VonMises([np.pi, 0.5], [8.0, 12.0], [0.6, 0.4]), True),
    ],
    ids=["two", "without_gradient", "banana", "circle"],
)
def test_islands_give_the_evidence_within_their_own_error(target, gradient, rng):
    density = target.density(gradient=gradient)
    period = LINE if target.period is None else np.asarray(target.period)
    period = np.resize(period, target.dim)
    reference = Reference(np.zeros(target.dim), np.full(target.dim, 5.0), period)
    schedule = tempered_smc(density, reference, 1, 128, rng).schedule
    assert schedule.beta[-1] == 1.0
    assert np.all(np.diff(schedule.beta) > 0)
    ends = tempered_smc(density, reference, 40, 64, rng, schedule)
    z = np.array([np.exp(logsumexp(ends.log_weight[ends.island == i])) for i in range(40)])
    z /= np.exp(target.log_z)
    error = z.std(ddof=1) / np.sqrt(40)
    assert error < 0.2
    assert abs(z.mean() - 1) < 4 * error
    # The endpoints are weighted posterior draws: a bounded function's mean, island by island.
    inside = np.abs(target.draws(100_000, rng)[:, 0]) < 1
    own = np.exp(ends.log_weight - target.log_z) * (np.abs(ends.x[:, 0]) < 1)
    mass = np.bincount(ends.island, own)
    assert abs(mass.mean() - inside.mean()) < 4 * mass.std(ddof=1) / np.sqrt(40)


def test_a_search_joined_with_another_counts_all_islands(rng):
    density = gaussian(np.zeros(2), np.eye(2)).density()
    reference = Reference(np.zeros(2), np.full(2, 5.0), LINE)
    first = tempered_smc(density, reference, 2, 16, rng)
    both = first.joined(tempered_smc(density, reference, 3, 8, rng, first.schedule))
    assert both.n_islands == 5
    assert len(both) == 2 * 16 + 3 * 8
    assert np.isclose(both.share.sum(), 1.0)
    assert not set(both.root[:32]) & set(both.root[32:])


def test_a_search_with_no_particle_inside_ends_at_once(rng):
    density = Density(lambda x: (np.full(len(x), -np.inf), np.zeros_like(x)), 2)
    ends = tempered_smc(density, Reference(np.zeros(2), np.ones(2), LINE), 1, 32, rng)
    assert not ends.arrived
    assert len(ends.schedule.beta) == 0


def test_particles_outside_of_the_support_are_lost_and_nothing_else(rng):
    def half(x):
        inside = x[:, 0] > 0
        logp = np.where(inside, -0.5 * (x**2).sum(axis=1), -np.inf)
        return logp, np.where(inside[:, None], -x, 0.0)

    reference = Reference(np.zeros(2), np.full(2, 5.0), LINE)
    density = Density(half, 2)
    schedule = tempered_smc(density, reference, 1, 256, rng).schedule
    ends = tempered_smc(density, reference, 20, 64, rng, schedule)
    assert (ends.x[:, 0] > 0).all()
    z = np.array([np.exp(logsumexp(ends.log_weight[ends.island == i])) for i in range(20)])
    assert abs(z.mean() - np.pi) < 4 * z.std(ddof=1) / np.sqrt(20)


def test_a_temperature_leaves_the_effective_share_that_is_asked_for():
    target = gaussian(np.zeros(3), np.eye(3))
    density, reference = (
        target.density(),
        Reference(np.zeros(3), np.full(3, 9.0), np.full(3, np.inf)),
    )
    settings = TemperedSettings(keep=0.4)
    rng = np.random.default_rng(0)
    found = tempered_smc(density, reference, 2, 256, rng, settings=settings).schedule.beta
    # The particles of the first temperature are draws of the reference.
    x = reference.sample(512, np.random.default_rng(0))
    weight = np.exp(found[0] * (density.logp(x) - reference.log_density(x)[0]))
    assert np.isclose(weight.sum() ** 2 / np.sum(weight**2) / 512, 0.4, rtol=1e-6)
    assert 0 < found[0] < found[-1] == 1.0
