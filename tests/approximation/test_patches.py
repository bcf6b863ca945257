"""Parts are added where a mixture is too thin, by all draws so far."""

import numpy as np
from densities import Banana, Mixture
from searches import settled_search

from pymc_multimodal.approximation import first_mixture
from pymc_multimodal.approximation.patches import patched
from pymc_multimodal.approximation.pool import Pool
from pymc_multimodal.approximation.refit import with_draws
from pymc_multimodal.approximation.sample import draw_sample
from pymc_multimodal.search import ModeSearch, modes_of


def begun(target, rng):
    density, settings = target.density(), ModeSearch(starts=64)
    search = settled_search(density, settings, rng)
    modes = modes_of(density, search, settings)
    mixture = first_mixture(modes, modes.log_mass, search.distribution, density.period)
    return density, mixture


def sampled(density, mixture, n, rng):
    counts = np.ceil(n * mixture.shares).astype(int)
    return draw_sample(density, mixture, counts, rng)


def effective(sample):
    return sample.ratio.mean() ** 2 / np.mean(sample.ratio**2)


def test_parts_lower_the_largest_ratios(rng):
    density, mixture = begun(Banana(4), rng)
    before = sampled(density, mixture, 4000, rng)
    better = patched(mixture, before)
    inside = before.ratio > 0
    ratio = before.logp[inside] - better.log_density(before.x[inside])
    largest = np.log(before.ratio.max() / before.ratio.mean())
    assert ratio.max() - before.log_evidence < largest - np.log(2)
    # Effective sizes vary from sample to sample.
    gains = []
    for _ in range(8):
        before = sampled(density, mixture, 4000, rng)
        after = sampled(density, patched(mixture, before), 4000, rng)
        gains.append(np.log(effective(after) / effective(before)))
    assert np.mean(gains) > np.log(2)
    # A mixture that is everywhere thick enough is left alone.
    plain, fits = begun(Mixture([[0.0, 0.0]], [np.eye(2)], [1.0]), rng)
    assert patched(fits, sampled(plain, fits, 4000, rng)) is fits


def test_parts_take_the_mass_that_the_mixture_lacks_and_no_more(rng):
    _, fits = begun(Mixture([np.zeros(6)], [np.eye(6)], [1.0]), rng)
    bump = Mixture(
        np.array([np.zeros(6), 2.0 * np.eye(6)[0]]), [np.eye(6), 0.04 * np.eye(6)], [0.98, 0.02]
    )
    better = patched(fits, sampled(bump.density(), fits, 6000, rng))
    new = better.densities[0].undefended
    added = new.weights[1:].sum()
    assert len(new.weights) > 1
    # The bump holds 0.02, and the draws around it that are described well belong to no part.
    assert added < 0.1
    exact = bump.draws(20_000, rng)
    gap = [bump.logp(exact) - q.log_density(exact) for q in (fits, better)]
    assert gap[1].mean() < gap[0].mean()


def test_a_mixture_with_parts_is_normalised(rng):
    density, mixture = begun(Banana(2), rng)
    better = patched(mixture, sampled(density, mixture, 2000, rng))
    assert sum(len(q.df) for q in better.densities) > sum(len(q.df) for q in mixture.densities)
    np.testing.assert_allclose(better.shares.sum(), 1.0)
    np.testing.assert_allclose([q.weights.sum() for q in better.densities], 1.0)
    # The mean of q / p under p is the integral of q over the support of p.
    x, _ = mixture.stratified(np.ceil(200_000 * mixture.shares).astype(int), rng)
    ratio = np.exp(better.log_density(x) - mixture.log_density(x))
    assert abs(ratio.mean() - 1.0) < 5 * ratio.std() / np.sqrt(len(x))
    # Draws of the density that a part was added to are described by it.
    assert all(q.undefended.weights.sum() > 1 - 1e-9 for q in better.densities)


def test_the_joint_density_of_a_pool_is_that_of_all_its_mixtures(rng):
    """It keeps the last four samples."""
    density, mixture = begun(Banana(3), rng)
    mixtures, pool = [mixture], Pool.begun(sampled(density, mixture, 500, rng), mixture)
    for n in (800, 1300, 500, 700):
        mixtures.append(patched(mixtures[-1], pool.joint()))
        pool = pool.with_sample(sampled(density, mixtures[-1], n, rng), mixtures[-1])
    joint, mixtures = pool.joint(), mixtures[-4:]
    assert len(pool.samples) == 4
    sizes = np.array([len(s) for s in pool.samples])
    q = sum(n * np.exp(m.log_density(joint.x)) for n, m in zip(sizes, mixtures, strict=True))
    np.testing.assert_allclose(joint.log_q, np.log(q / sizes.sum()), rtol=1e-10)
    assert len(joint) == sizes.sum() == joint.counts.sum()


def test_draws_of_chains_show_what_has_no_optimum_of_its_own(rng):
    """A wide normal beneath a narrow one: the mixture over the optimum does not see it."""
    hidden = Mixture(np.zeros((2, 6)), [0.04 * np.eye(6), np.eye(6)], [0.5, 0.5])
    density, mixture = begun(hidden, rng)
    chains = hidden.draws(480, rng)[None]
    described = with_draws(mixture, chains, rng)
    assert effective(sampled(density, mixture, 4000, rng)) < 0.2
    assert effective(sampled(density, described, 4000, rng)) > 0.4
