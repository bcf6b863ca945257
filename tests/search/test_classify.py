"""Ends of climbs are told apart by their curvature and slope."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from densities import Mixture, gaussian

from pymc_multimodal.model.build import density_of
from pymc_multimodal.search import ModeSearch, OptimumSet, begin_search, find_modes
from pymc_multimodal.search.classify import MAX_ESCAPES, ClimbEnd, classify, identify
from pymc_multimodal.status import SymmetryBroken
from pymc_multimodal.target.density import Density
from pymc_multimodal.target.group import Symmetry

BETWEEN = Mixture([[-4.0, 0.0], [4.0, 0.0]], [np.eye(2)] * 2, [0.5, 0.5])


def kind_at(density, x, converged=True, **options):
    x = np.array(x)
    end = ClimbEnd(x, float(density.logp(x[None])[0]), converged)
    return classify(density, OptimumSet.empty(np.full(density.dim, 2.0)), end, **options)


@pytest.mark.parametrize("gradient", [True, False])
def test_an_optimum_has_its_curvature(gradient):
    target = gaussian(np.array([1.0, 2.0]), np.diag([0.5, 2.0]))
    point = kind_at(target.density(gradient=gradient), [1.0, 2.0])
    assert point.kind == "optimum"
    np.testing.assert_allclose(point.hessian, np.diag([2.0, 0.5]), atol=1e-5)


def test_a_newton_step_improves_a_climb_that_has_converged():
    target = gaussian(np.array([1.0, 2.0]), np.diag([0.5, 2.0]))
    point = kind_at(target.density(), [1.01, 1.98])
    np.testing.assert_allclose(point.x, [1.0, 2.0], atol=1e-6)
    assert point.logp == pytest.approx(target.logp(point.x[None])[0])


def test_a_saddle_is_left_along_the_direction_of_least_curvature():
    point = kind_at(BETWEEN.density(), [0.0, 0.0])
    assert point.kind == "saddle"
    np.testing.assert_allclose(np.abs(point.direction), [2.0, 0.0], atol=1e-6)
    assert kind_at(BETWEEN.density(), [0.0, 0.0], may_escape=False).kind == "none"


def test_a_plane_is_flat_and_a_slope_is_a_runaway():
    flat = Density(lambda x: (np.zeros(len(x)), np.zeros_like(x)), 2)
    assert kind_at(flat, [0.0, 0.0]).kind == "flat"

    def ridge(x):
        return x[:, 0] - x[:, 1] ** 2, np.stack([np.ones(len(x)), -2 * x[:, 1]], axis=1)

    assert kind_at(Density(ridge, 2), [5.0, 0.0]).kind == "runaway"
    # A climb that was ended early, on the side of a hill.
    hill = gaussian(np.zeros(2), np.eye(2)).density()
    assert kind_at(hill, [2.0, 0.0], converged=False).kind == "runaway"


def test_a_step_is_told_from_a_density_that_grows():
    """A climb ends just before a fall that the gradient does not show."""

    def terrace(x):
        logp = x[:, 0] - x[:, 1] ** 2 - 3.0 * (x[:, 0] > 5.0)
        return logp, np.stack([np.ones(len(x)), -2 * x[:, 1]], axis=1)

    density = Density(terrace, 2)
    assert kind_at(density, [5.0, 0.0], converged=False).kind == "step"
    assert kind_at(density, [4.0, 0.0], converged=False).kind == "runaway"
    # A steep funnel is no step.
    steep = Density(
        lambda x: (
            1e5 * x[:, 0] - 1e9 * x[:, 1] ** 2,
            np.stack([np.full(len(x), 1e5), -2e9 * x[:, 1]], axis=1),
        ),
        2,
    )
    assert kind_at(steep, [5.0, 0.0], converged=False).kind == "runaway"


def test_the_neck_of_a_funnel_has_no_optimum():
    """Rounding ends climbs there, at points whose curvature is that of an optimum."""
    x, rng = np.linspace(0.5, 2, 25), np.random.default_rng(4)
    seen = 1.5 * np.exp(-1.2 * x) + 0.05 * rng.standard_normal(25)
    with pm.Model() as model:
        a, k = pm.Normal("a", 0, 2), pm.LogNormal("k", 0, 1)
        g = pm.Normal("g", 0, pm.HalfNormal("tau", 1), shape=4)
        pm.Normal("y", a**2 * pm.math.exp(0.1 * g[0] - k * x), 0.05, observed=seen)
        pm.Normal("z", g, 0.5, observed=[0.3, -0.2, 0.8, 0.1])
    density = density_of(model)
    for _ in range(2):
        search = begin_search(density, ModeSearch(), False, rng)
        search = find_modes(density, search, ModeSearch(), rng)
        assert search.counts.runaway == search.counts.starts
        assert not len(search.optima)


def test_a_point_outside_of_the_support_is_nothing():
    outside = Density(lambda x: (np.full(len(x), -np.inf), np.zeros_like(x)), 2)
    assert kind_at(outside, [0.0, 0.0]).kind == "none"
    assert outside.n_logp_evals == 1


def test_an_image_with_another_density_breaks_the_symmetry():
    mirror = Symmetry((np.diag([-1.0, 1.0]),))
    optima = OptimumSet.empty(np.full(2, 2.0), mirror)
    for target, broken in ((BETWEEN, False), (gaussian(np.array([4.0, 0.0]), np.eye(2)), True)):
        end = ClimbEnd(np.array([4.0, 0.0]), float(target.logp(np.array([[4.0, 0.0]]))[0]), True)
        if broken:
            with pytest.raises(SymmetryBroken):
                classify(target.density(), optima, end)
        else:
            assert classify(target.density(), optima, end).kind == "optimum"


def test_a_saddle_leads_to_the_optima_on_both_sides(rng):
    density = BETWEEN.density()
    search = begin_search(density, ModeSearch(), False, rng)
    end = ClimbEnd(np.zeros(2), float(density.logp(np.zeros((1, 2)))[0]), True)
    found, index = identify(density, search, end, 300)
    assert len(search.optima) == 0
    assert len(found.optima) == 2
    assert index in (0, 1)
    assert found.counts.escapes == 1
    np.testing.assert_allclose(np.sort(found.optima.x[:, 0]), [-4.0, 4.0], atol=1e-3)
    again, same = identify(
        density, found, ClimbEnd(found.optima.x[1], found.optima.logp[1], True), 9
    )
    assert same == 1
    assert again.optima is found.optima


def test_escapes_are_rationed(rng):
    calls = []

    def stairs(x):
        calls.append(len(x))
        height = np.floor(3 * np.cos(x[:, 0]))
        return height - 0.5 * x[:, 1] ** 2, np.stack([0 * x[:, 0], -x[:, 1]], axis=1)

    density = Density(stairs, 2, prior=lambda n, rng: rng.normal(0, 2, (n, 2)))
    search = begin_search(density, ModeSearch(), False, rng)
    for x in density.prior_draws(2 * MAX_ESCAPES, rng):
        end = ClimbEnd(x, float(density.logp(x[None])[0]), True)
        search, _ = identify(density, search, end, 300)
    assert search.counts.escapes <= MAX_ESCAPES
