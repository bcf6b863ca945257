"""Chains within regions: right moments, honest diagnostics, and metrics that fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from chains import prepared, z_of_means
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
from hypothesis import given, settings
from hypothesis import strategies as st

from pymc_multimodal.moves.adaptation import _geometric_mean_with_inverse, fit_metric
from pymc_multimodal.proposals import EllipticalMixture, Hybrid
from pymc_multimodal.regions.chains import LocalSampler
from pymc_multimodal.regions.pilot import explore
from pymc_multimodal.regions.settings import LocalSampling

reproducible = settings(derandomize=True, deadline=None, database=None, max_examples=60)


def second_moments(x):
    flat = moments(x.reshape(-1, x.shape[-1]))
    return flat.reshape(*x.shape[:2], -1)


def exact_moments(target, rng, keep=lambda x: np.ones(len(x), bool), n=400_000):
    """Moments whose own error is a tenth of that of a few thousand draws."""
    x = target.draws(n, rng)
    return moments(x[keep(x)]).mean(axis=0)


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
    sampler = LocalSampler(density, Everywhere(), modes, pilot, config, rng)
    sampler.run()
    local = sampler.result()
    assert local.r_hat[0] < config.max_rhat
    assert local.ess[0] > config.min_ess
    assert not local.statuses
    standard = local.x[0] / units - 3
    flat = (0.5 * np.eye(d) + 0.5)[np.triu_indices(d)]
    z = z_of_means(second_moments(standard), np.concatenate([np.zeros(d), flat]))
    # The largest of twenty normal deviates exceeds 4.5 once in 7,000 runs.
    assert np.abs(z).max() < 4.5
    np.testing.assert_allclose(local.logp[0].ravel(), target.logp(local.x[0].reshape(-1, d)))
    if gradient:
        # The metric was fitted to draws and gradients of a Gaussian: nearly exact.
        ratio = np.linalg.solve(np.linalg.cholesky(covariance), local.tuning.scale[0])
        np.testing.assert_allclose(np.linalg.svd(ratio, compute_uv=False), 1.0, atol=0.1)
    else:
        assert density.n_grad_evals == 0


def test_each_region_is_sampled_by_itself(rng):
    """Two overlapping halves: each region's draws are those of the restricted density."""
    target = Mixture([[-2.0, 0.0], [2.0, 0.5]], [np.eye(2), 0.6 * np.eye(2)], [0.5, 0.5])
    density, partition = target.density(), HalfSpace(0.2)
    config, modes, pilot = prepared(density, rng, barrier=0.5)
    order = np.argsort(modes.locations[:, 0])
    sampler = LocalSampler(density, partition, modes.take(order), pilot, config, rng)
    sampler.run()
    local = sampler.result()
    for k in (0, 1):
        assert np.all(partition.label(local.x[k].reshape(-1, 2)) == k)
        expected = exact_moments(target, rng, lambda x, k=k: partition.label(x) == k)
        z = z_of_means(second_moments(local.x[k]), expected)
        assert np.abs(z).max() < 4.5
    assert np.all(local.crossings > 0)


def test_a_circular_mode_on_the_seam_is_one_region(rng):
    target = VonMises([np.pi], [3.0], [1.0])
    density = target.density()
    config, modes, pilot = prepared(density, rng)
    sampler = LocalSampler(density, Everywhere(), modes, pilot, config, rng)
    sampler.run()
    local = sampler.result()
    x = local.x[0]
    assert np.abs(x[..., 0]).max() <= np.pi
    # R-hat is judged on the unrolled coordinate; on the wrapped one chains would differ.
    assert local.r_hat[0] < config.max_rhat
    both = np.stack([np.sin(x[..., 0]), x[..., 1]], axis=2)
    assert np.abs(z_of_means(both, 0.0)).max() < 4
    mean = target.draws(400_000, rng)
    z = z_of_means(np.cos(x[..., :1]), np.cos(mean[:, 0]).mean())
    assert abs(z[0]) < 4


