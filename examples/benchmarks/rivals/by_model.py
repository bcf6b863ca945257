"""Samplers of PyMC models, and importance sampling from Laplace approximations of the modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
from answers import Answer
from counted_calls import CountedFunction
from problems import Problem
from scipy.optimize import minimize
from scipy.special import logsumexp
from scipy.stats import multivariate_t

import pymc_multimodal as mm
from pymc_multimodal._compat import rhat
from pymc_multimodal.challenge import Reference, TemperedSettings
from pymc_multimodal.challenge import tempered_smc as smc
from pymc_multimodal.model.build import density_of
from pymc_multimodal.search import ModeSearch, start_distribution

# Draws and chains of `pm.sample_smc` and of nutpie. PyMC's number of chains, and its draws for SMC.
SMC_DRAWS, CHAINS = 2_000, 4
# R-hat of an event, or of a coordinate, from which a user is warned. As PyMC does.
R_HAT = 1.01


def flat(posterior: Any, names: tuple[str, ...]) -> np.ndarray:
    """Return draws of some variables side by side, shape (chains, draws, d)."""
    values = [np.asarray(posterior[name].values) for name in names]
    return np.concatenate([v.reshape(*v.shape[:2], -1) for v in values], axis=2)


def told_by_r_hat(theta: np.ndarray) -> tuple[str, ...]:
    """Return a warning where chains (c, n, d) disagree."""
    return ("r_hat",) if np.nanmax(rhat(theta)) > R_HAT else ()


def parameters_of(model: pm.Model, problem: Problem) -> Callable[[np.ndarray], np.ndarray]:
    """Return the map from unconstrained coordinates (n, d) to parameters (n, d)."""
    named = {v.name: v for v in model.unobserved_value_vars}
    compiled = pm.compile(model.value_vars, [named[name].ravel() for name in problem.variables])
    shapes = [np.shape(v) for v in model.initial_point().values()]
    splits = np.cumsum([int(np.prod(s)) for s in shapes])[:-1]

    def parameters(x: np.ndarray) -> np.ndarray:
        rows = []
        for row in x:
            parts = [p.reshape(s) for p, s in zip(np.split(row, splits), shapes, strict=True)]
            rows.append(np.concatenate(compiled(*parts)))
        return np.array(rows)

    return parameters


# Draws of all regions by which this package's shares are estimated, and the fewest of a region.
# Conventional: the weights' errors are to matter, not those of draws within a region.
MOST_ROWS, FEWEST_ROWS = 40_000, 500


def pymc_multimodal(problem: Problem, seed: int) -> Answer:
    """Fit with default settings; shares by the weights of the regions and the draws within each."""
    model, rng = problem.model(), np.random.default_rng(seed)
    fit = mm.fit(model, random_seed=seed, progressbar=False, **problem.settings)
    told = tuple(sorted({s.code for s in fit.statuses if s.level == "warning"}))
    if fit.units is not None:
        idata = mm.sample(SMC_DRAWS, model=model, fit=fit, random_seed=seed, progressbar=False)
        theta = flat(idata["posterior"], problem.variables)
        shares = problem.shares(theta.reshape(-1, problem.dim))
    else:
        parameters, shares = parameters_of(model, problem), np.zeros(len(problem.truth))
        most = max(FEWEST_ROWS, MOST_ROWS // fit.n_modes)
        for k in range(fit.n_modes):
            x = fit.local_draws(k)
            x = x[np.linspace(0, len(x) - 1, min(len(x), most)).astype(int)]
            if fit.orbits is not None and not fit.orbits.listed:
                x = fit.orbits.cells.scatter(x, rng)
            shares += fit.weights.weight[k] * problem.shares(parameters(x))
    weights = fit.weights
    share_se = float(np.max(weights.weight_se))
    return Answer(shares, weights.total, weights.total_se, fit.n_logp_evals, told, share_se)


def sample_smc(problem: Problem, seed: int, kernel: str) -> Answer:
    """PyMC's sequential Monte Carlo with default settings; the log evidence is a mean of chains."""
    counts = [0]

    class Counting(getattr(pm.smc, kernel)):  # type: ignore[misc]
        def _initialize_kernel(self) -> None:
            self.likelihood_logp_func = CountedFunction(self.likelihood_logp_func, counts)
            super()._initialize_kernel()

    with problem.model():
        found = pm.sample_smc(
            SMC_DRAWS, kernel=Counting, chains=CHAINS, cores=1, random_seed=seed,
            progressbar=False, compute_convergence_checks=False,
        )  # fmt: skip
    theta = flat(found["posterior"], problem.variables)
    values = np.asarray(found["sample_stats"]["log_marginal_likelihood"], dtype=object)
    # Chains with different numbers of stages are lists, whatever the dimensions are called.
    lists = values.ravel() if isinstance(values.flat[0], list) else values.reshape(CHAINS, -1)
    stages = [np.array(chain, dtype=float) for chain in lists]
    log_z = [v[np.isfinite(v)][-1] for v in stages]
    shares = problem.shares(theta.reshape(-1, problem.dim))
    error = float(np.std(log_z, ddof=1) / np.sqrt(CHAINS))
    return Answer(shares, float(np.mean(log_z)), error, counts[0], told_by_r_hat(theta))


