"""Other samplers on the targets of `growth`, with default settings."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from counted_calls import CountedFunction
from scipy.special import ndtri

__all__ = ["run_other"]

# Draws of each chain of `pm.sample_smc`, and chains: PyMC's defaults.
SMC_DRAWS, CHAINS = 2_000, 4


def run_other(sampler: str, name: str, function: Any, scale: float, seed: int) -> dict:
    """Run a sampler once.

    Parameters
    ----------
    sampler : {"sample_smc", "nautilus"}
    name : str
        Of the target.
    function : Mixture
        Log density and gradient.
    scale : float
        Standard deviation of the normal prior.
    seed : int
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    cpu, began = time.process_time(), time.monotonic()
    x, weights, log_z, evals = SAMPLERS[sampler](function, scale, seed)
    cost = {"cpu": time.process_time() - cpu, "seconds": time.monotonic() - began}
    k = len(function.weights)
    share = np.bincount(function.component(x), weights / weights.sum(), minlength=k)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    return {
        "name": name,
        "seed": seed,
        "sampler": sampler,
        **cost,
        "peak_mb": peak - before,
        "evals": evals,
        "evals_unscreened": evals,
        "modes": int((share > 0).sum()),
        "of": k,
        "error": float(np.abs(share - function.weights).max()),
        "score": float("nan"),
        "log_z": float(log_z),
        "statuses": [],
    }


def log_prior(x: np.ndarray, scale: float) -> np.ndarray:
    d = x.shape[1]
    out: np.ndarray = -0.5 * np.einsum("ni,ni->n", x, x) / scale**2
    return out - d * np.log(scale) - 0.5 * d * np.log(2 * np.pi)


def nautilus(function: Any, scale: float, seed: int) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Run importance nested sampling; the exploration is discarded, as its authors recommend."""
    from nautilus import Sampler

    def log_likelihood(x: np.ndarray) -> np.ndarray:
        out: np.ndarray = function(x)[0] - log_prior(x, scale)
        return out

    sampler = Sampler(
        lambda u: scale * ndtri(u), log_likelihood, n_dim=function.dim, vectorized=True, seed=seed
    )
    sampler.run(discard_exploration=True)
    x, log_w, _ = sampler.posterior()
    return x, np.exp(log_w - log_w.max()), float(sampler.log_z), int(sampler.n_like)


def sample_smc(function: Any, scale: float, seed: int) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Run PyMC's sequential Monte Carlo."""
    import pymc as pm
    import pytensor.tensor as pt

    counts = [0]

    class Counting(pm.smc.IMH):  # type: ignore[misc,name-defined]
        def _initialize_kernel(self) -> None:
            self.likelihood_logp_func = CountedFunction(self.likelihood_logp_func, counts)
            super()._initialize_kernel()

    with pm.Model():
        x = pm.Normal("x", 0.0, scale, shape=function.dim)
        logs = function.constant + x @ function.linear - 0.5 * (x**2).sum() / function.sd**2
        prior = -0.5 * (x**2).sum() / scale**2 - function.dim * (
            np.log(scale) + 0.5 * np.log(2 * np.pi)
        )
        pm.Potential("mixture", pt.logsumexp(logs) - prior)
        found = pm.sample_smc(
            SMC_DRAWS, kernel=Counting, chains=CHAINS, cores=1, random_seed=seed,
            progressbar=False, compute_convergence_checks=False,
        )  # fmt: skip
    draws = np.asarray(found["posterior"]["x"]).reshape(-1, function.dim)
    return draws, np.ones(len(draws)), float("nan"), counts[0]


SAMPLERS: dict[str, Callable[[Any, float, int], tuple[np.ndarray, np.ndarray, float, int]]] = {
    "nautilus": nautilus,
    "sample_smc": sample_smc,
}
