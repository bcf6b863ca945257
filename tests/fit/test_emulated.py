"""Fits of expensive densities: answers that are known, and few evaluations."""

from __future__ import annotations

import time

import numpy as np
import pymc as pm
import pytest
from densities import WideNormal, four_normals, two_modes
from simulators import DATA, QUICK, Misfit, Simulator, simulator, two_inputs
from simulators_numpy import (
    Likelihood,
    exchange,
    first_negative,
    free_noise,
    parabola,
    rates_exchanged,
)

import pymc_multimodal as mm
from pymc_multimodal import kernel
from pymc_multimodal.emulation import EmulatedJump, Emulation, Resampling
from pymc_multimodal.fit import Fit, FitConfig, fit_density
from pymc_multimodal.fit.result import without_emulator
from pymc_multimodal.status import ModelError

FORCED = Emulation(min_seconds=0)
# `parabola().truth(first_negative)`, which a test below computes.
LOG_Z, SHARE = -2.67605694, 0.35649529


def codes(fit):
    return {s.code for s in fit.statuses}


def fitted(model, *, visible=True, **settings):
    density = model.density(visible=visible)
    return density, fit_density(density, FitConfig(**{"emulation": FORCED, **settings}))


def assert_true(fit, inside, log_z, share):
    """Log evidence and the share of the modes inside are within four errors of the truth."""
    w, own = fit.weights, inside(fit.modes.locations)
    assert abs(w.total - log_z) < 4 * w.total_se
    error = np.sqrt((w.weight_se[own] ** 2).sum()) + 1e-3
    assert abs(w.weight[own].sum() - share) < 4 * error


def chain(density, fit, n, rng, steps=1):
    """Draws of n chains after some steps, with their regions."""
    target = fit.target(density)
    state = kernel.init(target, fit.kernel, fit.starts(n, rng), rng)
    for i in range(steps):
        offered = kernel.propose(target, fit.kernel, n * fit.kernel.jumps, rng)
        state, _ = kernel.step(target, fit.kernel, state, offered, rng, i)
    return state.points.x


@pytest.fixture(scope="module")
def emulated():
    """A fit of `parabola`, and its density."""
    return fitted(parabola(), random_seed=1)


# ------------------------------------------------------------------ answers


def test_two_modes_have_their_weights_and_evidence(emulated):
    _, fit = emulated
    np.testing.assert_allclose(parabola().truth(first_negative), (LOG_Z, SHARE), rtol=1e-6)
    assert codes(fit) == {"emulated"}
    assert fit.n_modes == 2
    assert_true(fit, first_negative, LOG_Z, SHARE)
    assert fit.weights.total_se < 0.02
    assert fit.weights.weight_se.max() < 0.012
    np.testing.assert_allclose(fit.modes.log_density, parabola().logp(fit.modes.locations))
    assert "simulator" in repr(fit.emulator.described)


def test_evaluations_are_counted_and_kept(emulated):
    density, fit = emulated
    model = density.outputs
    # Planned are 600; the price is measured before, the modes are evaluated afterwards.
    assert fit.n_logp_evals <= 600 + 4 + fit.n_modes
    assert len(fit.evaluations) >= fit.n_logp_evals - 4
    np.testing.assert_allclose(fit.evaluations.logp, model.logp(fit.evaluations.x))
    np.testing.assert_array_equal(fit.evaluations.outputs, model.f(fit.evaluations.x))
    assert len(np.unique(fit.evaluations.x, axis=0)) == len(fit.evaluations)
    assert fit.n_grad_evals == 0


