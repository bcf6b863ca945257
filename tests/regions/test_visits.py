"""Points that chains have to visit: a wide piece that a narrow maximum hides."""

from dataclasses import replace

import numpy as np
from chains import prepared, run
from densities import Everywhere, Mixture

from pymc_multimodal.proposals import Hybrid
from pymc_multimodal.regions import (
    LocalSampling,
    RegionSampler,
    begin_chains,
    draws_of,
    escalate_regions,
)

D = 30
LINE = np.full(D, np.inf)
ONE = np.zeros(1, dtype=int)


def fitted_jumps(draws, regions, rng, previous):
    return Hybrid(families=("gaussian", "mixture")).fit_regions(draws, LINE, rng).densities


def test_chains_stay_at_points_far_below_the_others_until_jumps_know_them(rng):
    """The slab is 68 nats below the spike, and a chain that has left the slab does not return."""
    target = Mixture(np.zeros((2, D)), [1e-2 * np.eye(D), np.eye(D)], [0.3, 0.7])
    density = target.density()
    config, modes, pilot = prepared(density, rng, LocalSampling(), starts=16)
    sampler = RegionSampler(density, Everywhere(), config, modes.locations, fitted_jumps)
    slab = rng.standard_normal((20, D))

    def outside(visit):
        chains = begin_chains(sampler, modes, pilot, (), visit, rng)
        return chains, np.linalg.norm(chains.state.x, axis=1) > 1.3

    assert not outside(None)[1].any()
    chains, out = outside(slab)
    # Every fourth chain starts there.
    assert out.sum() == config.chains // 4
    chains = escalate_regions(sampler, chains, ONE, rng)
    chains = run(replace(sampler, settings=replace(config, min_ess=500)), chains, rng)
    x = draws_of(sampler, chains).x[0]
    assert chains.r_hat[0] < 1.02
    share = np.mean(np.linalg.norm(x, axis=-1) < 1.3)
    # 500 effective draws know the share of the spike within 0.02.
    assert abs(share - 0.3) < 0.08
