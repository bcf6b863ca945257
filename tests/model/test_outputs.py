"""The log density, split at the outputs of a black box, is the model's own log density."""

from __future__ import annotations

import pickle
import subprocess
import sys

import cloudpickle
import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from models import black_box
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.ops import wrap_py
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from scipy import stats

from pymc_multimodal.model import layout, split_at_outputs, unflatten
from pymc_multimodal.status import ModelError

# The Python linker compiles in a fraction of Numba's time; some tests use the default.
QUICK = {"mode": "FAST_COMPILE"}


class Simulator(Op):
    """Three outputs from two inputs, without a gradient; it counts its runs."""

    __props__ = ()

    def __init__(self):
        self.runs = 0

    def make_node(self, a, b):
        return Apply(self, [pt.as_tensor(a), pt.as_tensor(b)], [pt.dvector()])

    def perform(self, node, inputs, outputs):
        self.runs += 1
        a, b = (v.item() for v in inputs)
        outputs[0][0] = np.array([a + b, a**2 + 0.1, np.exp(0.3 * a * b)])


class Misfit(Op):
    """A log likelihood of two inputs, or several terms of one."""

    __props__ = ("terms",)

    def __init__(self, terms=None):
        self.terms = terms

    def make_node(self, a, b):
        out = pt.dscalar() if self.terms is None else pt.dvector()
        return Apply(self, [pt.as_tensor(a), pt.as_tensor(b)], [out])

    def perform(self, node, inputs, outputs):
        a, b = (v.item() for v in inputs)
        loss = -0.5 * (a**2 + b - 1.0) ** 2
        outputs[0][0] = np.array(loss) if self.terms is None else np.full(self.terms, loss)


def simulator(function, n_inputs=2, out=pt.dvector):
    """An Op of a function of scalars."""
    return wrap_py([pt.dscalar] * n_inputs, [out])(function)


def two_inputs():
    return pm.Normal("a", 0.0, 1.0), pm.Uniform("b", -1.0, 2.0)


DATA = np.array([0.6, 0.5, 1.2])


def split(model, names=None, **kwargs):
    return split_at_outputs(model, layout(model), kwargs or QUICK, names)


def model_logp(model, x):
    function = model.compile_logp(mode="FAST_COMPILE")
    return np.array([function(point) for point in unflatten(layout(model), x)])


def differences(f, x, step=1e-6):
    """Central differences of f, (n, d) -> (n,), in each coordinate."""
    columns = []
    for j in range(x.shape[1]):
        h = np.zeros(x.shape[1])
        h[j] = step
        columns.append((f(x + h) - f(x - h)) / (2 * step))
    return np.stack(columns, axis=1)


def assert_is_split_of(out, model, x, rtol=1e-9):
    """The two parts together are the log density; the gradients are those of the second."""
    y = out.outputs(x)
    assert y.shape == (len(x), out.n_outputs)
    assert len(out.names) == len(set(out.names)) == out.n_outputs
    assert np.isfinite(y).all()
    logp, grad_x, grad_y = out.log_density_and_grad(x, y)
    assert (logp.shape, grad_x.shape, grad_y.shape) == ((len(x),), x.shape, y.shape)
    np.testing.assert_allclose(logp, model_logp(model, x), rtol=rtol)
    np.testing.assert_array_equal(out.log_density(x, y), logp)
    tolerance = {"rtol": 1e-5, "atol": 1e-5}
    slope = differences(lambda v: out.log_density(v, y), x)
    np.testing.assert_allclose(grad_x, slope, **tolerance)
    slope = differences(lambda v: out.log_density(x, v), y)
    np.testing.assert_allclose(grad_y, slope, **tolerance)


def plain(op):
    with pm.Model() as model:
        a, b = two_inputs()
        pm.Normal("y", op(a, b), 0.5, observed=DATA)
    return model


def free_noise(op):
    with pm.Model(coords={"well": ["u", "v", "w"]}) as model:
        a, b = two_inputs()
        sigma = pm.HalfNormal("sigma", 1.0)
        data = pm.Data("data", DATA, dims="well")
        flow = pm.Deterministic("flow", op(a, b), dims="well")
        pm.Normal("y", flow, sigma, observed=data, dims="well")
    return model