def test_draws_are_exact(emulated, rng):
    density, fit = emulated
    assert [type(move) for move in fit.kernel.moves] == [EmulatedJump]
    x = chain(density, fit, 600, rng, 2)
    share = first_negative(x).mean()
    assert abs(share - SHARE) < 4 * np.sqrt(SHARE * (1 - SHARE) / 600)
    # The posterior expectation of the second coordinate, by quadrature over the first.
    a = np.linspace(-6, 6, 4001)
    outputs = (a**2 + 0.3 * a - 1.2) / 0.2
    slope, precision = 0.3 * a, 1 + 1 / 0.3**2
    weight = np.exp(-0.5 * a**2 - 0.5 * outputs**2 - 0.5 * (0.4 - slope) ** 2 / (1 + 0.3**2))
    mean = ((0.4 - slope) / 0.3**2 / precision * weight).sum() / weight.sum()
    assert abs(x[:, 1].mean() - mean) < 4 * x[:, 1].std() / np.sqrt(600)


@pytest.mark.parametrize(
    ("make", "inside", "log_z", "share"),
    [
        # By `truth`, that is by quadrature on 181 points of each coordinate.
        (exchange, rates_exchanged, -6.82351, 0.00122),
        (free_noise, first_negative, -2.675166, 0.359532),
    ],
)
def test_three_coordinates_have_their_weights_and_evidence(make, inside, log_z, share):
    """With curved dependence, and with a noise that is no input of the simulator."""
    _, fit = fitted(make(), random_seed=3)
    assert "emulated" in codes(fit)
    assert_true(fit, inside, log_z, share)
    assert fit.n_logp_evals <= 620


def test_errors_over_seeds():
    z, emulation = [], Emulation(min_seconds=0, budget=120)
    for seed in range(10, 16):
        _, fit = fitted(parabola(), random_seed=seed, emulation=emulation)
        own = int(first_negative(fit.modes.locations)[1])
        z.append([(fit.weights.total - LOG_Z) / fit.weights.total_se,
                  (fit.weights.weight[own] - SHARE) / fit.weights.weight_se[own]])  # fmt: skip
    assert np.abs(z).max() < 4
    assert np.mean(np.square(z)) < 1 + 4 * np.sqrt(2 / len(z))


def test_one_seed_gives_one_answer():
    settings = {"random_seed": 5, "emulation": Emulation(min_seconds=0, budget=100)}
    (_, first), (_, second) = (fitted(parabola(), **settings) for _ in range(2))
    np.testing.assert_array_equal(first.weights.weight, second.weights.weight)
    np.testing.assert_array_equal(first.evaluations.x, second.evaluations.x)
    np.testing.assert_array_equal(first.draws.x[0], second.draws.x[0])


# ------------------------------------------------------------------ limits


def eight_modes():
    """Squares of three coordinates: eight modes of equal weight, at (±1, ±1, ±1) about."""
    return Likelihood(lambda x: x**2, 3, [1.0, 1.0, 1.0], 0.15)


@pytest.mark.parametrize("max_evals", [60, 150])
def test_a_limit_is_kept_whatever_the_number_of_modes(max_evals):
    model = eight_modes()
    _, fit = fitted(model, max_evals=max_evals, random_seed=1)
    assert model.calls == fit.n_logp_evals <= max_evals
    assert "emulated" in codes(fit)
    np.testing.assert_allclose(fit.modes.log_density, model.logp(fit.modes.locations))
    # The evidence is that of three equal coordinates.
    axis = np.linspace(-6, 6, 4001)
    one = np.exp(-0.5 * axis**2 - 0.5 * ((axis**2 - 1) / 0.15) ** 2).sum() * (axis[1] - axis[0])
    log_z = 3 * (np.log(one) - np.log(2 * np.pi * 0.15))
    if np.isfinite(fit.weights.total_se):
        assert abs(fit.weights.total - log_z) < 4 * fit.weights.total_se


@pytest.mark.parametrize("max_evals", [300, 60])
def test_a_limit_is_kept(max_evals):
    model = parabola()
    _, fit = fitted(model, max_evals=max_evals, random_seed=1)
    assert model.calls == fit.n_logp_evals <= max_evals
    assert "emulated" in codes(fit)
    if np.isfinite(fit.weights.total_se):
        assert_true(fit, first_negative, LOG_Z, SHARE)
    # There is no room for a thousand draws of each chain: the judged ones are resampled.
    assert [type(move) for move in fit.kernel.moves] == [Resampling]


