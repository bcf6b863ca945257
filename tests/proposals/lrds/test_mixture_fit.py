"""Mixtures that references are made of."""

from __future__ import annotations

import numpy as np
from densities import HalfSpace, exact_local, two_modes, z_scores

from pymc_multimodal.proposals import EllipticalMixture, RegionalFamilies, laplace
from pymc_multimodal.proposals.lrds import PooledDraws, SplitDraws
from pymc_multimodal.proposals.lrds.mixture_fit import (
    fit_pooled_mixture,
    gaussian_per_region,
    join_region_mixtures,
    refine_mixture,
)

LINE = np.full(2, np.inf)


def test_joined_mixtures_fit_the_whole(rng):
    target = two_modes(log_z=0.0)
    local = exact_local(target, HalfSpace().label, 2, rng)
    fitted = RegionalFamilies(families=("gaussian", "mixture")).fit_regions(local, LINE, rng)
    mixture = join_region_mixtures(fitted.densities, target.weights)
    x = target.draws(5_000, rng)
    assert np.mean(target.logp(x) - mixture.log_density(x)) < 0.05


def test_gaussians_of_different_sizes_stand_for_a_student(rng):
    defended = laplace(np.zeros(2), np.eye(2), LINE)
    student = EllipticalMixture.single(
        defended.means[-1], defended.scales[-1], 4.0, LINE, np.zeros(2)
    )
    mixture = join_region_mixtures((student,), np.ones(1))
    assert mixture.n_components > 1
    x = rng.standard_normal((5_000, 2))
    assert np.abs(student.log_density(x / 2) - mixture.log_density(x / 2)).max() < 1.0


def test_one_gaussian_for_each_region_has_its_moments(rng):
    x = np.concatenate([rng.standard_normal((500, 2)), rng.standard_normal((300, 2)) + 6.0])
    region = np.repeat([0, 1], [500, 300])
    probability = np.repeat([0.7 / 500, 0.3 / 300], [500, 300])
    found = gaussian_per_region(PooledDraws(x, np.zeros(800), probability, region))
    np.testing.assert_allclose(found.weights, [0.7, 0.3])
    for k in range(2):
        own = x[region == k]
        np.testing.assert_allclose(found.means[k], own.mean(axis=0))
        np.testing.assert_allclose(found.covariances[k], np.cov(own.T), rtol=1e-6)


def test_a_pooled_mixture_finds_modes_and_weights(rng):
    target = two_modes(log_z=0.0)
    local = exact_local(target, HalfSpace().label, 2, rng, draws=200)
    draws = SplitDraws.from_regions(local, target.weights, LINE).training
    mixture = fit_pooled_mixture(draws, 2, rng)
    order = np.argsort(HalfSpace().label(mixture.means))
    np.testing.assert_allclose(mixture.weights[order], target.weights, atol=0.02)
    np.testing.assert_allclose(mixture.means[order], target.means, atol=0.2)


def test_em_on_all_draws_mends_what_a_border_cut(rng):
    """Two modes so close that the border runs through both, and two that are far apart."""
    close, apart = two_modes(distance=2.2, log_z=0.0), two_modes(log_z=0.0)
    found = {}
    for name, target in (("close", close), ("apart", apart)):
        local = exact_local(target, HalfSpace().label, 2, rng, draws=400)
        fitted = RegionalFamilies(families=("gaussian",)).fit_regions(local, LINE, rng)
        before = join_region_mixtures(fitted.densities, target.weights)
        draws = SplitDraws.from_regions(local, target.weights, LINE)
        found[name] = before, refine_mixture(before, draws, rng)
    before, after = found["close"]
    x = close.draws(20_000, rng)
    assert z_scores(after.log_density(x) - before.log_density(x), 0.01) > 3
    before, after = found["apart"]
    assert after is before
