"""Samplers that take a prior transform and a likelihood in NumPy.

Settings are those that the authors recommend; each function names where.
"""

from __future__ import annotations

import numpy as np
from answers import Answer, Counted
from problems import Problem
from scipy.special import ndtr

# Draws of a variational posterior by which shares are estimated. Conventional.
DRAWS = 20_000


def dynesty(problem: Problem, seed: int, sample: str = "auto") -> Answer:
    """Run static nested sampling with the package's defaults: 500 live points, ellipsoids.

    `sample="auto"` is uniform below 10 dimensions, random walks up to 20, and random slices beyond
    (dynesty's documentation, "Sampling options").
    """
    from dynesty import NestedSampler

    counted = Counted(problem)
    sampler = NestedSampler(
        counted.one,
        counted.from_unit_one,
        problem.dim,
        sample=sample,
        rstate=np.random.default_rng(seed),
    )
    sampler.run_nested(print_progress=False)
    found = sampler.results
    weights = np.exp(found.logwt - found.logz[-1])
    shares = problem.shares(found.samples, weights)
    return Answer(shares, found.logz[-1], found.logzerr[-1], counted.evaluations)


def nautilus(problem: Problem, seed: int) -> Answer:
    """Run importance nested sampling with 2,000 live points; discard the exploration.

    The documentation ("Discussion", "Convergence") recommends that for results that are published;
    the error of log Z is one over the root of the effective sample size.
    """
    from nautilus import Sampler

    counted = Counted(problem)
    sampler = Sampler(
        counted.from_unit,
        counted.log_likelihood,
        n_dim=problem.dim,
        vectorized=True,
        seed=seed,
    )
    sampler.run(discard_exploration=True)
    theta, log_w, _ = sampler.posterior()
    shares = problem.shares(theta, np.exp(log_w - log_w.max()))
    return Answer(shares, sampler.log_z, sampler.n_eff**-0.5, counted.evaluations)


class UnitCube:
    """Uniform prior on the unit cube, as pocoMC asks for it."""

    def __init__(self, dim: int, seed: int) -> None:
        self.dim = dim
        self.bounds = np.tile([0.0, 1.0], (dim, 1))
        self._rng = np.random.default_rng(seed)

    def logpdf(self, u: np.ndarray) -> np.ndarray:
        return np.where(np.all((u > 0) & (u < 1), axis=1), 0.0, -np.inf)

    def rvs(self, size: int = 1) -> np.ndarray:
        return self._rng.random((size, self.dim))


def pocomc(problem: Problem, seed: int) -> Answer:
    """Preconditioned Monte Carlo with the package's defaults."""
    from pocomc import Sampler

    counted = Counted(problem)
    sampler = Sampler(
        UnitCube(problem.dim, seed), counted.of_unit, vectorize=True, random_state=seed
    )
    sampler.run(progress=False)
    u, weights, _, _ = sampler.posterior()
    log_z, log_z_se = sampler.evidence()
    error = np.nan if log_z_se is None else float(log_z_se)
    shares = problem.shares(problem.from_unit(u), weights)
    return Answer(shares, float(log_z), error, counted.evaluations)


# Dimension beyond which UltraNest's tutorial "Higher-dimensional fitting" takes a step sampler.
STEP_SAMPLER_DIM = 10


def ultranest(problem: Problem, seed: int) -> Answer:
    """Reactive nested sampling with the package's defaults.

    In more than ten dimensions slices along mixed directions, with two steps for each coordinate,
    as the tutorial "Higher-dimensional fitting" begins.
    """
    from ultranest import ReactiveNestedSampler
    from ultranest.stepsampler import SliceSampler, generate_mixture_random_direction

    np.random.seed(seed)  # noqa: NPY002  # UltraNest takes no generator.
    counted = Counted(problem)
    names = [f"p{i}" for i in range(problem.dim)]
    sampler = ReactiveNestedSampler(
        names, counted.log_likelihood, counted.from_unit, vectorized=True
    )
    if problem.dim > STEP_SAMPLER_DIM:
        sampler.stepsampler = SliceSampler(
            nsteps=2 * problem.dim, generate_direction=generate_mixture_random_direction
        )
    found = sampler.run(show_status=False, viz_callback=False)
    weighted = found["weighted_samples"]
    shares = problem.shares(np.array(weighted["points"]), np.array(weighted["weights"]))
    return Answer(shares, found["logz"], found["logzerr"], counted.evaluations)


def pyvbmc(problem: Problem, seed: int) -> Answer:
    """Variational Bayesian Monte Carlo with its defaults, on the prior's normal scores."""
    from pyvbmc import VBMC

    counted, dim = Counted(problem), problem.dim
    np.random.seed(seed)  # noqa: NPY002  # PyVBMC takes no generator.
    inner, outer = np.full((1, dim), 1.5), np.full((1, dim), np.inf)
    run = VBMC(
        counted.of_scores,
        np.zeros((1, dim)),
        -outer,
        outer,
        -inner,
        inner,
        options={"display": "off"},
    )
    posterior, found = run.optimize()
    draws, _ = posterior.sample(DRAWS)
    shares = problem.shares(problem.from_unit(ndtr(draws)))
    told = () if found["success_flag"] else (str(found["convergence_status"]),)
    return Answer(shares, found["elbo"], found["elbo_sd"], counted.evaluations, told)


# Temperatures, walkers and sweeps of the reference, section 4; at least four walkers a coordinate.
TEMPERATURES, WALKERS, WALKERS_PER_DIM, SWEEPS = 10, 100, 4, 2_000


def reddemcee(problem: Problem, seed: int) -> Answer:
    """Adaptive parallel tempering of ensembles (Pena and Jenkins 2026, arXiv:2509.24870).

    Half of the sweeps are discarded. The walkers move in the unit cube of prior probabilities.
    """
    from reddemcee import PTSampler

    counted, dim = Counted(problem), problem.dim
    walkers = max(WALKERS, WALKERS_PER_DIM * dim)

    def log_prior(u: np.ndarray) -> float:
        return 0.0 if np.all((u > 0) & (u < 1)) else -np.inf

    def log_likelihood(u: np.ndarray) -> float:
        return float(counted.of_unit(u[None])[0]) if np.all((u > 0) & (u < 1)) else -1e300

    sampler = PTSampler(walkers, dim, log_likelihood, log_prior, ntemps=TEMPERATURES)
    sampler._random.seed(seed)
    start = np.random.default_rng(seed).random((TEMPERATURES, walkers, dim))
    sampler.run_mcmc(start, nsweeps=SWEEPS, nsteps=1, progress=False)
    cold = sampler.get_chain(discard=SWEEPS // 2)[0].reshape(-1, dim)
    log_z, log_z_se = sampler.get_evidence_hybrid(discard=SWEEPS // 2)[:2]
    shares = problem.shares(problem.from_unit(cold))
    return Answer(shares, float(log_z), float(log_z_se), counted.evaluations)