def under_a_transformation(op):
    with pm.Model() as model:
        a, b = two_inputs()
        scale = pm.LogNormal("scale", 0.0, 0.3)
        pm.Normal("y", pt.log(op(a, b)[1:] * scale), 0.2, observed=np.array([-1.0, 0.1]))
    return model


def several_observed(op):
    with pm.Model() as model:
        a, b = two_inputs()
        flow = op(a, b)
        pm.Deterministic("flow", flow)
        pm.Normal("first", flow[0], 0.5, observed=0.4)
        pm.StudentT("rest", nu=4, mu=flow[1:], sigma=pm.HalfNormal("sigma"), observed=DATA[1:])
        pm.Potential("limit", -pt.sum(flow**2) / 20)
    return model


def correlated(op):
    with pm.Model() as model:
        a, b = two_inputs()
        rho = pm.Uniform("rho", -0.5, 0.5)
        cov = pt.eye(3) + rho * (1.0 - pt.eye(3))
        pm.MvNormal("y", op(a, b), cov, observed=DATA)
    return model


def counts(op):
    with pm.Model() as model:
        a, b = two_inputs()
        pm.Poisson("y", pt.exp(op(a, b)), observed=np.array([1, 2, 3]))
    return model


def censored(op):
    with pm.Model() as model:
        a, b = two_inputs()
        raw = pm.Normal.dist(op(a, b), pm.HalfNormal("sigma"))
        pm.Censored("y", raw, lower=None, upper=1.0, observed=np.array([0.6, 0.5, 1.0]))
    return model


def mixture(op):
    with pm.Model() as model:
        a, b = two_inputs()
        w = pm.Beta("w", 2.0, 2.0)
        parts = [pm.Normal.dist(op(a, b), 0.3), pm.Normal.dist(0.0, 2.0, shape=3)]
        pm.Mixture("y", w=pt.stack([w, 1 - w]), comp_dists=parts, observed=DATA)
    return model


def laplace(op):
    """The gradient with respect to the outputs is constant on either side of the data."""
    with pm.Model() as model:
        a, b = two_inputs()
        pm.Laplace("y", op(a, b), 0.5, observed=DATA + 3.0)
    return model


INPUTS = {
    plain: [0, 1],
    free_noise: [0, 1],
    under_a_transformation: [0, 1],
    several_observed: [0, 1],
    correlated: [0, 1],
    counts: [0, 1],
    censored: [0, 1],
    mixture: [0, 1],
    laplace: [0, 1],
}


@pytest.mark.parametrize("make", INPUTS, ids=lambda make: make.__name__)
def test_the_parts_make_the_log_density(make, rng):
    op = Simulator()
    model = make(op)
    out = split(model)
    x = rng.normal(size=(7, len(model.value_vars)))
    assert_is_split_of(out, model, x)
    assert out.inputs.tolist() == INPUTS[make]
    y = out.outputs(x)
    before = op.runs
    out.log_density_and_grad(x, y)
    assert op.runs == before
    out.outputs(x)
    assert op.runs == before + len(x)


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


@pytest.mark.parametrize("kwargs", [{}, QUICK], ids=["numba", "python"])
def test_any_number_of_rows(kwargs, rng):
    model = free_noise(Simulator())
    out = split_at_outputs(model, layout(model), kwargs)
    x = rng.normal(size=(100, 3))
    y = out.outputs(x)
    logp, grad_x, grad_y = out.log_density_and_grad(x, y)
    np.testing.assert_allclose(logp, model_logp(model, x), rtol=1e-9)
    for n in (0, 1, 2, 37):
        np.testing.assert_array_equal(out.outputs(x[:n]), y[:n])
        few = out.log_density_and_grad(x[:n], y[:n])
        for part, whole in zip(few, (logp, grad_x, grad_y), strict=True):
            assert part.shape == whole[:n].shape
            np.testing.assert_allclose(part, whole[:n], rtol=1e-12)


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


