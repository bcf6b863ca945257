"""Regions that are left alone, and regions whose chains jump to their neighbours' modes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from chains import begun, prepared, run, z_of_means
from densities import HalfSpace
from regional import PAIR, SHAPES, Sliver, exact_masses
from scipy.stats import norm

from pymc_multimodal.regions import (
    LocalSampling,
    connect_regions,
    diagnostics_of,
    draws_of,
    extend_chains,
    jumps_of,
    n_draws,
    skip_regions,
    unmixed,
)
from pymc_multimodal.status import worst


def test_negligible_regions_are_left_alone(rng):
    config, modes, pilot = prepared(PAIR.density(), rng, LocalSampling(draws=20))
    sampler, chains = begun(PAIR.density(), HalfSpace(), modes, pilot, config, rng)
    assert len(unmixed(chains, sampler.settings)) == 2
    chains = skip_regions(chains, np.array([False, True]))
    assert unmixed(chains, sampler.settings).tolist() == [0]
    chains = run(sampler, chains, rng)
    assert n_draws(chains)[0] > n_draws(chains)[1] == 20
    # No warning, but the table does not call such a mode sound.
    statuses = diagnostics_of(chains, sampler.settings).statuses
    assert worst(statuses, 1) == "negligible_region"
    assert not [s for s in statuses if s.level == "warning" and s.mode == 1]


class Unreached(Sliver):
    """As the chains see a sliver that they never reach: it belongs to neither region."""

    def label(self, x):
        return np.where(self.cut(x), 2, super().label(x))


def test_connected_pieces_are_visited_in_proportion(rng):
    partition, unreached = Sliver(norm.isf(0.15)), Unreached(norm.isf(0.15))
    density = PAIR.density()
    config = LocalSampling(draws=200, min_ess=400)
    config, modes, pilot = prepared(density, rng, config)
    order = np.argsort(modes.locations[:, 0])
    modes, pilot = modes.take(order), pilot.take(order)
    sampler, chains = begun(density, unreached, modes, pilot, config, rng)
    chains = run(sampler, chains, rng)
    before = draws_of(sampler, chains)
    assert not partition.cut(before.x[1].reshape(-1, 2)).any(), "the chains are all in one piece"
    assert jumps_of(chains) == [None, None]
    sampler = replace(sampler, partition=partition)
    chains = connect_regions(sampler, chains, {1: (SHAPES[1], SHAPES[:1])}, rng)
    assert n_draws(chains)[1] == 200
    assert jumps_of(chains) == [None, SHAPES[1]]
    chains = run(sampler, chains, rng)
    chains = extend_chains(sampler, chains, np.array([1]), 800, rng)
    after = draws_of(sampler, chains)
    np.testing.assert_array_equal(after.x[0], before.x[0])
    x = after.x[1]
    assert np.all(partition.label(x.reshape(-1, 2)) == 1)
    mass, sliver = exact_masses(partition)
    inside = partition.cut(x.reshape(-1, 2)).reshape(*x.shape[:2], 1).astype(float)
    assert abs(z_of_means(inside, sliver / mass[1], size=200)[0]) < 4.5
    np.testing.assert_allclose(after.logp[1].ravel(), PAIR.logp(x.reshape(-1, 2)))
