"""Black boxes are found in a model, and variables are found by their names."""

from __future__ import annotations

import warnings

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.ode import DifferentialEquation
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.ops import wrap_py
from scipy import stats
from simulators import (
    DATA,
    Simulator,
    assert_is_split_of,
    free_noise,
    plain,
    several_observed,
    simulator,
    split,
    two_inputs,
)

from pymc_multimodal.model import dimension
from pymc_multimodal.status import ModelError


def test_names_are_those_of_deterministics_or_of_the_op():
    flow = tuple(f"flow[{i}]" for i in range(3))
    assert split(free_noise(Simulator())).names == flow
    assert split(several_observed(Simulator())).names == flow
    assert split(plain(Simulator())).names == tuple(f"Simulator[{i}]" for i in range(3))

    def well(a, b):
        return np.array(a * b)

    with pm.Model() as model:
        a, b = two_inputs()
        op = simulator(well, out=pt.dscalar)
        pm.Normal("y", op(a, b), 0.5, observed=0.5)
        pm.Normal("z", op(b, a + b), 0.5, observed=0.5)
    assert set(split(model).names) == {"well_1", "well_2"}


def test_several_black_boxes(rng):
    first, inner = Simulator(), Simulator()
    outer = wrap_py([pt.dvector], [pt.dmatrix])(lambda v: np.outer(v, v[:2]))
    with pm.Model() as model:
        a, b = two_inputs()
        c = pm.Normal("c", 0.0, 1.0)
        pm.Normal("y", first(a, b), 0.5, observed=DATA)
        pm.Normal("z", outer(inner(b, 1.0)) + c, 0.5, observed=np.ones((3, 2)))
    out = split(model)
    x = rng.normal(size=(5, 3))
    assert_is_split_of(out, model, x)
    assert out.n_outputs == 9
    assert out.inputs.tolist() == [0, 1]
    assert {"output[0,0]", "output[2,1]"} <= set(out.names)


def test_a_black_box_whose_outputs_are_used_directly_and_by_another(rng):
    inner, outer = (
        Simulator(),
        wrap_py([pt.dvector], [pt.dscalar])(lambda v: np.array(v.sum() ** 2)),
    )
    with pm.Model() as model:
        a, b = two_inputs()
        flow = inner(a, b)
        pm.Normal("y", flow, 0.5, observed=DATA)
        pm.Normal("z", outer(flow), 0.5, observed=1.0)
    out = split(model)
    x = rng.normal(size=(5, 2))
    assert_is_split_of(out, model, x)
    assert out.n_outputs == 4


def test_a_black_box_inside_another_graph(rng):
    op = Simulator()
    a, b = pt.dscalars("a", "b")
    inside = OpFromGraph([a, b], [2.0 * op(a, b)])
    with pm.Model() as model:
        pm.Normal("y", inside(*two_inputs()), 0.5, observed=DATA)
    out = split(model)
    assert_is_split_of(out, model, rng.normal(size=(5, 2)))
    assert out.n_outputs == 3


def test_a_black_box_in_a_loop(rng):
    op = Simulator()

    def step(state, a, b):
        return 0.1 * op(a, state).sum() + b

    with pm.Model() as model:
        a, b = two_inputs()
        start = pt.constant(0.5, dtype="float64")
        loop = pytensor.scan(step, [], start, [a, b], n_steps=3, return_updates=False)
        pm.Normal("y", loop, pm.HalfNormal("sigma"), observed=DATA)
    out = split(model)
    assert_is_split_of(out, model, rng.normal(size=(3, 3)))
    assert out.inputs.tolist() == [0, 1]
    assert out.names == tuple(f"Simulator[{i}]" for i in (1, 2, 3))


def test_the_ode_solver_of_pymc(rng):
    decay = DifferentialEquation(
        lambda y, t, p: [-p[0] * y[0]], np.array([0.5, 1.0, 2.0]), n_states=1, n_theta=1
    )
    with pm.Model() as model:
        rate = pm.HalfNormal("rate")
        pm.Normal("y", decay([1.0], [rate])[:, 0], pm.HalfNormal("sigma"), observed=DATA)
    out = split(model)
    x = rng.normal(size=(3, 2))
    assert out.inputs.tolist() == [0]
    assert out.names == tuple(f"DifferentialEquation[{i},0]" for i in range(3))
    expected = np.exp(-np.exp(x[:, :1]) * [0.5, 1.0, 2.0])
    np.testing.assert_allclose(out.outputs(x), expected, rtol=1e-5, atol=1e-6)


def test_variables_with_named_dimensions(rng):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*experimental")
        import pymc.dims as pmd
    with pm.Model(coords={"well": ["u", "v", "w"]}) as model:
        a, c = pmd.Normal("a", 0.0, 1.0), pmd.Normal("c", 0.0, 1.0, dims="well")
        flow = pmd.Deterministic("flow", (a + c) ** 2)
        data = pmd.as_xtensor(DATA, dims=("well",))
        pmd.Normal("y", flow, pmd.HalfNormal("sigma", 1.0), observed=data)
    out = named(model, "flow", rng)
    assert out.inputs.tolist() == [0, 1, 2, 3]
    assert out.names == tuple(f"flow[{i}]" for i in range(3))