def test_no_black_box_and_no_use():
    with pm.Model() as ordinary:
        pm.Normal("y", pm.Normal("x") ** 2, 1.0, observed=1.0)
    assert split(ordinary) is None
    for terms in (None, 4):
        with pm.Model() as likelihood:
            pm.Potential("p", Misfit(terms)(*two_inputs()))
        assert split(likelihood) is None
        with pm.Model() as likelihood:
            pm.Deterministic("d", Misfit(terms)(*two_inputs()))
            pm.Potential("p", 0.5 * pt.sum(likelihood["d"]) - 3.0)
        assert split(likelihood) is None
    with pm.Model() as custom:
        op = Misfit(3)
        pm.CustomDist("y", *two_inputs(), logp=lambda value, a, b: op(a, b), observed=DATA)
    assert split(custom) is None


def test_a_misfit_with_free_noise_is_split(rng):
    with pm.Model() as model:
        a, b = two_inputs()
        precision = pm.Exponential("precision", 1.0)
        pm.Potential("p", precision * Misfit()(a, b) + 0.5 * pt.log(precision))
    out = split(model)
    assert_is_split_of(out, model, rng.normal(size=(5, 3)))
    assert (out.names, out.inputs.tolist()) == (("Misfit",), [0, 1])


def test_outputs_that_limit_the_parameters(rng):
    """The log density is constant in the outputs, within limits."""
    with pm.Model() as model:
        flow = Simulator()(*two_inputs())
        pm.Uniform("y", flow - 1.0, flow + 1.0, observed=DATA)
    assert_is_split_of(split(model), model, 0.1 * rng.random(size=(3, 2)))


def test_outputs_in_a_prior(rng):
    with pm.Model() as model:
        a, b = two_inputs()
        c = pm.Normal("c", Simulator()(a, b), 0.3)
        pm.Normal("y", c, 0.5, observed=DATA)
    out = split(model)
    assert out.inputs.tolist() == [0, 1]
    assert_is_split_of(out, model, rng.normal(size=(3, 5)))


def test_outputs_in_a_custom_log_density(rng):
    op = Simulator()
    with pm.Model() as model:
        a, b = two_inputs()
        sigma = pm.HalfNormal("sigma", 1.0)

        def logp(value, a, b, sigma):
            return pm.logp(pm.Normal.dist(op(a, b), sigma), value)

        pm.CustomDist("y", a, b, sigma, logp=logp, observed=DATA)
    out = split(model)
    assert out.inputs.tolist() == [0, 1]
    assert_is_split_of(out, model, rng.normal(size=(3, 3)))


def test_outputs_of_single_precision(rng):
    op = simulator(lambda a, b: np.array([a, b], dtype="float32"), 2, pt.fvector)
    with pm.Model() as model:
        pm.Normal("y", op(*two_inputs()), pm.HalfNormal("sigma"), observed=DATA[:2])
    out = split(model)
    x = rng.normal(size=(3, 3)).astype("float32").astype(float)
    np.testing.assert_allclose(out.log_density(x, out.outputs(x)), model_logp(model, x), rtol=1e-6)


def test_a_prefix_of_names(rng):
    with pm.Model(name="part") as model:
        flow = pm.Deterministic("flow", Simulator()(*two_inputs()))
        pm.Normal("y", flow, 0.5, observed=DATA)
    assert split(model).names[0] == "part::flow[0]"
    assert named(model, "part::flow", rng).names[0] == "part::flow[0]"


def test_integer_outputs_are_not_split():
    op = wrap_py([pt.dscalar], [pt.lvector])(lambda a: np.array([int(a), 1]))
    with pm.Model() as model:
        pm.Normal("y", op(pm.Normal("a")), 1.0, observed=[0.0, 1.0])
    assert split(model) is None


