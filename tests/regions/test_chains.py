"""Chains within regions: right moments, honest diagnostics, and states that are never changed."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from chains import begun, prepared, run, z_of_means
from densities import (
    Banana,
    Everywhere,
    HalfSpace,
    Mixture,
    VonMises,
    gaussian,
    moments,
    two_modes,
)

from pymc_multimodal.proposals import EllipticalMixture, Hybrid
from pymc_multimodal.regions import (
    LocalSampling,
    advance_chains,
    connect_regions,
    diagnostics_of,
    draws_of,
    escalate_regions,
    explore,
    extend_chains,
    jumps_of,
    n_draws,
    positions,
    short_regions,
    skip_regions,
    unmixed,
)
from pymc_multimodal.target.density import Density
from pymc_multimodal.target.limits import Limits

ONE = np.array([0])


def second_moments(x):
    flat = moments(x.reshape(-1, x.shape[-1]))
    return flat.reshape(*x.shape[:2], -1)


def exact_moments(target, rng, keep=lambda x: np.ones(len(x), bool), n=400_000):
    """Moments whose own error is a tenth of that of a few thousand draws."""
    x = target.draws(n, rng)
    return moments(x[keep(x)]).mean(axis=0)


def small(rng, **settings):
    """The chains of a standard normal in two dimensions, with their first batch."""
    density = gaussian(np.zeros(2), np.eye(2)).density()
    config, modes, pilot = prepared(density, rng, LocalSampling(**settings), starts=8)
    return begun(density, Everywhere(), modes, pilot, config, rng)


@pytest.mark.parametrize("gradient", [True, False], ids=["gradient", "random_walk"])
def test_a_gaussian_is_sampled_in_any_units(gradient, rng):
    d = 5 if gradient else 3
    units = 10.0 ** np.linspace(-4, 4, d)
    covariance = (0.5 * np.eye(d) + 0.5) * np.outer(units, units)
    target = gaussian(3 * units, covariance, log_z=-7.0)

    def prior(n, rng):
        return 5 * units * rng.standard_normal((n, d))

    density = target.density(gradient=gradient, prior=prior)
    config, modes, pilot = prepared(density, rng, starts=16)
    sampler, chains = begun(density, Everywhere(), modes, pilot, config, rng)
    chains = run(sampler, chains, rng)
    local, how = draws_of(sampler, chains), diagnostics_of(chains, sampler.settings)
    assert how.r_hat[0] < config.max_rhat
    assert local.ess[0] > config.min_ess
    assert not how.statuses
    standard = local.x[0] / units - 3
    flat = (0.5 * np.eye(d) + 0.5)[np.triu_indices(d)]
    z = z_of_means(second_moments(standard), np.concatenate([np.zeros(d), flat]))
    # The largest of twenty normal deviates exceeds 4.5 once in 7,000 runs.
    assert np.abs(z).max() < 4.5
    np.testing.assert_allclose(local.logp[0].ravel(), target.logp(local.x[0].reshape(-1, d)))
    if gradient:
        # The metric was fitted to draws and gradients of a Gaussian: nearly exact.
        ratio = np.linalg.solve(np.linalg.cholesky(covariance), chains.parameters.scale[0])
        np.testing.assert_allclose(np.linalg.svd(ratio, compute_uv=False), 1.0, atol=0.1)
    else:
        assert density.n_grad_evals == 0


def test_each_region_is_sampled_by_itself(rng):
    """Two overlapping halves: each region's draws are those of the restricted density."""
    target = Mixture([[-2.0, 0.0], [2.0, 0.5]], [np.eye(2), 0.6 * np.eye(2)], [0.5, 0.5])
    density, partition = target.density(), HalfSpace(0.2)
    config, modes, pilot = prepared(density, rng, barrier=0.5)
    order = np.argsort(modes.locations[:, 0])
    sampler, chains = begun(density, partition, modes.take(order), pilot.take(order), config, rng)
    chains = run(sampler, chains, rng)
    local = draws_of(sampler, chains)
    for k in (0, 1):
        assert np.all(partition.label(local.x[k].reshape(-1, 2)) == k)
        expected = exact_moments(target, rng, lambda x, k=k: partition.label(x) == k)
        z = z_of_means(second_moments(local.x[k]), expected)
        assert np.abs(z).max() < 4.5
    assert np.all(diagnostics_of(chains, sampler.settings).crossings > 0)