def nutpie(problem: Problem, seed: int) -> Answer:
    """NUTS in Rust with default settings, four chains."""
    import nutpie

    compiled = nutpie.compile_pymc_model(problem.model())
    found = nutpie.sample(
        compiled, chains=CHAINS, cores=1, seed=seed, progress_bar=False, save_warmup=True
    )
    theta = flat(found["posterior"], problem.variables)
    groups = [found["sample_stats"], found["warmup_sample_stats"]]
    evaluations = int(sum(np.asarray(g["n_steps"]).sum() for g in groups))
    shares = problem.shares(theta.reshape(-1, problem.dim))
    return Answer(shares, np.nan, np.nan, evaluations, told_by_r_hat(theta))


# Tempered SMC: populations, particles of each, and the best of six settings of the moves, tried on
# two modes in 8 and 32 dimensions.
ISLANDS, PARTICLES = 4, 1_000
MOVES = TemperedSettings(moves=5, steps=3, keep=0.9, max_temperatures=1_000)


def tempered_smc(problem: Problem, seed: int) -> Answer:
    """Sequential Monte Carlo from a wide reference with Hamiltonian moves, four populations."""
    model, rng = problem.model(), np.random.default_rng(seed)
    density = density_of(model)
    starts = start_distribution(density, ModeSearch(), rng)
    reference = Reference(starts.centre, starts.spread, density.period)
    ends = smc(density, reference, ISLANDS, PARTICLES, rng, settings=MOVES)
    log_z = np.array([logsumexp(ends.log_weight[ends.island == i]) for i in range(ISLANDS)])
    weights = np.exp(ends.log_weight - ends.log_weight.max())
    shares = problem.shares(parameters_of(model, problem)(ends.x), weights)
    error = float(np.exp(log_z - log_z.max()).std(ddof=1) / np.exp(log_z - log_z.max()).mean())
    total = float(logsumexp(log_z) - np.log(ISLANDS))
    return Answer(shares, total, error / np.sqrt(ISLANDS), density.n_logp_evals)


# Importance sampling from Laplace approximations: starts at draws of the prior, the part of a
# standard deviation within which two ends are one mode, degrees of freedom, draws. Conventional.
STARTS, SAME, FREEDOM, LAPLACE_DRAWS = 200, 0.5, 5.0, 20_000
# Part of the draws that is to be effective before an answer is given without a warning, and the
# step of differences of the gradient. Conventional.
LEAST_EFFECTIVE, STEP = 0.01, 1e-4


def laplace(problem: Problem, seed: int) -> Answer:
    """Sample from Student-t densities at the modes that climbs from the prior find; weigh."""
    model, rng = problem.model(), np.random.default_rng(seed)
    density = density_of(model)

    def down(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = (v[0] for v in density.logp_and_grad(x[None]))
        return (-value, -gradient) if np.isfinite(value) else (1e300, np.zeros(len(x)))

    modes: list[tuple[np.ndarray, np.ndarray, float]] = []
    for start in density.prior_draws(STARTS, rng):
        end = minimize(down, start, jac=True, method="L-BFGS-B")
        if any(np.sum(np.linalg.solve(f, end.x - m) ** 2) < SAME**2 * len(m) for m, f, _ in modes):
            continue
        steps = STEP * np.eye(problem.dim)
        rows = [(down(end.x + s)[1] - down(end.x - s)[1]) / (2 * STEP) for s in steps]
        hessian = 0.5 * (np.array(rows) + np.array(rows).T)
        values, vectors = np.linalg.eigh(hessian)
        if not np.all(np.isfinite(values)) or values.min() <= 0:
            continue
        factor = vectors / np.sqrt(values)
        modes.append((end.x, factor, float(-end.fun - 0.5 * np.log(values).sum())))
    if not modes:
        return Answer(
            np.full(len(problem.truth), np.nan), np.nan, np.nan, density.n_logp_evals, ("none",)
        )
    weight = np.exp(np.array([m[2] for m in modes]) - logsumexp([m[2] for m in modes]))
    parts = [multivariate_t(m, f @ f.T, FREEDOM, allow_singular=True) for m, f, _ in modes]
    labels = rng.choice(len(modes), LAPLACE_DRAWS, p=weight)
    x = np.empty((LAPLACE_DRAWS, problem.dim))
    for k, part in enumerate(parts):
        n = int((labels == k).sum())
        x[labels == k] = part.rvs(n, random_state=rng).reshape(n, problem.dim)
    log_q = logsumexp([np.log(w) + p.logpdf(x) for w, p in zip(weight, parts, strict=True)], axis=0)
    log_w = density.logp(x) - log_q
    log_w = np.where(np.isfinite(log_w), log_w, -np.inf)
    log_z = float(logsumexp(log_w) - np.log(LAPLACE_DRAWS))
    w = np.exp(log_w - logsumexp(log_w))
    effective = 1.0 / np.sum(w**2)
    told = () if effective > LEAST_EFFECTIVE * LAPLACE_DRAWS else ("effective size",)
    error = float(np.sqrt(max(1 / effective - 1 / LAPLACE_DRAWS, 0.0)))
    shares = problem.shares(parameters_of(model, problem)(x), w)
    return Answer(shares, log_z, error, density.n_logp_evals, told)