def test_the_budget_and_the_draws_that_are_asked_for(rng):
    model = parabola()
    density, fit = fitted(model, emulation=Emulation(min_seconds=0, budget=90, draws="weighted"))
    assert fit.n_logp_evals <= 90 + 4 + fit.n_modes
    assert "weighted_draws" in codes(fit)
    before = model.calls
    x = chain(density, fit, 4000, rng)
    assert model.calls == before
    # As exact as the weights: 4,000 draws of a few judged ones.
    error = np.hypot(fit.weights.weight_se.max(), np.sqrt(SHARE * (1 - SHARE) / 4000))
    assert abs(first_negative(x).mean() - SHARE) < 4 * error


# ------------------------------------------------------------------ files, and earlier evaluations


@pytest.mark.parametrize("draws", ["exact", "weighted"])
def test_a_fit_in_a_file_draws_without_its_emulator(draws, tmp_path, rng):
    emulation = Emulation(min_seconds=0, budget=150, draws=draws)
    _, fit = fitted(parabola(), random_seed=2, emulation=emulation)
    fit.save(tmp_path / "fit")
    read = Fit.load(tmp_path / "fit")
    assert read.emulator is None
    assert read.config.emulation == emulation
    np.testing.assert_array_equal(read.weights.weight, fit.weights.weight)
    np.testing.assert_array_equal(read.evaluations.x, fit.evaluations.x)
    density = parabola().density()
    read.check_density(density)
    x = chain(density, read, 400, rng, 2)
    error = np.hypot(fit.weights.weight_se.max(), np.sqrt(SHARE * (1 - SHARE) / 400))
    assert abs(first_negative(x).mean() - SHARE) < 4 * error
    assert without_emulator(read) is read
    assert read.generate(5, rng).shape == (5, 2)


def test_evaluations_of_an_earlier_fit_are_not_made_again(emulated):
    _, fit = emulated
    again = parabola()
    _, later = fitted(again, random_seed=9, evaluations=fit.evaluations)
    assert_true(later, first_negative, LOG_Z, SHARE)
    known = {row.tobytes() for row in fit.evaluations.x}
    # But for the price, and one to see whether the density is the same.
    assert sum(point in known for point in again.points) <= 5
    assert known <= {row.tobytes() for row in later.evaluations.x}
    assert later.config.evaluations is None
    base = parabola()
    changed = Likelihood(base.f, 2, base.observed + 0.1, base.sd)
    with pytest.raises(ValueError, match="data changed"):
        fitted(changed, evaluations=fit.evaluations)


# ------------------------------------------------------------------ simulators that are not smooth


def test_outputs_that_are_nan_in_part_of_the_space():
    base = parabola()

    def f(x):
        return np.where(x[:, 1:] > 0.6, np.nan, base.f(x))

    model = Likelihood(f, 2, base.observed, base.sd)
    _, fit = fitted(model, random_seed=1)
    assert "nan" in codes(fit)
    if np.isfinite(fit.weights.total_se):
        assert_true(fit, first_negative, *model.truth(first_negative))
    else:
        assert "emulated" in {s.code for s in fit.statuses if s.level == "warning"}


@pytest.mark.parametrize("least", [2.5, 1.6])
def test_outputs_that_are_nan_nearly_everywhere(least):
    """At one point of the design there are outputs, or the emulated posterior is elsewhere."""
    base = parabola()

    def f(x):
        return np.where(x[:, 1:] < least, np.nan, base.f(x))

    model = Likelihood(f, 2, base.observed, base.sd)
    _, fit = fitted(model, random_seed=1, max_evals=400)
    assert fit.n_logp_evals <= 400
    assert "nan" in codes(fit)
    assert fit.emulator is None
    assert not np.isfinite(fit.weights.total_se)