def test_a_circular_mode_on_the_seam_is_one_region(rng):
    target = VonMises([np.pi], [3.0], [1.0])
    density = target.density()
    config, modes, pilot = prepared(density, rng)
    sampler, chains = begun(density, Everywhere(), modes, pilot, config, rng)
    chains = run(sampler, chains, rng)
    x = draws_of(sampler, chains).x[0]
    assert np.abs(x[..., 0]).max() <= np.pi
    # R-hat is judged on the unrolled coordinate; on the wrapped one chains would differ.
    assert diagnostics_of(chains, sampler.settings).r_hat[0] < config.max_rhat
    both = np.stack([np.sin(x[..., 0]), x[..., 1]], axis=2)
    assert np.abs(z_of_means(both, 0.0)).max() < 4
    mean = target.draws(400_000, rng)
    z = z_of_means(np.cos(x[..., :1]), np.cos(mean[:, 0]).mean())
    assert abs(z[0]) < 4


# ------------------------------------------------------------------ regimes


def wide(d, shift=0.7, df=5.0):
    """A density that misses the mean and the width of a standard normal."""
    line = np.full(d, np.inf)
    return EllipticalMixture.single(np.full(d, shift), 0.8 * np.eye(d), df, line, np.zeros(d))


def wrong_jumps(draws, regions, rng, previous):
    """Densities that miss: they are proposals only, so that draws must not show it."""
    return [wide(draws.x[0].shape[-1]) for _ in range(len(draws))]


def fitted_jumps(draws, regions, rng, previous):
    ladder = Hybrid(families=("gaussian", "mixture"))
    return ladder.fit_regions(draws, np.full(draws.x[0].shape[-1], np.inf), rng).densities


def escalated(sampler, chains, draws, rng):
    """Chains of all regions in regime 1, whether or not they need it, with so many draws."""
    chains = escalate_regions(sampler, chains, np.arange(sampler.n_regions), rng)
    missing = draws - int(n_draws(chains)[0])
    return extend_chains(sampler, chains, np.arange(sampler.n_regions), missing, rng)


@pytest.mark.parametrize("jumps", [wrong_jumps, fitted_jumps])
def test_jumps_keep_the_density(jumps, rng):
    target = Banana(3, sd=1.0, bend=0.8, noise=0.7)
    density = target.density()
    config = LocalSampling(draws=100, max_leapfrog=16)
    config, modes, pilot = prepared(density, rng, config, starts=16)
    sampler, chains = begun(density, Everywhere(), modes, pilot, config, rng, jumps)
    chains = escalated(sampler, chains, 1600, rng)
    local = draws_of(sampler, chains)
    assert chains.regime[0] == 1
    assert chains.parameters.shortest[0] == 0.1
    assert n_draws(chains)[0] == local.x[0].shape[1] == 1600
    # Bounded quantities: the fourth moments of a banana are heavy.
    draws = np.tanh(second_moments(local.x[0]) / 2)
    expected = np.tanh(moments(target.draws(400_000, rng)) / 2).mean(axis=0)
    assert np.abs(z_of_means(draws, expected)).max() < 4.5


def test_jumps_stay_in_their_region(rng):
    """Jumps too are restricted: a density of the whole space is offered to both halves."""
    target, partition = gaussian(np.zeros(2), np.eye(2)), HalfSpace(0.4)
    density = target.density()
    config, modes, _ = prepared(density, rng, LocalSampling(draws=100), starts=8)
    # One Gaussian cut in two: both halves know its optimum and its pilot chains.
    both = replace(
        modes.take(np.zeros(2, dtype=int)),
        optima=np.repeat(modes.optima, 2, axis=0),
        optimum_modes=np.array([0, 1]),
    )
    pilot = explore(density, both, config, rng)
    sampler, chains = begun(density, partition, both, pilot, config, rng, wrong_jumps)
    chains = escalated(sampler, chains, 400, rng)
    local = draws_of(sampler, chains)
    np.testing.assert_array_equal(diagnostics_of(chains, sampler.settings).regime, 1)
    for k in (0, 1):
        assert np.all(partition.label(local.x[k].reshape(-1, 2)) == k)
        expected = exact_moments(target, rng, lambda x, k=k: partition.label(x) == k)
        assert np.abs(z_of_means(second_moments(local.x[k]), expected)).max() < 4.5


