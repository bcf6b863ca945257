"""Step sizes and metrics: they are adapted to what is known of a Gaussian."""

from __future__ import annotations

import numpy as np
import pytest
from densities import HalfSpace, gaussian
from hypothesis import given, settings
from hypothesis import strategies as st

from pymc_multimodal.moves import (
    MoveParameters,
    Window,
    adapt_metrics,
    adapt_step_sizes,
    first_step,
    fit_metric,
    log_step_change,
    move,
    state_at,
    trajectory_lengths,
)
from pymc_multimodal.moves.adaptation import MIN_RIDGE, RIDGE
from pymc_multimodal.target.limits import Limits

reproducible = settings(derandomize=True, deadline=None, database=None, max_examples=60)


# ------------------------------------------------------------------ step sizes


def of_dimension(d, gradient=True):
    return gaussian(np.zeros(d), np.eye(d)).density(gradient=gradient)


def parameters(scale, step=1.0, shortest=0.75):
    k = len(scale)
    return MoveParameters(scale, np.full(k, step), np.ones(k, dtype=int), np.full(k, shortest))


@pytest.mark.parametrize(("gradient", "power"), [(True, -1 / 6), (False, -1 / 2)])
def test_first_steps_scale_with_the_dimension(gradient, power):
    one, many = first_step(of_dimension(1, gradient)), first_step(of_dimension(64, gradient))
    assert np.isclose(many / one, 64.0**power)


def test_the_gain_is_that_of_robbins_and_monro():
    t = np.arange(10**6)
    gain = np.array([log_step_change(1.0, 0.0, i) for i in range(100)])
    np.testing.assert_allclose(gain, 2.0 / (1.0 + t[:100]) ** 0.6)
    # The sum of the gains diverges, that of their squares converges: 4 zeta(1.2) = 22.4.
    assert np.sum((2.0 / (1.0 + t) ** 0.6) ** 2) < 22.4
    assert log_step_change(0.5, 0.7, 3) < 0 < log_step_change(0.9, 0.7, 3)
    np.testing.assert_array_equal(log_step_change(np.array([0.7, 0.7]), np.full(2, 0.7), 0), 0.0)


@pytest.mark.parametrize("start", [0.1, 10.0])
@pytest.mark.parametrize(
    ("gradient", "shortest", "target"),
    [(True, 0.75, 0.75), (True, 0.1, 0.85), (False, 0.75, 0.3)],
    ids=["even", "varied", "random_walk"],
)
def test_step_sizes_reach_the_acceptance_that_is_aimed_at(start, gradient, shortest, target, rng):
    density = of_dimension(4, gradient)
    state = state_at(density, rng.standard_normal((400, 4)), np.zeros(400, dtype=int))
    tuned = parameters(np.eye(4)[None], start, shortest)
    _, _, tuned = adapt_step_sizes(density, state, tuned, Window(200, 0.75), rng, label=None)
    accepted = [move(density, state, tuned, rng, label=None)[1].probability for _ in range(5)]
    assert abs(np.mean(accepted) - target) < 0.03


def test_regions_are_adapted_apart_and_absent_ones_not_at_all(rng):
    density, partition = of_dimension(2), HalfSpace(0.0)
    x = rng.standard_normal((600, 2))
    scale = np.stack([np.eye(2), 10.0 * np.eye(2), np.eye(2)])
    state = state_at(density, x, partition.label(x))
    _, record, tuned = adapt_step_sizes(
        density, state, parameters(scale), Window(60, 0.75), rng, label=partition.label
    )
    assert tuned.step_size[2] == 1.0
    # Region 1 has a metric ten times too wide: its steps are ten times shorter.
    assert 5 < tuned.step_size[0] / tuned.step_size[1] < 20
    fitted = adapt_metrics(density, record, state.region, tuned, np.zeros((3, 2)))
    np.testing.assert_array_equal(fitted.scale[2], np.eye(2))
    assert record.x.shape == record.end.shape == (60, 600, 2)
    crossed = record.into >= 0
    assert crossed.any()
    np.testing.assert_array_equal(partition.label(record.end[crossed]), record.into[crossed])


def test_a_limit_cuts_a_window_short(rng):
    density = of_dimension(2)
    density.limits = Limits(early_evals=0)
    state = state_at(density, rng.standard_normal((20, 2)), np.zeros(20, dtype=int))
    _, record, _ = adapt_step_sizes(
        density, state, parameters(np.eye(2)[None]), Window(50, 0.75), rng, label=None
    )
    assert len(record.x) == 4


def test_trajectories_are_a_quarter_of_a_period():
    step, regime = np.array([2.0, 0.1, 0.1, 1e-6]), np.array([0, 1, 2, 2])
    lengths = trajectory_lengths(of_dimension(3), step, regime, 100)
    np.testing.assert_array_equal(lengths, [1, 16, 64, 100])
    walks = trajectory_lengths(of_dimension(9, False), step, regime, 100)
    np.testing.assert_array_equal(walks, [2, 2, 8, 8])


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


@reproducible
@given(seed=st.integers(0, 2**32 - 1), d=st.integers(1, 8), decades=st.floats(0.0, 2.0))
def test_the_metric_is_the_geometric_mean_of_both_covariances(seed, d, decades):
    """The metric S solves S cov(gradients) S = cov(draws), each with a ridge."""
    rng = np.random.default_rng(seed)
    n = 40 * d + 8
    x, grad = (
        rng.standard_normal((n, d))
        @ (np.linalg.qr(rng.standard_normal((d, d)))[0] * 10.0 ** rng.uniform(-decades, decades, d))
        for _ in range(2)
    )
    ridge = max(MIN_RIDGE, RIDGE * d / (n + d)) * np.eye(d)
    a, b = (np.atleast_2d(np.cov(part.T, bias=True)) + ridge for part in (x, grad))
    factor = fit_metric(x, grad, np.eye(d))
    s = factor @ factor.T
    # Conditions of 1e4 each leave some 1e-16 * 1e8 of rounding at worst.
    assert np.linalg.norm(s @ b @ s - a) <= 1e-7 * np.linalg.norm(a)
