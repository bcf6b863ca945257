"""Models with discrete variables that the tests share; each function builds a new model."""

from __future__ import annotations

import itertools

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.compile.mode import Mode
from scipy.stats import multivariate_normal

from pymc_multimodal.model import layout, unflatten

QUICK = Mode(linker="py", optimizer="fast_compile")
"""A mode of PyTensor that compiles nothing."""


def changepoint(counts: np.ndarray) -> pm.Model:
    """Poisson counts whose rate changes once; both rates have an Exponential prior."""
    years = np.arange(len(counts))
    with pm.Model(coords={"year": years}) as model:
        tau = pm.DiscreteUniform("tau", 1, len(counts) - 1)
        early, late = pm.Exponential("early", 1.0), pm.Exponential("late", 1.0)
        rate = pm.math.switch(years < tau, early, late)
        pm.Poisson("count", pm.Deterministic("rate", rate, dims="year"), observed=counts)
    return model


def mixture(y: np.ndarray) -> pm.Model:
    """Two components of known weights, with normal means, and the component of each datum."""
    with pm.Model(coords={"datum": np.arange(len(y))}) as model:
        mu = pm.Normal("mu", [-1.0, 1.5], 1.5, shape=2)
        z = pm.Categorical("z", [0.4, 0.6], dims="datum")
        pm.Normal("y", mu[z], 0.7, observed=y, dims="datum")
    return model


def indicator(y: np.ndarray) -> pm.Model:
    """Whether a slope is needed: a Bernoulli indicator of the model."""
    t = np.linspace(-1.0, 1.0, len(y))
    with pm.Model() as model:
        level, slope = pm.Normal("level", 0.0, 2.0), pm.Normal("slope", 0.0, 1.0)
        needed = pm.Bernoulli("needed", 0.3)
        pm.Normal("y", pm.Deterministic("trend", level + needed * slope * t), 0.5, observed=y)
    return model


def hidden_markov(y: np.ndarray) -> pm.Model:
    """Two states with normal means, and known probabilities of transitions."""
    import pymc_extras as pmx

    with pm.Model(coords={"time": np.arange(len(y))}) as model:
        mu = pm.Normal("mu", [-1.0, 1.0], 1.0, shape=2)
        start = pm.Categorical.dist(p=np.array(START))
        state = pmx.DiscreteMarkovChain("state", P=np.array(STEPS), init_dist=start, dims="time")
        pm.Normal("y", mu[state], 0.6, observed=y)
    return model


START = (0.3, 0.7)
"""Probabilities of the first state of `hidden_markov`."""
STEPS = ((0.8, 0.2), (0.35, 0.65))
"""Its probabilities of transitions."""


def exact_paths(y: np.ndarray, log_prior, means, sds) -> tuple[np.ndarray, np.ndarray]:
    """Sum over all assignments of data to two components with normal means.

    Parameters
    ----------
    y : array of shape (n,)
    log_prior : callable
        Log prior probability of an assignment.
    means : array of shape (2,)
        Prior means of the components.
    sds : tuple of two floats
        Standard deviation of a component's mean, and of the data.

    Returns
    -------
    paths : array of shape (2**n, n)
    log_joint : array of shape (2**n,)
        Log of the prior times the marginal likelihood.
    """
    paths = np.array([*itertools.product([0, 1], repeat=len(y))])
    log_joint = []
    for path in paths:
        shared = sds[0] ** 2 * (path[:, None] == path)
        normal = multivariate_normal(np.asarray(means)[path], shared + sds[1] ** 2 * np.eye(len(y)))
        log_joint.append(log_prior(path) + normal.logpdf(y))
    return paths, np.array(log_joint)


