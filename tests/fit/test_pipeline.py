"""The whole fit on targets whose weights and evidence are known."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from densities import Mixture, VonMises, gaussian, two_modes

from pymc_multimodal.fit import STEPS, FitConfig, fit_density
from pymc_multimodal.kernel import init, propose, step
from pymc_multimodal.regions.settings import LocalSampling
from pymc_multimodal.status import FitError, ModelError
from pymc_multimodal.target.density import Density
from pymc_multimodal.target.target import Target

TARGET = two_modes(dim=5, distance=10.0, weights=(0.3, 0.7), log_z=2.5)


def warnings_of(fit):
    return [s.code for s in fit.statuses if s.level == "warning"]


def exact_weights(fit, target):
    """Mass of each region, by draws of each component on its own.

    Only what leaks over a border is left to chance: errors are about 1e-4.
    """
    rng = np.random.default_rng(0)
    truth = np.zeros(fit.n_modes)
    if isinstance(target, Mixture):
        parts = [gaussian(m, c) for m, c in zip(target.means, target.covariances, strict=True)]
    else:
        parts = [VonMises([m], [k], [1]) for m, k in zip(target.means, target.kappas, strict=True)]
    for weight, part in zip(target.weights, parts, strict=True):
        labels = fit.label(part.draws(100_000, rng))
        truth += weight * np.bincount(labels, minlength=fit.n_modes) / len(labels)
    return truth


@pytest.fixture(scope="module")
def fit():
    return fit_density(TARGET.density(), FitConfig(random_seed=1))


def assert_right(fit, target, modes):
    assert fit.n_modes == modes
    w = fit.weights
    assert np.isclose(w.weight.sum(), 1.0)
    assert np.all(np.diff(w.weight) <= 0)
    truth = exact_weights(fit, target)
    assert np.all(np.abs(w.weight - truth) <= 4 * np.hypot(w.weight_se, 1e-4 * (modes > 1)))
    assert abs(w.total - target.log_z) < 4 * w.total_se
    assert w.weight_se.max() < 1.1 * fit.config.target_se
    # After a first answer that is precise no chains have run.
    assert not fit.chains.r_hat.max() >= 1.02


def test_weights_and_evidence_of_two_modes(fit):
    assert_right(fit, TARGET, 2)
    assert not warnings_of(fit)
    # Heaviest first: the second component.
    assert np.linalg.norm(fit.modes.locations[0] - TARGET.means[1]) < 0.01
    np.testing.assert_array_equal(fit.label(fit.modes.locations), [0, 1])
    for k in range(2):
        assert np.all(fit.label(fit.local_draws(k)) == k)


def test_the_cost_is_counted(fit):
    density = TARGET.density()
    density.logp(np.zeros((10, 5)))
    again = fit_density(density, FitConfig(random_seed=1))
    assert again.n_logp_evals == fit.n_logp_evals == density.n_logp_evals - 10
    assert 0 < fit.n_grad_evals <= fit.n_logp_evals
    assert set(fit.seconds) <= {"begin", *(step.name for step in STEPS)}
    assert {"search", "approximate", "explore", "weigh", "kernel"} <= set(fit.seconds)
    np.testing.assert_array_equal(again.weights.weight, fit.weights.weight)
    np.testing.assert_array_equal(again.draws.x[0], fit.draws.x[0])
    np.testing.assert_array_equal(again.modes.locations, fit.modes.locations)


def test_another_seed_gives_other_draws_and_the_same_answer(fit):
    other = fit_density(TARGET.density(), FitConfig(random_seed=2))
    assert other.weights.weight[0] != fit.weights.weight[0]
    error = np.hypot(other.weights.weight_se, fit.weights.weight_se)
    assert np.all(np.abs(other.weights.weight - fit.weights.weight) < 4 * error)


def test_the_fitted_kernel_draws_from_the_posterior(fit, rng):
    """Chains from `starts`, one average each: proportions and means within their errors."""
    density, kernel = TARGET.density(), fit.kernel
    n, steps = 500, 20
    state = init(Target(density), kernel, fit.starts(n, rng), rng)
    total = 0.0
    for _ in range(steps):
        proposed = propose(Target(density), kernel, n * kernel.jumps, rng)
        state, accepted = step(Target(density), kernel, state, proposed, rng)
        upper = TARGET.component(state.points.x)[:, None] == 1
        total = total + np.concatenate([upper, state.points.x], axis=1) / steps
    assert accepted.mean() > 0.5
    mean = TARGET.weights @ TARGET.means
    z = (total.mean(axis=0) - [0.7, *mean]) / (total.std(axis=0) / np.sqrt(n))
    # Starts follow estimated weights, off by some 0.01, and twenty steps forget them.
    assert np.abs(z).max() < 4


def test_starts_are_allocated_by_weight(fit, rng):
    x = fit.starts(4_000, rng)
    share = np.mean(fit.label(x) == 0)
    w = fit.weights.weight[0]
    assert abs(share - w) < 4 * np.sqrt(w * (1 - w) / 4_000)


def test_a_fit_travels_and_recognises_its_density(fit, rng):
    again = pickle.loads(pickle.dumps(fit))
    x = TARGET.draws(20, rng)
    np.testing.assert_array_equal(again.label(x), fit.label(x))
    a, b = (f.starts(5, np.random.default_rng(1)) for f in (fit, again))
    np.testing.assert_array_equal(a, b)
    again.check_density(TARGET.density())
    again.check_density(TARGET.density(gradient=False))
    changed = two_modes(dim=5, distance=10.0, weights=(0.31, 0.69), log_z=2.5)
    with pytest.raises(FitError, match="before the model or its data changed"):
        again.check_density(changed.density())
    with pytest.raises(FitError, match="coordinates"):
        again.check_density(TARGET.density(names=list("abcde")))
    with pytest.raises(FitError, match="coordinates"):
        again.check_density(two_modes(dim=4).density())


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("max_evals", [1, 100, 2_000, 20_000])
def test_a_limit_on_evaluations_is_kept(max_evals, gradient):
    density = TARGET.density(gradient=gradient)
    config = FitConfig(max_evals=max_evals, target_se=1e-4)
    fit = fit_density(density, config)
    assert "budget" in warnings_of(fit)
    assert density.n_logp_evals == fit.n_logp_evals <= max_evals
    assert np.isclose(fit.weights.weight.sum(), 1.0)
    assert np.isfinite(fit.generate(20, np.random.default_rng(1))).all()
    assert fit.n_modes == 2 or "unfinished" in warnings_of(fit)


def test_without_weights_the_answer_is_laplaces_approximation():
    """It is exact for normals, and its error is unknown all the same."""
    fit = fit_density(TARGET.density(), FitConfig(first_answer=False, max_evals=3_000))
    assert "laplace" in warnings_of(fit)
    assert np.isnan(fit.draws.ess).all()
    budget = next(s for s in fit.statuses if s.code == "budget")
    assert "standard errors of weights are not known, and target_se=" in budget.cause
    assert fit.n_modes == 2
    np.testing.assert_allclose(fit.weights.weight, [0.7, 0.3], atol=1e-3)
    assert fit.weights.total == pytest.approx(TARGET.log_z, abs=1e-3)
    for unknown in (fit.weights.weight_se, fit.weights.log_evidence_se, fit.weights.total_se):
        assert np.isnan(unknown).all()
    assert np.isnan(fit.chains.r_hat).all()


def test_laplaces_approximation_counts_the_images_of_a_symmetry():
    """Four modes, one of each orbit of two: the density is the same after a change of signs."""
    means = np.array([[4.0, 1.0], [-4.0, -1.0], [1.0, -5.0], [-1.0, 5.0]])
    target = Mixture(means, [0.3 * np.eye(2)] * 4, [0.1, 0.1, 0.4, 0.4], log_z=1.5)
    fit = fit_density(target.density(), FitConfig(first_answer=False, max_evals=3_000))
    assert "laplace" in warnings_of(fit)
    assert fit.orbits is not None
    np.testing.assert_allclose(fit.weights.weight, [0.4, 0.4, 0.1, 0.1], atol=1e-3)
    assert fit.weights.total == pytest.approx(1.5, abs=1e-3)


def test_a_symmetry_that_was_not_looked_for_is_said():
    def said(**settings):
        fit = fit_density(TARGET.density(), FitConfig(max_evals=30, **settings))
        return any("before a symmetry was looked for" in s.cause for s in fit.statuses)

    assert said()
    assert not said(symmetry=False)


def test_a_limit_on_seconds_is_kept():
    with pytest.raises(FitError, match="before the log density was known at any point"):
        fit_density(TARGET.density(), FitConfig(max_seconds=1e-6))
    fit = fit_density(TARGET.density(), FitConfig(max_seconds=0.3, target_se=1e-4))
    assert "budget" in warnings_of(fit)


def test_an_unreached_precision_is_reported():
    target, local = two_modes(distance=10.0), LocalSampling(max_draws=100)
    settings = FitConfig(target_se=1e-5, local=local, first_answer=False, challenge=False)
    fit = fit_density(target.density(), settings)
    assert "precision" in warnings_of(fit)


def test_a_density_without_gradient():
    target = two_modes(dim=2, distance=8.0, weights=(0.4, 0.6), log_z=-1.0)
    density = target.density(gradient=False)
    fit = fit_density(density, FitConfig(target_se=0.05, random_seed=3, challenge=False))
    assert_right(fit, target, 2)
    assert fit.n_grad_evals == density.n_grad_evals == 0


def test_a_single_mode_has_weight_one():
    target = gaussian(np.arange(4.0), np.diag([0.01, 1.0, 4.0, 100.0]), log_z=7.0)
    fit = fit_density(target.density(), FitConfig())
    assert_right(fit, target, 1)
    assert fit.weights.weight.tolist() == [1.0]
    assert fit.weights.weight_se.tolist() == [0.0]
    assert not warnings_of(fit)


def test_modes_on_a_circle_with_one_on_the_seam():
    target = VonMises([np.pi, 0.5], [8.0, 12.0], [0.6, 0.4])
    fit = fit_density(target.density(), FitConfig(random_seed=5))
    assert_right(fit, target, 2)
    assert np.isclose(np.abs(fit.modes.locations[0, 0]), np.pi, atol=0.01)


def test_a_light_mode_has_a_precise_log_weight():
    """A weight of 0.001 is useless to within 0.01: its logarithm is asked for as well."""
    target = two_modes(dim=2, distance=10.0, weights=(0.003, 0.997))
    fit = fit_density(target.density(), FitConfig(target_se=0.001))
    assert fit.n_modes == 2
    assert fit.weights.log_evidence_se[1] < 0.15
    truth = np.log(0.003) + target.log_z
    assert abs(fit.weights.log_evidence[1] - truth) < 4 * fit.weights.log_evidence_se[1]


def test_nothing_to_start_from_is_an_error():
    with pytest.raises(ModelError, match="no prior"):
        fit_density(Density(TARGET, 5), FitConfig())


def test_progress_is_told(stopped_clock):
    def quick(x):
        stopped_clock.skip(1e-6 * len(x))
        return TARGET(x)

    told, density = [], TARGET.density()
    density.function = quick
    fit_density(
        density,
        FitConfig(target_se=0.05, first_answer=False),
        report=lambda stage, text: told.append((stage, text)),
    )
    said = dict(told)
    assert said.pop("preview").startswith("the search has found 2 modes by ")
    # Evaluations that take microseconds are not worth a forecast.
    assert "forecast" not in said
    stages = list(said)
    names = [step.name for step in STEPS]
    assert stages == [name for name in names if name in stages]
    assert len(stages) > 8
    assert all(text for _, text in told)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"target_se": 0.0}, r"target_se=0\.0"),
        ({"target_se": 1.0}, r"target_se=1\.0"),
        ({"max_evals": 0}, "max_evals=0"),
        ({"max_seconds": -1.0}, r"max_seconds=-1\.0"),
        ({"generator": "magic"}, "generator='magic'"),
    ],
)
def test_wrong_settings_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        FitConfig(**config)


@pytest.mark.slow  # tens of independent fits
def test_errors_of_weights_are_calibrated():
    """Over independent fits deviations are as large as their standard errors say."""
    target = Mixture(
        [[-3.0, 0.0], [3.0, 0.0], [0.0, 5.0]],
        [np.eye(2), 0.3 * np.eye(2), [[1.0, 0.7], [0.7, 1.0]]],
        [0.2, 0.3, 0.5],
    )
    z = []
    for seed in range(40):
        fit = fit_density(target.density(), FitConfig(random_seed=seed, target_se=0.02))
        assert fit.n_modes == 3
        assert fit.draws.ess.min() > 400
        z.append((fit.weights.weight - exact_weights(fit, target)) / fit.weights.weight_se)
    # 40 vectors of three, of which two are free: the root mean square is within 0.08 of 1.
    assert 0.75 < np.sqrt(np.mean(np.square(z))) < 1.3