def test_a_simulator_with_a_step():
    base = parabola()

    def f(x):
        return base.f(x) + np.where(x[:, 1:] > 0.2, 0.5, 0.0)

    model = Likelihood(f, 2, base.observed, base.sd)
    _, fit = fitted(model, random_seed=1, max_evals=250)
    assert model.calls <= 250
    if np.isfinite(fit.weights.total_se):
        assert_true(fit, first_negative, *model.truth(first_negative))
    else:
        assert [s for s in fit.statuses if s.level == "warning"]


def test_a_noisy_simulator_is_not_emulated():
    noise, base = np.random.default_rng(0), parabola()
    model = Likelihood(
        lambda x: base.f(x) + 0.05 * noise.standard_normal((len(x), 2)), 2, base.observed, base.sd
    )
    density, fit = fitted(model, max_evals=600)
    assert fit.emulator is None
    assert density.history is None
    assert [s for s in fit.statuses if s.level == "warning"]


# Seconds of the fit: the others pass at once when the simulator begins to hang.
HANGING_SECONDS = 20.0


@pytest.mark.parametrize("stage", ["emulate", "judge"])
def test_a_simulator_that_hangs(stage, clock):
    base, began, hangs = parabola(), time.monotonic(), []

    def report(step, text):
        # Some rounds of the design are evaluated before.
        if step == stage and len(fed) >= 32:
            hangs.append(True)
            passed = time.monotonic() - began
            clock.skip(max(0.9 * HANGING_SECONDS - passed, 0.0))

    def f(x):
        if hangs:
            time.sleep(60)
        fed.extend(x)
        return base.f(x)

    fed: list = []
    model = Likelihood(f, 2, base.observed, base.sd)
    settings = FitConfig(emulation=FORCED, max_seconds=HANGING_SECONDS, random_seed=1)
    fit = fit_density(model.density(), settings, report=report)
    assert time.monotonic() - began < HANGING_SECONDS + 6
    assert "hung" in codes(fit)
    # No weights are known, and none are stated.
    assert not np.isfinite(fit.weights.total_se)
    assert np.isfinite(base.logp(fit.modes.locations)).all()
    assert len(fit.evaluations) >= 32


# ------------------------------------------------------------------ many outputs


def test_a_field_of_forty_outputs_of_five_inputs():
    """Forty outputs are orthonormal combinations of five: the posterior is a product."""
    base = np.random.default_rng(8)
    a, sd = np.linalg.qr(base.standard_normal((40, 5)))[0], 0.2
    centre = np.array([1.2, 0.5, -0.3, 0.2, -0.6])

    def f(x):
        return np.column_stack([x[:, 0] ** 2 + 0.3 * x[:, 0], x[:, 1:]]) @ a.T

    model = Likelihood(f, 5, a @ centre, sd)
    _, fit = fitted(model, random_seed=1)
    axis = np.linspace(-6, 6, 4001)
    one = np.exp(-0.5 * axis**2 - 0.5 * ((axis**2 + 0.3 * axis - 1.2) / sd) ** 2)
    total = one.sum() * (axis[1] - axis[0]) / (2 * np.pi * sd)
    spread = np.hypot(1.0, sd)
    rest = -0.5 * (centre[1:] / spread) ** 2 - np.log(np.sqrt(2 * np.pi) * spread)
    log_z = np.log(total) + rest.sum() - 35 * np.log(np.sqrt(2 * np.pi) * sd)
    assert fit.emulator is not None
    assert_true(fit, first_negative, log_z, one[axis < 0].sum() / one.sum())
    assert fit.weights.total_se < 0.05
    # Planned are 160 for each input.
    assert fit.n_logp_evals <= 800 + 4 + fit.n_modes


# ------------------------------------------------------------------ without outputs


