"""Rounds of evaluations: the design, and points where the posterior is uncertain."""

import numpy as np
import pytest
from densities import two_modes, z_scores
from simulators_numpy import Likelihood, WrongEmulator, first_negative, parabola

from pymc_multimodal.challenge import TemperedSettings
from pymc_multimodal.emulation import Emulation, emulate, evaluated, plan_evaluations, refine
from pymc_multimodal.emulation.rounds import emulated_density, tempered_draws
from pymc_multimodal.search import StartDistribution
from pymc_multimodal.status import LimitReached
from pymc_multimodal.target import Limits

STARTS = StartDistribution(np.zeros(2), np.ones(2))


def exposed(model):
    density = model.density()
    density.keep_history()
    density.expose_outputs(model)
    return density


def plan_of(budget, batch=16):
    return plan_evaluations(0.1, 2, Emulation(budget=budget, batch=batch), np.inf)


def emulated_of(model, rng, budget=300, **kwargs):
    density = exposed(model)
    return density, emulate(density, STARTS, plan_of(budget, **kwargs), rng)


def test_the_emulated_posterior_is_known_in_few_evaluations(rng):
    model, reports = parabola(), []
    density = exposed(model)
    plan = plan_of(300)
    found = emulate(density, STARTS, plan, rng, reports.append)
    x, y, logp = found.data
    assert found.sd <= plan.precise_sd
    assert plan.design <= len(x) <= plan.design + plan.refinement
    assert model.calls == len(x) == density.n_logp_evals
    np.testing.assert_array_equal(y, model.f(x))
    np.testing.assert_allclose(logp, model.log_density(x, y))
    assert found.rounds == len(reports)
    # Where the posterior is, the emulated log density is the true one.
    draws = tempered_draws(density, STARTS, 300, TemperedSettings(), rng).x
    value, _ = found.emulator.predict(draws)
    assert np.sqrt(np.mean((value - model.logp(draws)) ** 2)) < 0.2


def narrow():
    """A likelihood of which a design sees little, so that it is refined."""

    def f(x):
        return np.stack([np.sin(2 * x[:, 0]) + x[:, 1], x[:, 0] * x[:, 1] ** 2], axis=1)

    return Likelihood(f, 2, [0.8, 0.3], [0.01, 0.01])


def test_refinement_adds_points_of_the_posterior(rng):
    model = narrow()
    density = exposed(model)
    plan = plan_of(200, batch=8)
    found = emulate(density, STARTS, plan, rng)
    x, _, logp = found.data
    assert len(x) > plan.design
    # The points that were added are more plausible than those of the prior.
    assert np.median(logp[plan.design :]) > np.median(logp[: plan.design]) + 10
    assert len(np.unique(x, axis=0)) == len(x)
    # More can be added to what was found.
    more = refine(density, found, STARTS, plan, rng)
    assert len(more.data[0]) >= len(x)
    np.testing.assert_array_equal(more.data[0][: len(x)], x)


def test_points_join_the_emulator(rng):
    model = parabola()
    density, found = emulated_of(model, rng, budget=60)
    x = 0.5 * rng.standard_normal((30, 2))
    logp, y = evaluated(density, x)
    more = found.with_points(x, y, logp)
    assert len(more.data[0]) == len(found.data[0]) + 30
    before, after = found.emulator.predict(x)[1], more.emulator.predict(x)[1]
    assert after.mean() < before.mean()
    assert evaluated(model.density(visible=False), x)[1].shape == (30, 0)


def test_evaluations_that_are_known_take_the_place_of_the_design(rng):
    model = parabola()
    density, first = emulated_of(model, rng)
    again = parabola()
    later = exposed(again)
    later.recall(density.history.evaluations(density.names, outputs=True))
    found = emulate(later, STARTS, plan_of(300), rng)
    known = {row.tobytes() for row in first.data[0]}
    assert known <= {row.tobytes() for row in found.data[0]}
    # One point is evaluated to see whether the density is the same.
    assert again.calls <= 1 + plan_of(300).refinement
    assert found.sd <= plan_of(300).precise_sd


def test_a_limit_within_the_design_and_after(rng):
    model = narrow()
    density = exposed(model)
    plan = plan_of(200)
    with density.within(Limits(last_evals=20)), pytest.raises(LimitReached):
        emulate(density, STARTS, plan, rng)
    assert model.calls <= 20
    model = narrow()
    density = exposed(model)
    with density.within(Limits(last_evals=plan.design + 5)):
        found = emulate(density, STARTS, plan, rng)
    assert len(found.data[0]) <= plan.design + 5


def test_a_simulator_that_fails_in_part_of_the_space(rng):
    base = parabola()

    def f(x):
        return np.where(x[:, 1:] > 1.0, np.nan, base.f(x))

    model = Likelihood(f, 2, base.observed, base.sd)
    _, found = emulated_of(model, rng)
    x = rng.standard_normal((50, 2)) * [1.0, 0.3] - [0.0, 0.5]
    value, sd = found.emulator.predict(x)
    assert np.isfinite(value).all()
    close = sd < 0.1
    np.testing.assert_allclose(value[close], base.logp(x)[close], atol=0.5)


def test_an_emulated_density_costs_no_evaluations(rng):
    target = two_modes()
    density = target.density(gradient=False, names=("a", "b"))
    cheap = emulated_density(density, WrongEmulator(target, lambda x: x[:, 0]))
    x = rng.standard_normal((5, 2))
    np.testing.assert_allclose(cheap.logp(x), target.logp(x) + x[:, 0])
    assert cheap.names == ("a", "b")
    assert density.n_logp_evals == 0


def test_tempered_draws_are_those_of_the_density(rng):
    target = two_modes()
    starts = StartDistribution(np.zeros(2), np.full(2, 4.0))
    share = [
        first_negative(tempered_draws(
            target.density(gradient=False), starts, 200, TemperedSettings(), rng).x).mean()
        for _ in range(6)
    ]  # fmt: skip
    # The component with weight 0.3 is on the negative side.
    assert abs(z_scores(np.array(share)[:, None], 0.3)[0]) < 4