def test_a_black_box_applied_along_an_axis(rng):
    op = Simulator()
    with pm.Model() as model:
        a = pm.Normal("a", 0.0, 1.0, shape=4)
        b = pm.Normal("b", 0.0, 1.0)
        flow = pm.Deterministic("flow", pt.vectorize(op, "(),()->(n)")(a, b))
        pm.Normal("y", flow, pm.HalfNormal("sigma"), observed=np.ones((4, 3)))
    out = split(model)
    assert_is_split_of(out, model, rng.normal(size=(5, 6)))
    assert out.n_outputs == 12
    assert out.names[5] == "flow[1,2]"
    assert out.inputs.tolist() == [0, 1, 2, 3, 4]


def test_a_black_box_without_free_inputs_stays_out_of_the_way(rng):
    op, fixed = Simulator(), Simulator()
    with pm.Model() as model:
        shift = fixed(pm.Data("p", 0.3), 1.0)
        pm.Normal("y", op(*two_inputs()) + shift, 0.5, observed=DATA)
    out = split(model)
    assert out.n_outputs == 3
    before = fixed.runs
    x = rng.normal(size=(5, 2))
    out.log_density(x, out.outputs(x))
    assert fixed.runs == before
    assert_is_split_of(out, model, x)


def test_integer_outputs_are_not_split():
    op = wrap_py([pt.dscalar], [pt.lvector])(lambda a: np.array([int(a), 1]))
    with pm.Model() as model:
        pm.Normal("y", op(pm.Normal("a")), 1.0, observed=[0.0, 1.0])
    assert split(model) is None


def named(model, names, rng):
    out = split(model, names)
    assert_is_split_of(out, model, rng.normal(size=(5, dimension(model))))
    return out


def test_named_variables(rng):
    with pm.Model() as model:
        a, b = two_inputs()
        sigma = pm.HalfNormal("sigma", 1.0)
        inner = pm.Deterministic("inner", a**2 + b)
        outer = pt.stack([inner, pt.exp(b), a])
        pm.Deterministic("outer", outer)
        pm.Normal("y", outer + sigma, sigma, observed=DATA)
        pm.Normal("z", inner, 0.5, observed=1.0)
        pm.Potential("p", -(inner**2))
    outer = tuple(f"outer[{i}]" for i in range(3))
    both = named(model, ["inner", "outer"], rng)
    assert both.names == ("inner", *outer)
    assert both.inputs.tolist() == [0, 1]
    assert named(model, "inner", rng).names == ("inner",)
    assert named(model, ["outer"], rng).names == outer
    assert set(model.named_vars) == {"a", "b", "sigma", "inner", "outer", "y", "z", "p"}
    assert split(model) is None


def test_names_with_initial_values_data_and_transforms(rng):
    with pm.Model(coords={"well": ["u", "v", "w"]}) as model:
        a = pm.Normal("a", 0.0, 1.0, initval=0.7)
        b = pm.Uniform("b", -1.0, pt.exp(a))
        data = pm.Data("data", DATA, dims="well")
        flow = pm.Deterministic("flow", Simulator()(a, b) ** 2, dims="well")
        pm.Normal("y", pt.log(flow), 0.5, observed=data, dims="well")
    out = named(model, ["flow"], rng)
    assert out.names == ("flow[0]", "flow[1]", "flow[2]")
    x = rng.normal(size=(2, 2))
    y = out.outputs(x)
    before = out.log_density(x, y)
    pm.set_data({"data": DATA + 1.0}, model=model)
    expected = stats.norm.logpdf(DATA + 1.0, np.log(y), 0.5) - stats.norm.logpdf(
        DATA, np.log(y), 0.5
    )
    np.testing.assert_allclose(out.log_density(x, y) - before, expected.sum(axis=1))


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["flux"], "'flux', which is not a variable of the model. Name .* flow, inner"),
        ([], "names no variable. Name .* flow, inner"),
        (["a"], "'a', which is not a pm.Deterministic"),
        (["y"], "'y', which is not a pm.Deterministic"),
        (["count"], "'count', which has the type int"),
        (["unused"], "'unused', which does not reach the log density"),
        (["constant"], "'constant', which depends on no free variable"),
        (["same"], "'same', which is only another name of a"),
        (["other"], r"no gradient: it passes through Simulator"),
        (["inner", "flow"], "'inner', which reaches it only through others of the names"),
    ],
)
def test_names_that_are_refused(names, says):
    with pm.Model() as model:
        a, b = two_inputs()
        pm.Deterministic("same", a)
        pm.Deterministic("unused", a + 3.0)
        pm.Deterministic("count", pt.round(a).astype("int64"))
        inner = pm.Deterministic("inner", a * 2.0)
        constant = pm.Deterministic("constant", pm.Data("c", 2.0) + 1.0)
        other = pm.Deterministic("other", pt.sin(b))
        flow = pm.Deterministic("flow", Simulator()(inner, b))
        pm.Normal("y", flow + other + constant, 0.5, observed=DATA)
    with pytest.raises(ModelError, match=says):
        split(model, names)


def test_a_prefix_of_names(rng):
    with pm.Model(name="part") as model:
        flow = pm.Deterministic("flow", Simulator()(*two_inputs()))
        pm.Normal("y", flow, 0.5, observed=DATA)
    assert split(model).names[0] == "part::flow[0]"
    assert named(model, "part::flow", rng).names[0] == "part::flow[0]"