def test_regions_that_begin_to_jump_in_any_order_keep_their_chains(rng):
    """Regression: accepted jumps were handed to the chains of other regions."""
    density, partition = two_modes().density(), HalfSpace(0.0)
    config, modes, pilot = prepared(density, rng, LocalSampling(draws=30))
    sampler, chains = begun(density, partition, modes, pilot, config, rng)
    q = wide(2, shift=0.0)
    for k in (1, 0):
        chains = connect_regions(sampler, chains, {k: (q, [q])}, rng)
    assert all(chains.jumps[k].others == (q,) for k in (0, 1))
    local = draws_of(sampler, extend_chains(sampler, chains, np.arange(2), 30, rng))
    for k in (0, 1):
        assert np.all(partition.label(local.x[k].reshape(-1, 2)) == k)


def test_regions_are_connected_once(rng):
    sampler, chains = small(rng, draws=20)
    own, other = wide(2), wide(2, shift=-0.7)
    after = connect_regions(sampler, chains, {0: (own, [other])}, rng)
    assert n_draws(after)[0] == 20
    assert jumps_of(chains) == [None]
    assert jumps_of(after) == [own]
    assert connect_regions(sampler, after, {0: (other, [own])}, rng) is after
    # A refitted density still has the neighbours beside it.
    refit = replace(sampler, fit_jumps=wrong_jumps)
    later = escalate_regions(refit, after, ONE, rng)
    assert later.jumps[0].others == (other,)
    assert later.jumps[0].own is not own


def test_a_region_that_is_far_from_passing_jumps(rng):
    """Chains of two far modes differ until a fitted density carries them across."""
    target = two_modes(distance=8.0)
    density = target.density()
    config = LocalSampling(draws=50)
    config, modes, pilot = prepared(density, rng, config, locations=target.means)
    one = np.zeros(2, dtype=int)
    joined = modes.merged(one), pilot.merged(one)
    sampler, chains = begun(density, Everywhere(), *joined, config, rng, fitted_jumps)
    chains = run(sampler, chains, rng)
    assert chains.regime[0] == 1
    assert not len(unmixed(chains, sampler.settings))
    x = draws_of(sampler, chains).x[0]
    right = (x[..., :1] > 0).astype(float)
    share = (target.draws(400_000, rng)[:, 0] > 0).mean()
    assert abs(z_of_means(right, share, size=200)[0]) < 4.5


# ------------------------------------------------------------------ states


def test_chains_that_cannot_mix_are_reported(rng):
    """Two modes declared to be one region, far apart: chains stay where they began."""
    target = two_modes(distance=20.0)
    density = target.density()
    config = LocalSampling(draws=50, max_draws=100)
    config, modes, pilot = prepared(density, rng, config, locations=target.means)
    assert len(modes) == 2
    one = np.zeros(2, dtype=int)
    sampler, chains = begun(
        density, Everywhere(), modes.merged(one), pilot.merged(one), config, rng
    )
    chains = run(sampler, chains, rng)
    assert unmixed(chains, sampler.settings).tolist() == [0]
    assert [s.code for s in diagnostics_of(chains, sampler.settings).statuses] == ["r_hat"]
    assert len(positions(chains, unmixed(chains, sampler.settings))) == config.chains


def test_chains_go_on_where_they_stopped(rng):
    sampler, chains = small(rng, draws=30)
    before = draws_of(sampler, chains).x[0]
    after = draws_of(sampler, extend_chains(sampler, chains, ONE, 20, rng)).x[0]
    assert after.shape == (sampler.settings.chains, 50, 2)
    np.testing.assert_array_equal(after[:, :30], before)


