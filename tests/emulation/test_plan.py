"""How many evaluations are planned, and what one of them costs."""

import numpy as np
import pytest
from simulators_numpy import parabola

from pymc_multimodal.emulation import (
    Emulation,
    Plan,
    plan_evaluations,
    plan_surface,
    price_of,
)
from pymc_multimodal.target import Density


@pytest.mark.parametrize("inputs", [1, 3, 12])
@pytest.mark.parametrize("budget", [None, 1, 7, 64, 5000])
@pytest.mark.parametrize("room", [np.inf, 5000.0, 300.0, 20.5, 1.0, 0.0])
def test_the_parts_of_a_plan_make_its_total(inputs, budget, room):
    settings = Emulation(budget=budget)
    plan = plan_evaluations(0.1, inputs, settings, room)
    assert plan.total == plan.design + plan.refinement + plan.judged
    assert plan.total <= max(room, 1)
    assert min(plan.design, plan.total) >= 1
    assert min(plan.refinement, plan.judged) >= 0
    if budget is not None:
        assert plan.total <= budget
    if plan.total > 2:
        assert plan.judged >= 0.35 * plan.total
    assert (plan.rounds - 1) * plan.batch < plan.total <= plan.rounds * plan.batch


@pytest.mark.parametrize("room", [np.inf, 300.0, 1.0, 0.0])
def test_after_a_search_its_points_are_the_design(room):
    plan = plan_surface(0.1, 4, Emulation(), 350, room)
    assert plan.design == 350
    assert plan.total == plan.design + plan.refinement + plan.judged
    assert plan.total - 350 <= max(room, 1)
    assert plan.judged >= min(0.35 * (plan.total - 350), 350)


def test_more_inputs_get_more_evaluations():
    totals = [plan_evaluations(1.0, k, Emulation(), np.inf).total for k in (1, 3, 6, 12)]
    assert totals == sorted(totals)
    assert totals[0] == 600
    assert totals[-1] == 1920


@pytest.mark.parametrize(
    ("seconds", "one", "more"),
    [(0.002, "1.28 s", "320 ms"), (0.5, "5.33 min", "80 s"), (60.0, "10.7 h", "2.67 h")],
)
def test_a_plan_in_words(seconds, one, more):
    plan = Plan(seconds, 640, 128, 200, 16)
    text = plan.described(1)
    assert "640 in 40 rounds of 16" in text
    assert text.endswith(f"{one} with one worker")
    assert plan.described(4).endswith(f", {more} with 4")


def test_the_price_is_the_time_of_one_evaluation(rng, stopped_clock):
    def dear(x):
        stopped_clock.skip(0.004 * len(x))
        return -0.5 * (x**2).sum(axis=1), None

    def prior(n, rng):
        return rng.standard_normal((n, 2))

    density = Density(dear, 2, has_gradient=False, prior=prior)
    price = price_of(density, rng)
    assert price.least == pytest.approx(0.004)
    assert price.seconds == pytest.approx(0.004)
    assert price.repeatable
    assert density.n_logp_evals <= 8


def test_noise_is_seen(rng):
    noise = np.random.default_rng(0)

    def function(x):
        return noise.standard_normal(len(x)), None

    def prior(n, rng):
        return rng.standard_normal((n, 2))

    assert not price_of(Density(function, 2, has_gradient=False, prior=prior), rng).repeatable
    assert price_of(parabola().density(), rng).repeatable


class Far:
    """An engine to which it takes a while to send a task."""

    n_workers = 1

    def __init__(self, clock):
        self.clock = clock

    def map(self, function, tasks):
        self.clock.skip(0.1)
        return [function(task) for task in tasks]


def test_the_price_leaves_out_what_sending_takes(rng, stopped_clock):
    """The same density is dear or not, whichever engine evaluates it."""
    density = parabola().density()
    density.workers = Far(stopped_clock)
    assert price_of(density, rng).seconds == 0.0
