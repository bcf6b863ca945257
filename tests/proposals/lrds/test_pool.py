"""Draws of all regions, pooled by weights."""

from __future__ import annotations

import numpy as np
from densities import HalfSpace, exact_local, two_modes

from pymc_multimodal.proposals.lrds import SplitDraws

LINE = np.full(2, np.inf)


def test_pooled_draws_hold_out_the_choosing_chains(rng):
    target = two_modes(log_z=0.0)
    local = exact_local(target, HalfSpace().label, 2, rng)
    draws = SplitDraws.from_regions(local, target.weights, LINE)
    parts = (draws.training, draws.held_out)
    # 2 of 16 chains of 100 draws in each of two regions.
    assert [len(p.x) for p in parts] == [2 * 1400, 2 * 200]
    for p in parts:
        assert np.isclose(p.probability.sum(), 1.0)
        shares = [p.probability[p.region == k].sum() for k in range(2)]
        np.testing.assert_allclose(shares, target.weights)
    both = np.concatenate([p.x for p in parts])
    assert len(np.unique(both, axis=0)) == 2 * 1600


def test_moments_of_pooled_draws(rng):
    target = two_modes(log_z=0.0)
    local = exact_local(target, HalfSpace().label, 2, rng)
    draws = SplitDraws.from_regions(local, target.weights, LINE).training
    mean, whole = draws.moments(within_regions=False)
    again, within = draws.moments(within_regions=True)
    np.testing.assert_array_equal(mean, again)
    np.testing.assert_allclose(mean, target.weights @ target.means, atol=0.1)
    np.testing.assert_allclose(whole, np.cov(draws.x.T, aweights=draws.probability, ddof=0))
    # The covariance of the whole is that within the regions and that of their means.
    means = np.stack([draws.x[draws.region == k].mean(axis=0) for k in range(2)])
    between = np.cov(means.T, aweights=target.weights, ddof=0)
    np.testing.assert_allclose(whole, within + between)