def test_draws_are_doubled_until_the_limit(rng):
    sampler, chains = small(rng, draws=20, min_ess=1e9, max_draws=160)
    assert n_draws(chains)[0] == 20
    assert short_regions(chains, sampler.settings, until=20).tolist() == []
    assert short_regions(chains, sampler.settings).tolist() == [0]
    chains = advance_chains(sampler, chains, rng, until=80)
    assert n_draws(chains)[0] == 40
    chains = run(sampler, chains, rng, until=80)
    assert n_draws(chains)[0] == 80
    assert (chains.regime == 0).all()
    assert advance_chains(sampler, chains, rng, until=80) is chains


def frozen_copy(chains):
    """Every array of a state, copied."""
    found = {}
    for field in fields(chains):
        value = getattr(chains, field.name)
        for i, part in enumerate(value if isinstance(value, tuple) else (value,)):
            arrays = vars(part) if hasattr(part, "__dataclass_fields__") else {"": part}
            found.update({(field.name, i, name): np.copy(a) for name, a in arrays.items()})
    return found


@pytest.mark.parametrize(
    "work",
    [
        lambda s, c, rng: extend_chains(s, c, ONE, 10, rng),
        lambda s, c, rng: escalate_regions(s, c, ONE, rng),
        lambda s, c, rng: advance_chains(s, c, rng),
        lambda s, c, rng: connect_regions(s, c, {0: (wide(2), [wide(2)])}, rng),
        lambda s, c, rng: skip_regions(c, np.array([True])),
    ],
    ids=["extend", "escalate", "advance", "connect", "skip"],
)
def test_a_state_is_never_changed_and_the_same_seed_gives_the_same(work, rng):
    sampler, chains = small(rng, draws=20, min_ess=1e9)
    sampler = replace(sampler, fit_jumps=wrong_jumps)
    before = frozen_copy(chains)
    first, second = (work(sampler, chains, np.random.default_rng(1)) for _ in range(2))
    for key, value in frozen_copy(chains).items():
        np.testing.assert_array_equal(value, before[key], err_msg=str(key))
    np.testing.assert_array_equal(first.state.x, second.state.x)
    np.testing.assert_array_equal(first.records[0].x, second.records[0].x)


def test_an_interruption_leaves_the_state_usable(rng):
    countdown = [10**9]

    def normal(x):
        countdown[0] -= 1
        if not countdown[0]:
            raise KeyboardInterrupt
        return -0.5 * (x**2).sum(axis=1), -x

    density = Density(normal, 2, prior=lambda n, rng: rng.normal(0, 2, (n, 2)))
    config, modes, pilot = prepared(density, rng, LocalSampling(draws=20), starts=8)
    sampler, chains = begun(density, Everywhere(), modes, pilot, config, rng)
    before, countdown[0] = frozen_copy(chains), 7
    with pytest.raises(KeyboardInterrupt):
        extend_chains(sampler, chains, ONE, 50, rng)
    for key, value in frozen_copy(chains).items():
        np.testing.assert_array_equal(value, before[key], err_msg=str(key))
    assert n_draws(extend_chains(sampler, chains, ONE, 10, rng))[0] == 30


def test_a_batch_cut_by_a_limit_keeps_its_draws(rng):
    sampler, chains = small(rng, draws=20)
    target = sampler.target
    stop = target.n_logp_evals + 40 * sampler.settings.chains
    target.limits = Limits(early_evals=stop)
    after = extend_chains(sampler, chains, ONE, 1000, rng)
    leapfrog = int(chains.parameters.leapfrog[0])
    assert 20 + 40 // leapfrog - 1 <= n_draws(after)[0] <= 20 + max(40 // leapfrog, 16)
    # After the limit a batch is as short as R-hat allows.
    assert n_draws(extend_chains(sampler, after, ONE, 1000, rng))[0] == n_draws(after)[0] + 16


def test_negligible_regions_need_no_more_draws(rng):
    sampler, chains = small(rng, draws=20, min_ess=1e9)
    skipped = skip_regions(chains, np.array([True]))
    assert short_regions(chains, sampler.settings).tolist() == [0]
    assert short_regions(skipped, sampler.settings).tolist() == []
    assert unmixed(replace(skipped, r_hat=np.array([2.0])), sampler.settings).tolist() == []
