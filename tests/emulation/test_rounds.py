"""Rounds of evaluations: the design, and points where the posterior is uncertain."""

import numpy as np
import pytest
from densities import two_modes, z_scores
from simulators_numpy import Likelihood, WrongEmulator, first_negative, parabola

from pymc_multimodal.challenge import TemperedSettings
from pymc_multimodal.emulation import (
    Emulated,
    Emulation,
    Plan,
    emulate,
    evaluated,
    plan_evaluations,
    refine,
)
from pymc_multimodal.emulation.outputs import OutputUncertainty
from pymc_multimodal.emulation.rounds import emulated_density, posterior_sd, tempered_draws
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


# ------------------------------------------------------------------ what ends the rounds


class Doubtful(WrongEmulator):
    """A log density that is known exactly, of which an error is stated.

    `stated(x, n)` is the error at points x after n points that the emulator was told; `left(x, n)`
    is what it says of the points that may be chosen.
    """

    def __init__(self, target, stated, left=lambda x, n: np.ones(len(x)), n=0):
        super().__init__(target)
        self.stated, self.left, self.n = stated, left, n

    def predict(self, x):
        return self.log_density(x), self.stated(x, self.n)

    def uncertainty(self, x):
        one = np.ones((len(x), 1))
        correlation = np.diag(self.left(x, self.n))
        return OutputUncertainty([correlation], [np.ones(1)], [one], [0.0 * one])

    def updated(self, x, y, logp, *, refit):
        return Doubtful(self.target, self.stated, self.left, len(x))


BATCH, PRECISE = 8, 0.15
WIDE = StartDistribution(np.zeros(2), np.full(2, 4.0))


def refined(stated, rng, refinement=200, **kwargs):
    """Rounds that begin with an emulator that was told nothing: what is found, and the calls."""
    target = two_modes()
    density = target.density(gradient=False)
    nothing = np.empty((0, 2)), np.empty((0, 0)), np.empty(0)
    begun = Emulated(Doubtful(target, stated, **kwargs), np.inf, 0, nothing)
    plan = Plan(0.1, refinement + 100, 0, refinement, BATCH, PRECISE)
    return refine(density, begun, WIDE, plan, rng), density.n_logp_evals


def test_rounds_end_with_the_first_precise_emulator(rng):
    """The error is n0 / (n0 + n) after n points: precise from n0 (1 / 0.15 - 1) points on."""
    n0 = 10.0
    found, calls = refined(lambda x, n: np.full(len(x), n0 / (n0 + n)), rng)
    enough = int(np.ceil(n0 * (1 / PRECISE - 1) / BATCH)) * BATCH
    assert calls == len(found.data[0]) == enough
    assert found.rounds == enough // BATCH
    assert found.sd == pytest.approx(n0 / (n0 + enough))


@pytest.mark.parametrize(("error", "goes_on"), [(0.19, False), (0.45, True)])
def test_errors_count_as_a_root_mean_square_over_the_posterior(error, goes_on, rng):
    """One mode holds 0.3 of the mass: its error times the root of 0.3 is 0.10 or 0.25."""
    found, calls = refined(lambda x, n: np.where(first_negative(x), error, 0.0), rng, 4 * BATCH)
    assert calls == (4 * BATCH if goes_on else 0)
    assert 0.1 < (found.sd / error) ** 2 < 0.6


def test_an_emulator_is_judged_by_its_errors_where_its_posterior_lies(rng):
    """Errors far from the two modes do not count; no point is evaluated."""
    target = two_modes()
    density = target.density(gradient=False)

    def stated(x, n):
        return np.where(np.abs(x).max(axis=1) > 9.0, 50.0, 0.4)

    sd = posterior_sd(density, Doubtful(target, stated), WIDE, rng)
    assert sd == pytest.approx(0.4)
    # Errors of which nothing is known are alike.
    lost = posterior_sd(density, Doubtful(target, lambda x, n: np.full(len(x), 50.0)), WIDE, rng)
    assert lost == pytest.approx(3.0)
    assert density.n_logp_evals == 0


def test_rounds_end_where_the_plan_has_no_points_left(rng):
    found, calls = refined(lambda x, n: np.ones(len(x)), rng, refinement=3 * BATCH + 3)
    assert calls == len(found.data[0]) == 3 * BATCH + 3
    assert found.rounds == 4
    assert found.sd == pytest.approx(1.0)


def test_fresh_particles_have_the_last_word(rng):
    """Particles that are known well do not end the rounds: others, drawn anew, may not be."""
    # Errors of: particles, the same after a round, others, the same after a round, others.
    errors = iter([1.0, 0.0, 1.0, 0.0, 0.0])
    found, calls = refined(lambda x, n: np.full(len(x), next(errors)), rng)
    assert calls == 2 * BATCH
    assert list(errors) == []
    assert found.sd == 0.0


def test_rounds_end_where_no_point_would_make_it_more_certain(rng):
    found, calls = refined(
        lambda x, n: np.ones(len(x)), rng, left=lambda x, n: np.full(len(x), float(n < 2 * BATCH))
    )
    assert calls == 2 * BATCH
    assert found.sd == pytest.approx(1.0)


# ------------------------------------------------------------------ points, limits, failures


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
