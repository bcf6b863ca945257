"""What a tempered search says of fits that are right, and of fits that miss something."""

from __future__ import annotations

import numpy as np
import pytest
from candidates import candidate_of
from densities import Banana, Everywhere, HalfSpace, gaussian, two_modes

from pymc_multimodal.challenge import (
    Challenge,
    Reference,
    begin_challenge,
    extend_particles,
)
from pymc_multimodal.challenge.assess import assess_particles, particle_masses
from pymc_multimodal.challenge.tempered import Particles
from pymc_multimodal.search import ModeSearch


def assessed(target, partition, label, rng, *, budget=40_000):
    """Assess exact draws of each region, as far as `label` gives them to one."""
    candidate, search = candidate_of(target, partition, label, rng)
    density = candidate.target.density
    reference = Reference(search.centre, search.spread, density.period)
    state = begin_challenge(Challenge(), target.dim)
    state = extend_particles(density, reference, state, budget, np.random.default_rng(7))
    assert state.pilot is not None
    _, result = assess_particles(
        candidate, search, ModeSearch(), state.pilot, state.particles, np.random.default_rng(8)
    )
    return result, state, candidate.weights


def test_a_region_with_chains_in_one_of_its_two_pieces_is_proved_wrong(rng):
    """All modes are known, the region holds both, and its draws are of one alone."""
    target = two_modes(dim=2, distance=8.0, weights=(0.4, 0.6))
    first = HalfSpace(0.0)
    result, _, weights = assessed(
        target, Everywhere(), lambda x: np.where(first.label(x) == 1, 0, -1), rng
    )
    assert abs(weights.total - target.log_z) > 20 * weights.total_se
    assert not weights.statuses
    assert [s.mode for s in result.statuses][:1] == [0]
    assert (first.label(result.counterexamples) == 0).any()
    assert 0.1 < result.missed_by_fit < 0.8


def test_a_banana_cut_in_two_with_an_arm_in_the_wrong_region_is_proved_wrong(rng):
    """Region 0 has one arm and the tip of the other, which its chains never enter."""
    target = Banana(2, sd=2.0, bend=1.0, noise=0.4)

    class Cut:
        n_regions, statuses = 2, ()

        def label(self, x):
            return ((x[:, 0] > -0.5) & (x[:, 0] < 2.0)).astype(int)

    cut = Cut()
    result, _, weights = assessed(
        target, cut, lambda x: np.where((cut.label(x) == 0) & (x[:, 0] > 0), -1, cut.label(x)), rng
    )
    assert abs(weights.total) > 10 * weights.total_se
    assert 0 in [s.mode for s in result.statuses]
    assert (result.counterexamples[:, 0] > 2.0).any()


@pytest.mark.parametrize("seed", range(4))
def test_a_right_fit_stands(seed):
    target = two_modes(dim=2, distance=8.0, weights=(0.4, 0.6))
    partition = HalfSpace(0.0)
    result, _, weights = assessed(target, partition, partition.label, np.random.default_rng(seed))
    assert not len(result.counterexamples)
    assert not result.statuses
    assert result.missed_by_fit == 0
    # One-sided by design; both sides hold where the search is good.
    z = (result.log_mass - weights.log_evidence) / result.log_mass_se
    assert np.abs(z).max() < 4


def test_the_search_does_not_depend_on_the_fitted_draws(rng):
    """Only how much is spent is taken from the fit."""
    target, everywhere = gaussian(np.ones(2), np.eye(2)), Everywhere()
    runs = [
        assessed(target, everywhere, label, np.random.default_rng(seed))[1]
        for seed, label in ((1, everywhere.label), (2, lambda x: np.where(x[:, 0] > 1, 0, -1)))
    ]
    np.testing.assert_array_equal(runs[0].particles.x, runs[1].particles.x)
    np.testing.assert_array_equal(runs[0].particles.log_weight, runs[1].particles.log_weight)


def test_too_short_a_search_says_so(rng):
    result, _, _ = assessed(gaussian(np.zeros(2), np.eye(2)), Everywhere(), Everywhere().label, rng,
                           budget=100)  # fmt: skip
    assert np.isnan(result.missed_by_fit)
    assert [s.level for s in result.statuses] == ["info"]
    assert "inconclusive" in result.statuses[0].cause


def test_masses_are_means_over_islands_by_their_sizes(rng):
    """Two islands of 4 and 2 particles with masses 1, 3 and 2, 0 in two regions."""
    island = np.array([0, 0, 0, 0, 1, 1])
    mass = np.array([1.0, 1.0, 1.0, 1.0, 2.0, 5.0])
    particles = Particles(
        x=np.zeros((6, 1)), logp=np.zeros(6), log_weight=np.log(mass), island=island,
        root=np.arange(6), schedule=None, intermediate=np.zeros((0, 1)),
    )  # fmt: skip
    region = np.array([0, 1, 1, 1, 0, -1])
    log_mass, error = particle_masses(particles, region, 3)
    mean = np.array([(4 * 1 + 2 * 2) / 6, (4 * 3 + 2 * 0) / 6])
    np.testing.assert_allclose(np.exp(log_mass[:2]), mean)
    assert log_mass[2] == -np.inf
    spread = np.array([[1.0, 3.0], [2.0, 0.0]]) - mean
    weight = np.array([4 / 6, 2 / 6])
    variance = weight**2 @ spread**2 / (1 - np.sum(weight**2))
    expected = np.sqrt(variance) / mean
    np.testing.assert_allclose(error[:2], expected)
    assert np.isnan(error[2])


def unequal_islands(rng, sizes=(8, 64), each=4):
    """Islands of two sizes whose particles have masses of mean 1, half of them in region 1."""
    size = np.repeat(sizes, each)
    island = np.repeat(np.arange(len(size)), size)
    n = len(island)
    mass = rng.exponential(size=n)
    island_mass = np.bincount(island, mass) / size
    region = rng.integers(2, size=n)
    particles = Particles(
        x=np.zeros((n, 1)), logp=np.zeros(n),
        log_weight=np.log(island_mass / size)[island], island=island, root=np.arange(n),
        schedule=None, intermediate=np.zeros((0, 1)),
    )  # fmt: skip
    return particles, region


def test_islands_of_8_and_of_64_count_by_their_sizes(rng):
    particles, _ = unequal_islands(rng)
    share = np.bincount(particles.island, particles.share)
    mass = np.bincount(particles.island, np.exp(particles.log_weight))
    size = particles.island_sizes
    np.testing.assert_allclose(share, mass * size / (mass @ size))
    assert share[size == 64].sum() > 0.8


def test_errors_of_unequal_islands_are_right(rng):
    """Over many searches the error is as large as stated, without a bias."""
    variances, found = [], []
    for _ in range(2000):
        particles, region = unequal_islands(rng)
        log_mass, error = particle_masses(particles, region, 2)
        found.append(np.exp(log_mass))
        variances.append((error * np.exp(log_mass)) ** 2)
    assert np.allclose(np.mean(found, axis=0), 0.5, atol=0.01)
    ratio = np.mean(variances, axis=0) / np.var(found, axis=0)
    # The variance of 2,000 values is known within 3 %, the mean of the squared errors within 2 %.
    assert np.all(np.abs(ratio - 1) < 0.12)