class ShiftsOnce(LocalSampler):
    """Shifts into second gear as soon as it may, whether or not it has to."""

    def _wants_shift(self, k, drawn):
        return self._gear[k] < 1 and drawn >= 2 * self.config.draws


def wrong_jumps(local, rng, previous):
    """Densities that miss the mean and the width: proposals only, so draws must not show it."""
    d = local.x[0].shape[-1]
    return [
        EllipticalMixture.single(
            np.full(d, 0.7), 0.8 * np.eye(d), 5.0, np.full(d, np.inf), np.zeros(d)
        )
        for _ in range(len(local))
    ]


def fitted_jumps(local, rng, previous):
    return Hybrid().fit_regions(local, np.full(local.x[0].shape[-1], np.inf), rng).densities


@pytest.mark.parametrize("jumps", [wrong_jumps, fitted_jumps])
def test_second_gear_keeps_the_density(jumps, rng):
    target = Banana(3, sd=1.0, bend=0.8, noise=0.7)
    density = target.density()
    config = LocalSampling(draws=50, max_draws=1600, min_ess=1e9, max_leapfrog=16)
    config, modes, pilot = prepared(density, rng, config, starts=16)
    sampler = ShiftsOnce(density, Everywhere(), modes, pilot, config, rng, jumps)
    sampler.run()
    local = sampler.result()
    assert local.gears[0] == 1
    assert local.tuning.shortest[0] == 0.1
    assert sampler.draws_of(0) == local.x[0].shape[1] >= 1600
    # Bounded quantities: the fourth moments of a banana are heavy.
    draws = np.tanh(second_moments(local.x[0]) / 2)
    expected = np.tanh(moments(target.draws(400_000, rng)) / 2).mean(axis=0)
    assert np.abs(z_of_means(draws, expected)).max() < 4.5


def test_second_gear_stays_in_its_region(rng):
    """Jumps too are restricted: a density of the whole space is offered to both halves."""
    target, partition = gaussian(np.zeros(2), np.eye(2)), HalfSpace(0.4)
    density = target.density()
    config = LocalSampling(draws=50, max_draws=400, min_ess=1e9)
    config, modes, _ = prepared(density, rng, config, starts=8)
    # One Gaussian cut in two: both halves know its optimum and its pilot chains.
    both = replace(
        modes.take(np.zeros(2, dtype=int)),
        optima=np.repeat(modes.optima, 2, axis=0),
        optimum_modes=np.array([0, 1]),
    )
    pilot = explore(density, both, config, rng)
    sampler = ShiftsOnce(density, partition, both, pilot, config, rng, wrong_jumps)
    sampler.run()
    local = sampler.result()
    np.testing.assert_array_equal(local.gears, 1)
    for k in (0, 1):
        assert np.all(partition.label(local.x[k].reshape(-1, 2)) == k)
        expected = exact_moments(target, rng, lambda x, k=k: partition.label(x) == k)
        assert np.abs(z_of_means(second_moments(local.x[k]), expected)).max() < 4.5


