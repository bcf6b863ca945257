"""Checks of a model that is compiled with JAX; run as a script, in a process of its own.

Once JAX is imported, PyMC's processes that are made by fork warn in every later test.
"""

from __future__ import annotations

import logging

import numpy as np
import pymc as pm
import pytest
from threadpoolctl import threadpool_limits

import pymc_multimodal as mm
from pymc_multimodal.model import density_of


def pair():
    """Two normals in two dimensions."""
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 3.0, shape=2)
        modes = [-5.0 * pm.math.sum((x - at) ** 2) for at in (2.0, -2.5)]
        pm.Potential("modes", pm.math.logsumexp(pm.math.stack(modes)))
    return model


def values_are_those_of_numba():
    """Batches of any size give the values of the other compiler."""
    numba, jax = (density_of(pair(), compile_kwargs={"mode": m}) for m in ("NUMBA", "JAX"))
    rng = np.random.default_rng(0)
    for n in (1, 7, 8, 9, 600, 5000):
        x = 2.0 * rng.standard_normal((n, 2))
        expected, found = numba.logp_and_grad(x), jax.logp_and_grad(x)
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(jax.values(x), expected[0], rtol=1e-12)
    assert len(jax.logp(np.empty((0, 2)))) == 0
    # Shapes that XLA has compiled: one for each size, whatever was asked for.
    assert jax.function.function.sizes[-1] == 8


def a_fit_is_right(model):
    """The weights are those of the two normals under the prior."""
    with model:
        step = mm.MultimodalDiffusion(
            compile_kwargs={"mode": "JAX"}, random_seed=1, progressbar=False, quiet=True
        )
    fit = step.fit
    first = fit.modes.locations[:, 0]
    # Each normal keeps its precision of 10 and gets that of the prior, 1 / 9.
    log_mass = -0.5 * 2 * np.array([2.0, -2.5]) ** 2 / (0.1 + 9.0)
    expected = np.exp(log_mass - np.logaddexp(*log_mass))
    found = fit.weights.weight[[np.argmax(first), np.argmin(first)]]
    np.testing.assert_array_less(abs(found - expected), 4 * fit.weights.weight_se.max())
    return step


def a_fork_is_refused(model, step):
    """A chain in a process that was made by fork raises, and does not hang."""
    with model, pytest.raises(Exception, match="made by fork"):
        pm.sample(20, tune=0, step=step, chains=2, cores=2, mp_ctx="fork", progressbar=False)


def one_process_draws(model, step):
    """Chains in one process run."""
    with model:
        idata = pm.sample(20, tune=0, step=step, chains=2, cores=1, progressbar=False)
    assert idata["posterior"]["x"].shape == (2, 20, 2)


if __name__ == "__main__":
    logging.getLogger("pymc").setLevel(logging.ERROR)
    with threadpool_limits(1):
        values_are_those_of_numba()
        model = pair()
        fitted = a_fit_is_right(model)
        one_process_draws(model, fitted)
        a_fork_is_refused(model, fitted)
    print("passed")