@pytest.mark.parametrize("kwargs", [{}, QUICK], ids=["numba", "python"])
def test_a_point_that_raises_or_gives_nan_has_a_row_of_nan(kwargs):
    def unstable(a, b):
        if a > 1.0:
            raise RuntimeError("diverged")
        return np.array([a, np.nan if a < -1.0 else b])

    op = simulator(unstable)
    with pm.Model() as model:
        a, b = pm.Normal("a"), pm.Normal("b")
        pm.Normal("y", op(a, b), 0.5, observed=DATA[:2])
    out = split_at_outputs(model, layout(model), kwargs)
    y = out.outputs(np.array([[0.5, 1.0], [2.0, 1.0], [-2.0, 1.0], [0.0, 3.0]]))
    np.testing.assert_array_equal(y, [[0.5, 1.0], [np.nan] * 2, [np.nan] * 2, [0.0, 3.0]])


def test_a_black_box_that_raises_at_the_initial_point(rng):
    def undefined(a, b):
        if a == 0.0:
            raise ZeroDivisionError
        return np.array([b / a, a])

    with pm.Model() as model:
        a, b = pm.Normal("a"), pm.Normal("b")
        pm.Normal("y", simulator(undefined)(a, b), 0.5, observed=DATA[:2])
    assert_is_split_of(split(model), model, 1.0 + rng.random(size=(5, 2)))

    def broken(a, b):
        raise RuntimeError

    with pm.Model() as model:
        pm.Normal("y", simulator(broken)(*two_inputs()), 0.5, observed=DATA)
    assert split(model) is None


def test_an_interrupt_passes():
    stop = False

    def interrupted(a, b):
        if stop:
            raise KeyboardInterrupt
        return np.array([a, b])

    with pm.Model() as model:
        pm.Normal("y", simulator(interrupted)(*two_inputs()), 0.5, observed=DATA[:2])
    out = split(model)
    stop = True
    with pytest.raises(KeyboardInterrupt):
        out.outputs(np.zeros((2, 2)))


def named(model, names, rng):
    out = split(model, names)
    assert_is_split_of(out, model, rng.normal(size=(5, len(model.value_vars))))
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
        (["a"], "'a', which is not a pm.Deterministic"),
        (["y"], "'y', which is not a pm.Deterministic"),
        (["count"], "'count', which has the type int"),
        (["unused"], "'unused', which does not reach the log density"),
        (["constant"], "'constant', which depends on no free variable"),
        (["same"], "'same', which is only another name of a"),
        (["other"], r"no gradient .* it passes through Simulator"),
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


@pytest.mark.parametrize("make", [free_noise, mixture])
def test_pickled_copies_evaluate(make, rng):
    model = make(Simulator())
    out = split(model)
    x = rng.normal(size=(4, 3))
    y = out.outputs(x)
    for dumps in (pickle.dumps, cloudpickle.dumps):
        copy = pickle.loads(dumps(out))
        assert copy.names == out.names
        np.testing.assert_array_equal(copy.outputs(x), y)
        np.testing.assert_array_equal(copy.log_density(x, y), out.log_density(x, y))


def test_a_copy_in_another_process_evaluates(tmp_path, rng):
    with pm.Model() as model:
        op = simulator(lambda a, b: np.array([a, b, a * b]))
        pm.Normal("y", op(*two_inputs()), pm.HalfNormal("sigma"), observed=DATA)
    out = split_at_outputs(model, layout(model), {})
    x = rng.normal(size=(4, 3))
    y = out.outputs(x)
    (tmp_path / "split").write_bytes(cloudpickle.dumps((out, x)))
    code = (
        "import pickle, sys; out, x = pickle.load(open(sys.argv[1] + '/split', 'rb'));"
        "y = out.outputs(x); result = y, *out.log_density_and_grad(x, y);"
        "pickle.dump(result, open(sys.argv[1] + '/result', 'wb'))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    result = pickle.loads((tmp_path / "result").read_bytes())
    for there, here in zip(result, (y, *out.log_density_and_grad(x, y)), strict=True):
        np.testing.assert_array_equal(there, here)


def test_the_shared_black_box_model(rng):
    model = black_box()
    out = split(model)
    assert (out.names, out.inputs.tolist()) == (("Square[0]",), [0])
    assert_is_split_of(out, model, rng.normal(size=(5, 1)))