def test_chains_that_cannot_mix_are_reported(rng):
    """Two modes declared to be one region, far apart: chains stay where they began."""
    target = two_modes(distance=20.0)
    density = target.density()
    config = LocalSampling(draws=50, max_draws=100)
    config, modes, pilot = prepared(density, rng, config, locations=target.means)
    assert len(modes) == 2
    one = np.zeros(2, dtype=int)
    joined = modes.merged(one), pilot.merged(one)
    sampler = LocalSampler(density, Everywhere(), *joined, config, rng)
    x = np.repeat(target.means, config.chains // 2, axis=0)
    sampler._cloud = type(sampler._cloud)(x, *target(x), sampler._cloud.region)
    sampler.run()
    assert sampler.unmixed().tolist() == [0]
    assert [s.code for s in sampler.result().statuses] == ["r_hat"]
    assert len(sampler.positions(sampler.unmixed())) == config.chains


def test_a_sampler_goes_on_where_it_stopped(rng):
    density = gaussian(np.zeros(2), np.eye(2)).density()
    config, modes, pilot = prepared(density, rng, starts=8)
    sampler = LocalSampler(density, Everywhere(), modes, pilot, config, rng)
    sampler.extend(np.array([0]), 30)
    before = sampler.result().x[0]
    sampler.extend(np.array([0]), 20)
    after = sampler.result().x[0]
    assert after.shape == (config.chains, 50, 2)
    np.testing.assert_array_equal(after[:, :30], before)


def test_a_limit_stops_the_run(rng):
    density = gaussian(np.zeros(2), np.eye(2)).density()
    config, modes, pilot = prepared(density, rng, LocalSampling(min_ess=1e9), starts=8)
    sampler = LocalSampler(density, Everywhere(), modes, pilot, config, rng)
    sampler.run(proceed=lambda: False)
    assert sampler.draws_of(0) == config.draws


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"chains": 4}, "chains=4"),
        ({"target_accept": 1.5}, r"target_accept=1\.5"),
        ({"windows": (50,)}, r"windows=\(50,\)"),
    ],
)
def test_wrong_settings_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        LocalSampling(**config)


# ------------------------------------------------------------------ metrics


@pytest.mark.parametrize("d", [1, 5, 20])
@pytest.mark.parametrize("factor", [2, 10])
def test_metric_of_a_gaussian_is_exact_from_few_draws(d, factor, rng):
    """Errors come from the ridge alone, about 1e-3 of the draws' smallest variance."""
    n = max(8, factor * d + 4)
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    covariance = basis * np.geomspace(0.1, 10.0, d) @ basis.T
    target = gaussian(np.ones(d), covariance)
    x = target.draws(n, rng)
    start = np.diag(np.sqrt(np.diag(covariance)))
    fitted = fit_metric(x, target(x)[1], start)
    assert np.allclose(fitted, np.tril(fitted))
    relative = np.linalg.solve(np.linalg.cholesky(covariance), fitted)
    np.testing.assert_allclose(np.linalg.svd(relative, compute_uv=False), 1.0, atol=0.05)
    if factor == 2 and d > 1:
        # The draws' covariance alone is far off with so few.
        sample = np.linalg.solve(np.linalg.cholesky(covariance), np.linalg.cholesky(np.cov(x.T)))
        assert np.linalg.svd(sample, compute_uv=False).min() < 0.7


def test_metric_without_gradient_is_the_shrunk_covariance(rng):
    covariance = np.array([[2.0, 0.5], [0.5, 1.0]])
    x = gaussian(np.zeros(2), covariance).draws(50_000, rng)
    fitted = fit_metric(x, None, np.eye(2))
    # Sample covariances of 50,000 draws are within 1 %.
    np.testing.assert_allclose(fitted @ fitted.T, covariance, atol=0.04)


def test_too_few_draws_leave_the_metric_as_it_was(rng):
    x = rng.standard_normal((7, 3))
    scale = np.diag([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(fit_metric(x, -x, scale), scale)


def spd(rng, d, decades):
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return basis * 10.0 ** rng.uniform(-decades, decades, d) @ basis.T


@reproducible
@given(seed=st.integers(0, 2**32 - 1), d=st.integers(1, 8), decades=st.floats(0.0, 2.0))
def test_geometric_mean_solves_its_equation(seed, d, decades):
    rng = np.random.default_rng(seed)
    a, b = spd(rng, d, decades), spd(rng, d, decades)
    s = _geometric_mean_with_inverse(a, b)
    np.testing.assert_allclose(s, s.T)
    assert np.linalg.eigvalsh(s).min() > 0
    # Conditions of 1e4 each leave some 1e-16 * 1e8 of rounding at worst.
    assert np.linalg.norm(s @ b @ s - a) <= 1e-7 * np.linalg.norm(a)
