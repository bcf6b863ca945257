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
from pytensor.raise_op import Assert
from simulators import (
    DATA,
    QUICK,
    Misfit,
    Simulator,
    assert_is_split_of,
    censored,
    correlated,
    counts,
    free_noise,
    laplace,
    mixture,
    model_logp,
    plain,
    several_observed,
    simulator,
    split,
    two_inputs,
    under_a_transformation,
)

from pymc_multimodal.model import layout, split_at_outputs

MODELS = (
    plain, free_noise, under_a_transformation, several_observed, correlated, counts, censored,
    mixture, laplace,
)  # fmt: skip


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_the_parts_make_the_log_density(make, rng):
    op = Simulator()
    model = make(op)
    out = split(model)
    x = rng.normal(size=(7, len(model.value_vars)))
    assert_is_split_of(out, model, x)
    assert out.inputs.tolist() == [0, 1]
    y = out.outputs(x)
    before = op.runs
    out.log_density_and_grad(x, y)
    assert op.runs == before
    out.outputs(x)
    assert op.runs == before + len(x)


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


def test_a_row_at_which_the_rest_raises_spoils_no_other(rng):
    with pm.Model() as model:
        a, b = two_inputs()
        sigma = pm.Normal("sigma", 1.0, 1.0)
        checked = Assert("sigma is negative")(sigma, pt.gt(sigma, 0.0))
        pm.Normal("y", Simulator()(a, b), checked, observed=DATA)
    out = split(model)
    x = rng.normal(size=(3, 3))
    x[:, 2] = 0.5, -0.5, 2.0
    y = out.outputs(x)
    results = out.log_density_and_grad(x, y)
    for result in results:
        assert np.isnan(result[1]).all()
    for result, alone in zip(results, out.log_density_and_grad(x[[0, 2]], y[[0, 2]]), strict=True):
        np.testing.assert_allclose(result[[0, 2]], alone)
    np.testing.assert_allclose(results[0][[0, 2]], model_logp(model, x[[0, 2]]))


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
    out = split_at_outputs(model, layout(model), QUICK)
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
