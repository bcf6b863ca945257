"""Samplers in JAX, mostly on the unconstrained coordinates of a PyMC model."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pymc as pm
from answers import Answer
from by_model import parameters_of
from problems import Problem
from pymc.model.transform.conditioning import remove_value_transforms
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


# Populations, particles and steps of persistent sampling. blackjax' defaults of
# `adaptive_persistent_sampling` are a target of three effective populations and ten steps; in more
# dimensions a random walk gets a step for each coordinate. Four populations give the error.
POPULATIONS, PARTICLES, EFFECTIVE, FEWEST_STEPS, MOST_TEMPERATURES = 4, 1_000, 3.0, 10, 300
# Scale of random walks in units of the particles' deviations, times the root of the dimension, and
# the acceptance that it is brought to (Karamanis and Seljak 2025, arXiv:2407.20722).
WALK, ACCEPTED = 2.38, 0.234


def persistent_smc(problem: Problem, seed: int) -> Answer:
    """Run persistent sampling with random walks that have the particles' covariance."""
    from blackjax.mcmc import random_walk
    from blackjax.smc import adaptive_persistent_sampling, persistent_sampling, resampling

    model, dim = problem.model(), problem.dim
    log_prior, log_likelihood = split(model)
    walk = random_walk.build_additive_step()

    def step(key, state, log_density, factor):
        def jump(key, position):
            return factor @ jax.random.normal(key, jnp.shape(position))

        return walk(key, state, log_density, jump)

    steps = max(FEWEST_STEPS, dim)
    kernel = adaptive_persistent_sampling.build_kernel(
        log_prior, log_likelihood, step, random_walk.init, resampling.systematic, EFFECTIVE
    )
    advance = jax.jit(lambda key, state, factor: kernel(key, state, steps, {"factor": factor}))
    starts, key = density_of(model), jax.random.key(seed)
    rng = np.random.default_rng(seed)
    log_z, shares, evaluations = [], [], 0
    for _ in range(POPULATIONS):
        start = jnp.asarray(starts.prior_draws(PARTICLES, rng))
        state = persistent_sampling.init(start, log_likelihood, MOST_TEMPERATURES)
        evaluations += PARTICLES
        scale = WALK / np.sqrt(dim)
        while float(state.tempering_param) < 1.0 and int(state.iteration) < MOST_TEMPERATURES:
            weights = np.asarray(state.persistent_weights).ravel()
            points = np.asarray(state.persistent_particles).reshape(-1, dim)
            covariance = np.atleast_2d(np.cov(points, rowvar=False, aweights=weights))
            factor = np.linalg.cholesky(covariance + 1e-12 * np.trace(covariance) * np.eye(dim))
            key, own = jax.random.split(key)
            state, info = advance(own, state, jnp.asarray(scale * factor)[None])
            scale *= float(np.exp(np.mean(info.update_info.acceptance_rate) - ACCEPTED))
            evaluations += PARTICLES * steps
        used = persistent_sampling.remove_padding(state)
        log_z.append(float(used.log_Z))
        points = np.asarray(used.persistent_particles).reshape(-1, dim)
        theta = parameters_of(model, problem)(points)
        shares.append(problem.shares(theta, np.asarray(used.persistent_weights).ravel()))
    told = () if float(state.tempering_param) == 1.0 else ("temperatures",)
    error = float(np.std(log_z, ddof=1) / np.sqrt(POPULATIONS))
    return Answer(np.mean(shares, axis=0), float(np.mean(log_z)), error, evaluations, told)


# Step and number of steps of a trajectory, for which `sample_smc_blackjax` has no default: those
# of its authors' tests. Its other defaults are 2,000 particles and ten trajectories a stage.
HAMILTONIAN = {"step_size": 0.1, "integration_steps": 11}


def extras_smc(problem: Problem, seed: int) -> Answer:
    """Sequential Monte Carlo with Hamiltonian moves of pymc-extras (one population, no error)."""
    from pymc_extras.inference.smc import sampling

    # Version 0.10 records particles in a way that PyMC 5.28 refuses; they are kept as they are.
    kept = SimpleNamespace(attrs={}, particles=None)

    def keep(_: pm.Model, particles: list) -> SimpleNamespace:
        kept.particles = np.concatenate([np.reshape(p, (len(p), -1)) for p in particles], axis=1)
        return SimpleNamespace(posterior=kept)

    sampling.arviz_from_particles = keep
    model = problem.model()
    sampling.sample_smc_blackjax(
        model=model, random_seed=seed, kernel="HMC", inner_kernel_params=HAMILTONIAN
    )
    attributes = kept.attrs
    stages = int(attributes["iterations"])
    moves = attributes["particles"] * attributes["num_mcmc_steps"]
    evaluations = stages * moves * (HAMILTONIAN["integration_steps"] + 1)
    increments = np.asarray(attributes["log_likelihood_increments"])
    told = () if stages <= len(increments) else ("iterations",)
    # Its posterior leaves out the weights of the last stage: it is that of a temperature before.
    weights = np.asarray(attributes["weights_evolution"])[min(stages, len(increments)) - 1]
    theta = parameters_of(model, problem)(kept.particles)
    log_z = float(increments[:stages].sum())
    return Answer(problem.shares(theta, weights), log_z, np.nan, int(evaluations), told)


def jaxns(problem: Problem, seed: int) -> Answer:
    """Phantom-conditioned nested sampling with the package's defaults (README, "Quick start")."""
    from jaxns.core import NestedSampler
    from jaxns.model import Model
    from jaxns.priors import Prior
    from tensorflow_probability.substrates import jax as tfp

    plain = remove_value_transforms(problem.model())
    shapes = [np.shape(v) for v in plain.initial_point().values()]
    splits = np.cumsum([int(np.prod(s)) for s in shapes])[:-1]
    observed = [*plain.observed_RVs, *plain.potentials]
    graph = get_jaxified_graph(plain.value_vars, [plain.logp(vars=observed)])

    def prior_model():
        zeros = jnp.zeros(problem.dim)
        u = Prior(tfp.distributions.Uniform(zeros, zeros + 1.0), name="u").realise()
        theta = problem.from_unit(u[None], jnp)[0]
        parts = [p.reshape(s) for p, s in zip(jnp.split(theta, splits), shapes, strict=True)]
        return graph(*parts)[0]

    sampler = NestedSampler(model=Model(prior_model=prior_model), collect_phantom_samples=True)
    found = sampler.run(key=jax.random.key(seed)).to_result().trim()
    log_w = np.asarray(found.log_dp)
    weights = np.exp(log_w - log_w.max())
    theta = problem.from_unit(np.asarray(found.X_samples["u"]))
    told = () if int(found.termination_reason) == 0 else ("ended early",)
    return Answer(
        problem.shares(theta, weights), float(found.log_Z_mean), float(found.log_Z_uncert),
        int(found.total_num_likelihood_evaluations), told,
    )  # fmt: skip
