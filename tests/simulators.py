"""Models with black boxes that the tests share, and checks of a split log density."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.compile.ops import wrap_py
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

from pymc_multimodal.model import layout, split_at_outputs, unflatten

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


def series(n):
    """A simulator of two inputs with n outputs: a wave that dies out."""
    time = np.linspace(0.0, 3.0, n)

    def wave(a, b):
        return np.exp(-0.3 * time) * np.sin(time + a) + b

    with pm.Model() as model:
        a, b = two_inputs()
        pm.Normal("y", simulator(wave)(a, b), 0.1, observed=wave(0.3, 0.4))
    return model
