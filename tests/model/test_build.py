"""A `Density` made from a PyMC model: the model's own values, for many points at once."""

from __future__ import annotations

import pickle
import subprocess
import sys

import cloudpickle
import models
import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from pytensor.compile.ops import wrap_py
from scipy import stats

from pymc_multimodal.model.build import density_of
from pymc_multimodal.status import ModelError
from pymc_multimodal.target.density import CHUNK

try:
    from pytensor.conditional.op import ifelse
except ImportError:  # before PyTensor 3
    from pytensor.ifelse import ifelse


def points_of(model, x):
    """Rows as points by value variable, cut up here and not by the package."""
    initial = model.initial_point()
    for row in x:
        point, at = {}, 0
        for value in model.value_vars:
            shape = np.shape(initial[value.name])
            size = int(np.prod(shape))
            point[value.name] = row[at : at + size].reshape(shape)
            at += size
        yield point


@pytest.fixture(scope="module")
def mixed():
    """Scalars, length-1 and longer shapes, with and without transforms, in one model."""
    with pm.Model() as model:
        a = pm.Normal("a", 1.0, 2.0)
        b = pm.HalfNormal("b", 1.0, shape=1)
        c = pm.Beta("c", 2.0, 3.0, shape=(2, 1))
        pm.Uniform("e", -1.0, 2.0)
        f = pm.Normal("f", a, b, shape=(1, 1))
        p = pm.Dirichlet("p", np.ones(3))
        pm.Normal("y", a + c.sum() + f[0, 0] * p[0], 0.7, observed=np.array([0.5, 1.5]))
    return model


@pytest.fixture(scope="module")
def mixed_density(mixed):
    return density_of(mixed)


@pytest.fixture(scope="module")
def four_modes_density(four_modes):
    return density_of(four_modes)


@pytest.fixture(scope="module")
def circular_density():
    return density_of(models.circular())


def test_log_density_and_gradient_are_the_models(mixed, mixed_density, rng):
    x = rng.normal(size=(CHUNK + 5, mixed_density.dim))
    logp, grad = mixed_density.logp_and_grad(x)
    reference = mixed.compile_logp(mode="FAST_COMPILE")
    gradient = mixed.compile_dlogp(mode="FAST_COMPILE")
    rows = list(points_of(mixed, x))
    np.testing.assert_allclose(logp, [reference(p) for p in rows], rtol=1e-9)
    np.testing.assert_allclose(grad, [gradient(p) for p in rows], rtol=1e-7, atol=1e-8)
    np.testing.assert_array_equal(mixed_density.logp(x), logp)


def test_coordinates_are_named_and_counted(mixed_density, four_modes_density):
    assert mixed_density.names == (
        "a", "b_log__[0]", "c_logodds__[0,0]", "c_logodds__[1,0]", "e_interval__", "f[0,0]",
        "p_simplex__[0]", "p_simplex__[1]",
    )  # fmt: skip
    assert mixed_density.dim == 8
    assert np.isinf(mixed_density.period).all()
    assert four_modes_density.names == ("x[0]", "x[1]")


def test_compiling_counts_no_evaluation(circular_density):
    fresh = density_of(models.unimodal())
    assert (fresh.n_logp_evals, fresh.n_grad_evals) == (0, 0)
    fresh.logp(np.zeros((3, 1)))
    assert (fresh.n_logp_evals, fresh.n_grad_evals) == (3, 3)


def test_length_one_models(rng):
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 2.0, shape=1)
        pm.Normal("y", x**2, 1.0, observed=np.array([1.5]))
    density = density_of(model)
    x = rng.normal(size=(4, 1))
    logp, grad = density.logp_and_grad(x)
    expected = stats.norm.logpdf(x[:, 0], 0, 2) + stats.norm.logpdf(1.5, x[:, 0] ** 2, 1)
    np.testing.assert_allclose(logp, expected)
    slope = -x[:, 0] / 4 + 2 * x[:, 0] * (1.5 - x[:, 0] ** 2)
    np.testing.assert_allclose(grad[:, 0], slope)
    assert density.logp(x[:1]).shape == (1,)