def brute_force(model: pm.Model, marginal, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Evaluate a model's own log density at all values of its discrete variables.

    Parameters
    ----------
    model : pymc.Model
    marginal : MarginalModel
    x : array of shape (n, d)
        Continuous coordinates.

    Returns
    -------
    configurations : array of shape (C, m)
        Values of all elements of the discrete variables.
    log_joint : array of shape (n, C)
    """
    function = model.compile_logp(mode=QUICK)
    elements = [v.domain for v in marginal.discrete for _ in range(v.size)]
    configurations = np.array([*itertools.product(*elements)])
    out = np.full((len(x), len(configurations)), -np.inf)
    for i, point in enumerate(unflatten(layout(marginal), x)):
        for c, values in enumerate(configurations):
            at = 0
            for v in marginal.discrete:
                part = values[at : at + v.size].reshape(v.shape)
                point[v.value.name] = part.astype(v.value.dtype)
                at += v.size
            try:
                out[i, c] = function(point)
            except pm.logprob.utils.ParameterValueError:
                pass
    return configurations, out


# ------------------------------------------------------------------ many structures


def _several_of_one_shape() -> pm.Model:
    rng = np.random.default_rng(1)
    with pm.Model() as model:
        x, sd = pm.Normal("x", 0.0, 2.0), pm.HalfNormal("sd", 1.0)
        g = pm.Bernoulli("g", 0.3)
        z = pm.Bernoulli("z", pm.math.switch(g, 0.2, 0.7), shape=3)
        w = pm.Categorical("w", [0.2, 0.3, 0.5], shape=3)
        pm.Normal("y", x * z + w, pm.math.switch(z, sd, 2 * sd), observed=rng.normal(size=3))
        pm.Uniform("u", 0.0, 1.0 + g)
        both = pt.stack([z, w], axis=-1) * 1.0
        pm.MvNormal("v", both, np.eye(2), observed=rng.normal(size=(3, 2)))
    return model


def _mixed_elements() -> pm.Model:
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 2.0)
        g = pm.Bernoulli("g", 0.3)
        h = pm.Bernoulli("h", 0.4, shape=3)
        pm.Normal("y", x + 2 * g + pt.dot(h, np.array([1.0, 2.0, 3.0])), 1.0, observed=2.5)
        pm.Potential("p", g * h[0] * x)
    return model


def _matrix_of_indices() -> pm.Model:
    rng = np.random.default_rng(2)
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 3.0, shape=(2, 2))
        p = pm.Dirichlet("p", np.ones(2), shape=(3, 2))
        z = pm.Categorical("z", p, shape=(2, 3))
        pm.Normal("y", mu[z], 1.0, observed=rng.normal(size=(2, 3, 2)))
        pm.Normal("x", z.T[..., None] * np.ones(2), 1.0, observed=rng.normal(size=(3, 2, 2)))
    return model


def _other_distributions() -> pm.Model:
    with pm.Model() as model:
        p = pm.Beta("p", 2.0, 2.0)
        k = pm.Binomial("k", n=pm.Data("n", [3, 5]), p=p)
        t = pm.Truncated("t", pm.Poisson.dist(3.0), lower=1, upper=4)
        pm.Normal("y", k * t, 2.0, observed=[5.0, 8.0])
        pm.BetaBinomial("unused", 1.0, 2.0, n=2)
    return model


def _bad_parameters_of_one_element() -> pm.Model:
    """A negative standard deviation excludes one value of one element, and of no other."""
    with pm.Model() as model:
        s = pm.Normal("s", 0.0, 1.0, shape=3)
        z = pm.Bernoulli("z", 0.3, shape=3)
        pm.Normal("y", 0.0, pm.math.switch(z, s, 1.0), observed=[1.0, 2.0, 3.0])
    return model


def _chain_beside_an_indicator() -> pm.Model:
    import pymc_extras as pmx

    rng = np.random.default_rng(3)
    with pm.Model() as model:
        steps = pm.Dirichlet("steps", np.ones(3), shape=(3, 3))
        mu = pm.Normal("mu", 0.0, 2.0, shape=3)
        g = pm.Bernoulli("g", 0.3)
        start = pm.Categorical.dist(p=np.array([0.2, 0.3, 0.5]))
        s = pmx.DiscreteMarkovChain("s", P=steps, init_dist=start, shape=(4,))
        pm.Normal("y", mu[s] + g, 1.0, observed=rng.normal(size=4))
    return model


STRUCTURES = {
    "several of one shape": _several_of_one_shape,
    "mixed elements": _mixed_elements,
    "matrix of indices": _matrix_of_indices,
    "other distributions": _other_distributions,
    "bad parameters of one element": _bad_parameters_of_one_element,
    "a chain beside an indicator": _chain_beside_an_indicator,
}
"""Models with few configurations, in many of the ways in which discrete variables are used."""