def test_a_log_density_without_outputs(rng):
    model = parabola()
    density, fit = fitted(model, visible=False)
    assert "emulated" in codes(fit)
    assert "log density" in fit.emulator.described
    assert model.calls == fit.n_logp_evals
    assert fit.evaluations.outputs.shape[1] == 0
    assert_true(fit, first_negative, LOG_Z, SHARE)
    # The search evaluated the true density: what it has seen is said.
    assert "searched" in codes(fit)
    # A step inside of another is not counted twice.
    assert sum(fit.evals_by_step.values()) == fit.n_logp_evals
    assert len(chain(density, fit, 10, rng)) == 10


@pytest.mark.parametrize(
    "settings", [{"emulation": False}, {"emulation": Emulation()}], ids=["not wanted", "cheap"]
)
def test_cheap_and_unwanted_densities_are_not_emulated(settings):
    density, fit = fitted(parabola(), max_evals=400, **settings)
    assert fit.emulator is None
    assert fit.evaluations is None
    assert density.outputs is None
    assert "emulated" not in codes(fit)


def test_a_search_that_a_limit_cuts_off_is_told():
    _, fit = fitted(parabola(), visible=False, max_evals=150)
    assert fit.emulator is not None
    assert "unfinished" in codes(fit)


def test_a_mode_that_the_climbs_have_missed_is_found_by_values():
    """Climbs from 48 starts miss modes of weight 0.3 and 0.4, whose basins are small."""
    target = four_normals()
    density = target.density(gradient=False, prior=WideNormal(6, 3.0))
    settings = FitConfig(random_seed=3, emulation=Emulation(min_seconds=0.0, draws="weighted"))
    fit = fit_density(density, settings)
    assert {"emulated", "searched", "screened"} <= codes(fit)
    assert fit.screening.new_modes > 0
    assert fit.evals_by_step["screen by values"] == fit.screening.n_evals
    component = target.component(fit.modes.locations)
    weight = np.bincount(component, fit.weights.weight, minlength=4)
    error = np.sqrt(np.bincount(component, fit.weights.weight_se**2, minlength=4))
    assert (np.abs(weight - target.weights) < 4 * error).all()
    # 2,600 to 5,600 with seeds 0 to 9.
    assert fit.n_logp_evals < 6_000


def test_a_log_density_with_a_gradient_is_emulated_if_asked_for():
    target = two_modes(dim=4)
    evaluations = {}
    for asked in (False, True):
        emulation = Emulation(min_seconds=0.0, draws="weighted", despite_gradient=asked)
        density = target.density(prior=WideNormal(4, 5.0))
        fit = fit_density(density, FitConfig(random_seed=1, emulation=emulation))
        assert (fit.emulator is not None) == asked
        assert density.has_gradient
        assert abs(fit.weights.total - target.log_z) < 4 * fit.weights.total_se
        np.testing.assert_allclose(np.sort(fit.weights.weight), [0.3, 0.7], atol=0.03)
        evaluations[asked] = fit.n_logp_evals - fit.n_screened
    assert evaluations[True] < evaluations[False]


@pytest.mark.slow  # a search of 2,400 evaluations, and two emulators of it
def test_separate_modes_are_emulated_relative_to_their_mixture():
    """Points are predicted better from the shape of the prior, far from the posterior."""
    target = four_normals()
    density = target.density(gradient=False, prior=WideNormal(6, 3.0))
    settings = FitConfig(random_seed=1, emulation=Emulation(min_seconds=0.0, draws="weighted"))
    fit = fit_density(density, settings)
    assert fit.emulator is not None
    order = target.component(fit.modes.locations)
    assert sorted(order) == [0, 1, 2, 3]
    assert (np.abs(fit.weights.weight - target.weights[order]) < 4 * fit.weights.weight_se).all()
    # 15,874 where the prior's shape was taken and then refused.
    assert fit.n_logp_evals < 6_000