def test_a_bad_parameter_spoils_its_own_row_only():
    with pm.Model() as model:
        scale = pm.Normal("scale", 0.0, 1.0)
        pm.Normal("y", 0.0, scale, observed=0.5)
        pm.Potential("half", pm.logp(pm.HalfNormal.dist(scale), 0.7))
    density = density_of(model)
    x = np.array([1.0, -1.0, 2.0, -0.5, 0.5])[:, None]
    logp, grad = density.logp_and_grad(x)
    good = x[:, 0] > 0
    assert (logp[~good] == -np.inf).all()
    s = x[good, 0]
    expected = (
        stats.norm.logpdf(s) + stats.norm.logpdf(0.5, 0, s) + stats.halfnorm.logpdf(0.7, 0, s)
    )
    np.testing.assert_allclose(logp[good], expected)
    np.testing.assert_allclose(grad[good, 0], -s - 2 / s + (0.5**2 + 0.7**2) / s**3)
    assert np.isfinite(grad).all()


def test_prior_draws_follow_the_prior(rng):
    with pm.Model() as model:
        a = pm.Normal("a", 1.0, 2.0)
        pm.HalfNormal("b", 1.5)
        pm.Normal("z", a, 0.5)
        pm.Uniform("u", 2.0, 5.0)
        pm.Normal("y", a, 1.0, observed=30.0)
    x = density_of(model).prior_draws(1500, rng)
    assert x.shape == (1500, 4)
    a, log_b, z, logit_u = x.T
    tests = {
        "a": stats.kstest(a, stats.norm(1.0, 2.0).cdf),
        "b": stats.kstest(np.exp(log_b), stats.halfnorm(0.0, 1.5).cdf),
        "z given a": stats.kstest(z - a, stats.norm(0.0, 0.5).cdf),
        "u": stats.kstest(1 / (1 + np.exp(-logit_u)), stats.uniform().cdf),
    }
    for name, result in tests.items():
        assert result.pvalue > 1e-4, name
    assert abs(np.corrcoef(z - a, a)[0, 1]) < 4 / np.sqrt(1500)


def test_prior_draws_repeat_with_the_seed(four_modes_density):
    draw = four_modes_density.prior_draws
    first = draw(5, np.random.default_rng(1))
    other = draw(5, np.random.default_rng(2))
    again = draw(5, np.random.default_rng(1))
    np.testing.assert_array_equal(first, again)
    assert not np.any(first == other)


def test_points_in_the_models_variables(four_modes_density):
    with pm.Model() as model:
        pm.HalfNormal("s", 1.0, shape=2)
        pm.Normal("m", 0.0, 1.0)
    density = density_of(model)
    rows = density.to_unconstrained([{"s": [2.0, 3.0], "m": -1.0}, {"m": 4.0, "s": [1.0, 1.0]}])
    np.testing.assert_allclose(rows, [[np.log(2), np.log(3), -1.0], [0.0, 0.0, 4.0]])
    rows = four_modes_density.to_unconstrained([{"x": [2.0, -2.0]}])
    np.testing.assert_allclose(rows, [[2.0, -2.0]])
    with pytest.raises(ModelError, match=r"\['slope'\].*\['m', 's'\]"):
        density.to_unconstrained([{"slope": 1.0}])


def test_points_of_a_circular_variable_are_wrapped(circular_density):
    rows = circular_density.to_unconstrained([{"phi": 3.0, "z": 9.0}])
    np.testing.assert_allclose(rows, [[3.0, 9.0]])
    assert np.isfinite(circular_density.logp(rows)).all()


def test_the_period_of_a_circular_variable_is_found(circular_density, rng):
    np.testing.assert_allclose(circular_density.period, [2 * np.pi, np.inf])
    x = rng.normal(scale=8.0, size=(20, 2))
    wrapped = circular_density.wrap(x)
    assert (np.abs(wrapped[:, 0]) <= np.pi).all()
    np.testing.assert_array_equal(wrapped[:, 1], x[:, 1])
    np.testing.assert_allclose(circular_density.logp(wrapped), circular_density.logp(x))
    prior = circular_density.prior_draws(50, rng)
    assert (np.abs(prior[:, 0]) <= np.pi).all()


def test_a_model_without_gradient_is_recognised(rng):
    density = density_of(models.black_box())
    assert not density.has_gradient
    x = rng.normal(scale=2.0, size=(CHUNK + 1, 1))
    expected = stats.norm.logpdf(x[:, 0], 0, 3) + stats.norm.logpdf(4.0, x[:, 0] ** 2, 1)
    np.testing.assert_allclose(density.logp(x), expected)
    assert (density.n_logp_evals, density.n_grad_evals) == (CHUNK + 1, 0)
    with pytest.raises(TypeError, match="no gradient"):
        density.logp_and_grad(x)


