"""Only the elements that matter are inputs and outputs of a black box."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from simulators import (
    DATA,
    Simulator,
    assert_is_split_of,
    simulator,
    split,
    two_inputs,
)


def test_coordinates_that_reach_the_black_box_are_inputs(rng):
    with pm.Model() as model:
        pm.Normal("before", 0.0, 1.0)
        theta = pm.Normal("theta", 0.0, 1.0, shape=2)
        scale = pm.HalfNormal("scale", 1.0)
        offset = pm.Normal("offset", 0.0, scale, shape=(1, 2))
        sigma = pm.HalfNormal("sigma", 1.0)
        flow = Simulator()(theta[0] + offset[0, 1], theta[1])
        pm.Normal("y", flow + offset[0, 0], sigma, observed=DATA)
    out = split(model)
    x = rng.normal(size=(4, 7))
    assert_is_split_of(out, model, x)
    y = out.outputs(x)
    assert out.inputs.tolist() == [1, 2, 5]
    for j in range(7):
        moved = x.copy()
        moved[:, j] += 0.5
        assert np.array_equal(out.outputs(moved), y) == (j not in out.inputs)


def test_a_part_of_a_vector_reaches_the_black_box(rng):
    with pm.Model() as model:
        low = pm.Uniform("low", -1.0, 1.0, shape=(3, 2))
        theta = pm.Deterministic("theta", 2.0 * low.T[:, ::2])
        pm.Normal("y", Simulator()(theta[0, 0], theta[1, 1]), 0.5, observed=DATA)
        pm.Normal("z", low, 1.0, observed=np.zeros((3, 2)))
    out = split(model)
    assert out.inputs.tolist() == [0, 5]
    assert_is_split_of(out, model, rng.normal(size=(3, 6)))


def test_a_simplex_reaches_the_black_box_as_a_whole():
    with pm.Model() as model:
        p = pm.Dirichlet("p", np.ones(4))
        pm.Normal("y", Simulator()(p[0], p[1]), 0.5, observed=DATA)
    assert split(model).inputs.tolist() == [0, 1, 2]


def test_outputs_are_what_is_used_of_a_long_series(rng):
    series = simulator(
        lambda a, b: np.array([np.arange(30.0) * a, np.full(30, b)]).T, 2, pt.dmatrix
    )
    with pm.Model() as model:
        a, b = two_inputs()
        flow = series(a, b)
        pm.Deterministic("flow", flow)
        pm.Normal("y", flow[np.array([3, 7, 29]), 0], pm.HalfNormal("sigma"), observed=DATA)
        pm.Normal("z", pt.exp(flow[-1, 1]), 0.5, observed=0.0)
        pm.Normal("w", flow[7:9, 0], 0.5, observed=np.zeros(2))
    out = split(model)
    assert out.names == ("flow[3,0]", "flow[7,0]", "flow[8,0]", "flow[29,0]", "flow[29,1]")
    x = rng.normal(size=(4, 3))
    assert_is_split_of(out, model, x)
    np.testing.assert_allclose(out.outputs(x)[:, :4], x[:, :1] * [3, 7, 8, 29])