def test_evaluations_are_kept_where_a_limit_leaves_no_room_for_an_emulator():
    model = parabola()
    _, fit = fitted(model, visible=False, max_evals=100)
    assert fit.emulator is None
    # Of the last round, which the limit cut off, nothing is known.
    assert len(fit.evaluations) >= model.calls // 2
    np.testing.assert_allclose(fit.evaluations.logp, model.logp(fit.evaluations.x))


def test_named_outputs_need_a_model():
    model = parabola()
    density = model.density()
    density.split = None
    with pytest.raises(ValueError, match=r"names variables of a PyMC model.*Leave `outputs` out"):
        fit_density(density, FitConfig(emulation=Emulation(outputs=["flow"])))


# ------------------------------------------------------------------ PyMC models


def stepped(a, b):
    """Outputs of a simulator that fails in part of the space."""
    if a + b < -2.5:
        raise RuntimeError("diverged")
    return np.array([a + b, a**2 + 0.1, np.exp(0.3 * a * b)])


def test_a_model_is_sampled_through_its_emulator(caplog):
    with pm.Model() as model:
        flow = pm.Deterministic("flow", simulator(stepped)(*two_inputs()))
        pm.Normal("y", flow, 0.5, observed=DATA)
    with caplog.at_level("INFO", "pymc.multimodal"):
        idata = mm.sample(
            50, chains=2, model=model, random_seed=3, progressbar=False, compile_kwargs=QUICK,
            emulation=Emulation(min_seconds=0, budget=120), compute_convergence_checks=False,
        )  # fmt: skip
    assert "planned are 120" in caplog.text
    # The truth by quadrature over the two priors.
    a, b = (v.ravel() for v in np.meshgrid(np.linspace(-5, 5, 501), np.linspace(-1, 2, 301)))
    y = np.stack([a + b, a**2 + 0.1, np.exp(0.3 * a * b)], axis=1)
    weight = np.exp(-0.5 * a**2 - 0.5 * (((y - DATA) / 0.5) ** 2).sum(axis=1)) * (a + b >= -2.5)
    for name, value in (("a", a), ("b", b)):
        mean = (weight * value).sum() / weight.sum()
        sd = np.sqrt((weight * (value - mean) ** 2).sum() / weight.sum())
        assert abs(idata.posterior[name].values.mean() - mean) < 5 * sd / np.sqrt(100)
    assert idata.posterior["flow"].shape == (2, 50, 3)
    assert idata.sample_stats["accepted"].values.mean() > 0.5


def test_names_of_outputs_that_cannot_be_emulated():
    with pm.Model() as model:
        pm.Deterministic("flow", Simulator()(*two_inputs()))
        pm.Normal("y", model["flow"], 0.5, observed=DATA)
    with pytest.raises(ModelError, match="flux"):
        mm.fit(model, emulation=Emulation(outputs=["flux"]), compile_kwargs=QUICK, quiet=True,
               progressbar=False)  # fmt: skip


def test_a_model_of_which_the_black_box_is_the_log_likelihood():
    with pm.Model() as model:
        pm.Potential("p", Misfit()(*two_inputs()))
    fit = mm.fit(model, emulation=FORCED, compile_kwargs=QUICK, quiet=True, progressbar=False,
                 random_seed=2, symmetry=False)  # fmt: skip
    assert "log density" in fit.emulator.described
    # exp(-(a^2 + b - 1)^2 / 2) times a standard normal density of a and a uniform one of b.
    a, b = np.meshgrid(np.linspace(-6, 6, 1201), np.linspace(-1, 2, 1501))
    inner = np.exp(-0.5 * a**2 - 0.5 * (a**2 + b - 1) ** 2) / np.sqrt(2 * np.pi) / 3.0
    truth = np.log(np.trapezoid(np.trapezoid(inner, a[0], axis=1), b[:, 0]))
    assert abs(fit.weights.total - truth) < 4 * fit.weights.total_se