def test_a_graph_that_cannot_be_vectorised():
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 1.0, shape=2)
        mean = ifelse(pt.gt(x[0], 0.0), 3.0 * x[1], -x[1])
        pm.Normal("y", mean, 1.0, observed=0.5)
    density = density_of(model)
    x = np.array([[1.0, 0.3], [-1.0, 0.3], [2.0, -1.0], [-0.1, 2.0]])
    factor = np.where(x[:, 0] > 0, 3.0, -1.0)
    logp, grad = density.logp_and_grad(x)
    residual = 0.5 - factor * x[:, 1]
    expected = stats.norm.logpdf(x).sum(axis=1) + stats.norm.logpdf(residual)
    np.testing.assert_allclose(logp, expected)
    np.testing.assert_allclose(grad, np.stack([-x[:, 0], -x[:, 1] + factor * residual], axis=1))


def test_compile_kwargs_reach_the_compiler(four_modes, four_modes_density, rng):
    slow = density_of(four_modes, compile_kwargs={"mode": "FAST_COMPILE"})
    x = rng.normal(size=(3, 2))
    np.testing.assert_allclose(slow.logp(x), four_modes_density.logp(x))
    with pytest.raises(Exception, match="no_such_mode"):
        density_of(four_modes, compile_kwargs={"mode": "no_such_mode"})


def test_data_are_read_when_evaluated():
    model = models.four_modes()
    density = density_of(model)
    x = np.array([[2.0, 2.0]])
    before = density.logp(x)
    pm.set_data({"data": [1.0, 4.0]}, model=model)
    np.testing.assert_allclose(density.logp(x) - before, -4.5)


def test_a_pickled_density_evaluates(four_modes_density, rng):
    copy = pickle.loads(pickle.dumps(four_modes_density))
    x = rng.normal(size=(3, 2))
    np.testing.assert_array_equal(copy.logp(x), four_modes_density.logp(x))


def local_ops(kind):
    """A model whose Op PyTensor itself cannot pickle: its function has no name in a module."""

    def square(x):
        return x**2

    function = square if kind == "local" else (lambda x: x**2)
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 3.0, shape=1)
        op = wrap_py([pt.dvector], [pt.dvector])(function)
        pm.Normal("y", op(x), 1.0, observed=[4.0])
    return model


@pytest.mark.parametrize("kind", ["local", "lambda"])
def test_ops_of_local_functions_reach_other_processes(kind):
    density = density_of(local_ops(kind))
    x = np.array([[2.0], [-1.0]])
    for dumps in (pickle.dumps, cloudpickle.dumps):
        copy = pickle.loads(dumps(density))
        np.testing.assert_array_equal(copy.logp(x), density.logp(x))


@pytest.mark.parametrize(("seconds", "chunk"), [(0.0, CHUNK), (0.05, 1)])
def test_the_price_of_an_evaluation_decides_how_many_points_a_call_has(
    seconds, chunk, stopped_clock
):
    """Measured in this process: the same for any number of workers."""

    def solve(value):
        stopped_clock.skip(seconds)
        return np.float64(value**2)

    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 2.0)
        pm.Normal("y", wrap_py([pt.dscalar], [pt.dscalar])(solve)(x), 1.0, observed=4.0)
    for workers in (1, 2):
        density = density_of(model, workers=workers, compile_kwargs={"mode": "FAST_COMPILE"})
        assert density.chunk == chunk
        assert density.dear == (chunk == 1)
        assert density.n_logp_evals == 0


@pytest.mark.slow  # a worker compiles the model anew
def test_ops_of_local_functions_are_evaluated_by_workers():
    alone, shared = (density_of(local_ops("lambda"), workers=n) for n in (1, 2))
    x = np.linspace(-3.0, 3.0, 3 * CHUNK)[:, None]
    try:
        np.testing.assert_array_equal(shared.logp(x), alone.logp(x))
    finally:
        shared.close()


@pytest.mark.slow  # two workers compile the model anew
def test_worker_processes_give_the_same_bits(four_modes, four_modes_density, rng):
    x = rng.normal(size=(5 * CHUNK + 3, 2))
    density = density_of(four_modes, workers=2)
    try:
        for shared, alone in zip(
            density.logp_and_grad(x), four_modes_density.logp_and_grad(x), strict=True
        ):
            np.testing.assert_array_equal(shared, alone)
    finally:
        density.close()


@pytest.mark.slow  # a process of its own compiles a model
def test_dimensions_with_names_can_be_imported_after_a_density_is_compiled():
    code = (
        "import warnings; import pymc as pm; from pymc_multimodal.model import density_of\n"
        "with pm.Model() as model: pm.Normal('x')\n"
        "density_of(model, compile_kwargs={'mode': 'FAST_COMPILE'})\n"
        "warnings.simplefilter('ignore'); import pymc.dims"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
