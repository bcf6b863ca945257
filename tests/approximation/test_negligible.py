"""Modes of next to no mass are left out of a mixture, and of nothing else."""

from dataclasses import replace

import numpy as np
from densities import Mixture
from searches import settled_search

from pymc_multimodal.approximation import (
    FirstAnswer,
    LeftOut,
    approximate,
    first_mixture,
    negligible_in_sample,
    negligible_modes,
)
from pymc_multimodal.approximation.sample import draw_sample, mode_of_draws
from pymc_multimodal.search import ModeSearch, modes_of
from pymc_multimodal.target.target import Target

TINY = 1e-5


def grid(sizes, log_z=0.7):
    """Normals of unit width on a grid, by their shares."""
    sizes = np.asarray(sizes) / np.sum(sizes)
    means = 12.0 * np.array([divmod(i, 5) for i in range(len(sizes))], dtype=float)
    return Mixture(means - means.mean(axis=0), [np.eye(2)] * len(sizes), sizes, log_z=log_z)


def searched(target, rng):
    density, settings = target.density(), ModeSearch(starts=target.means + 0.5)
    search = settled_search(density, settings, rng)
    modes = modes_of(density, search, settings)
    sizes = target.weights[target.component(modes.locations)]
    return density, search, modes, sizes


def test_modes_of_next_to_no_mass_are_told_from_the_others(rng):
    target = grid([0.5, 0.3, 0.19, 0.01] + [TINY] * 16)
    density, search, modes, sizes = searched(target, rng)
    assert len(modes) == 20
    start, every = search.distribution, np.ones(20, dtype=bool)
    small = negligible_modes(Target(density), modes, start, every, 0.01, rng)
    np.testing.assert_array_equal(small, sizes < 2 * TINY)
    # The joint mass counts: 16 such modes hold more than 0.3 of an error of 0.0002.
    few = negligible_modes(Target(density), modes, start, every, 2e-4, rng)
    assert few.sum() < 16
    assert target.weights[target.component(modes.locations[few])].sum() < 0.3 * 2e-4
    # A sample that has been drawn tells the same.
    found = approximate(Target(density), modes, start, FirstAnswer(), 0.01, rng)
    small = negligible_in_sample(found.mixture, found.sample, every, 0.01)
    np.testing.assert_array_equal(small, sizes < 2 * TINY)
    # Of others nothing is said.
    asked = sizes > 2 * TINY
    assert not negligible_modes(Target(density), modes, start, asked, 0.01, rng).any()


def test_a_mixture_without_them_gives_the_whole_evidence(rng):
    """The wide density covers what is left out, here a fifth of the mass."""
    target = grid([0.5, 0.3] + [0.02] * 10)
    density, search, modes, sizes = searched(target, rng)
    out = sizes < 0.1
    ids = modes.optimum_ids[out[modes.optimum_modes]]
    optima = search.optima.leaving_out(ids)
    left_out = LeftOut.of(optima)
    assert len(left_out) == 10
    kept = modes_of(density, replace(search, optima=optima), ModeSearch())
    assert len(kept) == 2
    mixture = first_mixture(
        kept, kept.log_mass, search.distribution, density.period, left_out=left_out
    )
    counts = np.array([1000, 1000, 4000])
    mixture = replace(mixture, shares=counts / counts.sum())
    sample = draw_sample(density, mixture, counts, rng)
    error = sample.standard_error(sample.ratio)[0] / sample.ratio.mean()
    assert abs(sample.log_evidence - target.log_z) < 4 * error
    assert error < 0.1
    # Draws in these modes belong to none of the others.
    mode = mode_of_draws(mixture, sample)
    component = target.component(sample.x)
    near = np.linalg.norm(sample.x - target.means[component], axis=1) < 2.0
    np.testing.assert_array_equal(mode[near] == -1, target.weights[component[near]] < 0.1)


def test_chains_in_a_mode_that_is_left_out_have_met_no_news(rng):
    target = grid([0.6, 0.4] + [TINY] * 10)
    density, search, modes, sizes = searched(target, rng)
    ids = modes.optimum_ids[(sizes < 0.1)[modes.optimum_modes]]
    optima = search.optima.leaving_out(ids)
    kept = modes_of(density, replace(search, optima=optima), ModeSearch())
    found = approximate(
        Target(density), kept, search.distribution, FirstAnswer(), 0.01, rng, LeftOut.of(optima)
    )
    assert found.verdict.precise
    assert abs(found.weights.total - target.log_z) < 4 * found.weights.total_se
    np.testing.assert_allclose(found.generator.weights.sum(), 1.0)
    there = modes.locations[sizes < 0.1]
    height = density.logp(there)
    assert found.met(Target(density), there, height, LeftOut.of(optima)).verdict.precise
