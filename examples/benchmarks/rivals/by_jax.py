"""Samplers in JAX, on the unconstrained coordinates of a PyMC model."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pymc as pm
from answers import Answer
from by_model import parameters_of
from problems import Problem
from pymc.sampling.jax import get_jaxified_graph

from pymc_multimodal.model.build import density_of

jax.config.update("jax_enable_x64", True)

# Live points, those replaced at a time, and slices of a replacement for each coordinate: the
# authors' paper (arXiv:2601.23252, section 4) and the docstring of `blackjax.nss`.
LIVE, REPLACED, SLICES, FEWEST_SLICES = 1_000, 100, 2, 5
# Log of the part of the evidence that live points may still hold when a run ends. As the authors.
LEFT = -3.0


def split(model: pm.Model) -> tuple[Callable, Callable]:
    """Return log prior, with Jacobians, and log likelihood of unconstrained points (d,)."""
    shapes = [np.shape(v) for v in model.initial_point().values()]
    splits = np.cumsum([int(np.prod(s)) for s in shapes])[:-1]
    observed = [*model.observed_RVs, *model.potentials]
    prior, likelihood = (
        get_jaxified_graph(model.value_vars, [model.logp(vars=vars_)])
        for vars_ in (model.free_RVs, observed)
    )

    def on_vector(function: Callable) -> Callable:
        def value(x):
            parts = [p.reshape(s) for p, s in zip(jnp.split(x, splits), shapes, strict=True)]
            return function(*parts)[0]

        return value

    return on_vector(prior), on_vector(likelihood)


def blackjax_nss(problem: Problem, seed: int) -> Answer:
    """Nested slice sampling with a thousand live points."""
    import blackjax
    from blackjax.ns.utils import finalise, log_weights

    model = problem.model()
    log_prior, log_likelihood = split(model)
    start = density_of(model).prior_draws(LIVE, np.random.default_rng(seed))
    sampler = blackjax.nss(
        logprior_fn=log_prior,
        loglikelihood_fn=log_likelihood,
        num_inner_steps=max(FEWEST_SLICES, SLICES * problem.dim),
        num_delete=REPLACED,
    )
    key = jax.random.key(seed)
    state, step, dead, evaluations = sampler.init(jnp.asarray(start)), jax.jit(sampler.step), [], 0
    while float(state.integrator.logZ_live - state.integrator.logZ) > LEFT:
        key, own = jax.random.split(key)
        state, info = step(own, state)
        moves = info.update_info
        # Both ends of a slice are looked at, then expansions and shrinkages.
        evaluations += int((moves.num_expansions + moves.num_shrink + 2).sum())
        dead.append(info._replace(update_info=None))
    found = finalise(state, dead, update_info=False)
    log_w = np.asarray(log_weights(key, found, shape=100))
    totals = np.logaddexp.reduce(np.where(np.isfinite(log_w), log_w, -np.inf), axis=0)
    mean = log_w.mean(axis=1)
    weights = np.exp(mean - mean.max())
    theta = parameters_of(model, problem)(np.asarray(found.particles.position))
    shares = problem.shares(theta, np.where(np.isfinite(weights), weights, 0.0))
    return Answer(shares, float(totals.mean()), float(totals.std()), evaluations + LIVE)
