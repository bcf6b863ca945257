"""Simulation-based calibration of two PyMC models whose posteriors have several modes.

Parameters are drawn from the prior, data given the parameters, and draws from the posterior. The
rank of a function of the parameters among its values at the draws is then uniform (Talts et al.,
arXiv 1804.06788, Theorem 1). Each model is one graph with its data as input, compiled once. One
JSON line is written per simulation, and simulations that the file already holds are left out.
Run it with::

    python examples/benchmarks/sbc.py --simulations 200 --out sbc.jsonl
    python examples/benchmarks/sbc.py --out sbc.jsonl --report
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pymc as pm
from calibration import NETWORK_STEPS, TARGET_SE, generator_of
from calibration_report import table
from scipy.special import expit, logit
from scipy.stats import chisquare
from weights import Runs

from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.model.build import density_of
from pymc_multimodal.target.density import Density

sys.path.append(str(Path(__file__).resolve().parents[1] / "papers"))
from common import corrected_draws

# Posterior draws per simulation: 100 possible ranks of a true value, in bins of ten.
CHAINS, DRAWS, THIN, BINS = 9, 11, 10, 10


@dataclass(frozen=True)
class Simulated:
    """A model with a prior and data that can be drawn.

    Attributes
    ----------
    build : callable
        Makes the `pymc.Model`, with its data in ``pm.Data("y", ...)``.
    prior : callable
        ``prior(rng)``: one draw in the unconstrained space, shape (d,).
    data : callable
        ``data(x, rng)``: data given the parameters.
    functions : dict of callables
        Functions of unconstrained rows, shape (n, d), whose ranks are taken.
    """

    build: Callable[[], pm.Model]
    prior: Callable[[np.random.Generator], np.ndarray]
    data: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    functions: dict[str, Callable[[np.ndarray], np.ndarray]]


# ------------------------------------------------------------------ theta up to its sign

SIGN_SIZE, SIGN_MEAN, SIGN_SD = 5, 0.5, 2.0


def sign_model() -> pm.Model:
    """Observe ``y ~ N(|theta|, s)``; the prior prefers one sign, so the weights are unequal."""
    with pm.Model() as model:
        y = pm.Data("y", np.zeros(SIGN_SIZE))
        theta = pm.Normal("theta", SIGN_MEAN, SIGN_SD)
        s = pm.LogNormal("s", -0.5, 0.5)
        pm.Normal("observed", pm.math.abs(theta), s, observed=y)
    return model


def sign_prior(rng):
    return np.array([rng.normal(SIGN_MEAN, SIGN_SD), rng.normal(-0.5, 0.5)])


def sign_data(x, rng):
    return rng.normal(np.abs(x[0]), np.exp(x[1]), SIGN_SIZE)


# ------------------------------------------------------------------ two components

MIXTURE_SIZE = 40


def mixture_model() -> pm.Model:
    """Observe a mixture of two normals with equal priors: labels may be switched."""
    with pm.Model() as model:
        y = pm.Data("y", np.zeros(MIXTURE_SIZE))
        mu = pm.Normal("mu", 0.0, 3.0, shape=2)
        share = pm.Beta("share", 2.0, 2.0)
        s = pm.LogNormal("s", 0.0, 0.3)
        parts = pm.Normal.dist(mu, s, shape=2)
        pm.Mixture("observed", [share, 1 - share], parts, observed=y)
    return model


def mixture_prior(rng):
    share = logit(rng.beta(2.0, 2.0))
    return np.array([*rng.normal(0.0, 3.0, 2), share, rng.normal(0.0, 0.3)])


def mixture_data(x, rng):
    first = rng.random(MIXTURE_SIZE) < expit(x[2])
    return rng.normal(np.where(first, x[0], x[1]), np.exp(x[3]))


def share_of_lower(x):
    return np.where(x[:, 0] < x[:, 1], expit(x[:, 2]), expit(-x[:, 2]))


MODELS = {
    "sign": Simulated(
        sign_model,
        sign_prior,
        sign_data,
        {
            "theta": lambda x: x[:, 0],
            "size of theta": lambda x: np.abs(x[:, 0]),
            "s": lambda x: x[:, 1],
        },
    ),
    "mixture": Simulated(
        mixture_model,
        mixture_prior,
        mixture_data,
        {
            "lower mean": lambda x: x[:, :2].min(axis=1),
            "upper mean": lambda x: x[:, :2].max(axis=1),
            "share of lower": share_of_lower,
            "s": lambda x: x[:, 3],
        },
    ),
}


# ------------------------------------------------------------------ the experiment


def simulate(name: str, model: pm.Model, density: Density, seed: int, target_se: float) -> dict:
    """Draw parameters and data, fit, draw, and rank."""
    began = time.process_time()
    spec = MODELS[name]
    rng = np.random.default_rng([seed, 31])
    truth = spec.prior(rng)
    with model:
        pm.set_data({"y": spec.data(truth, rng)})
    generator = generator_of("hybrid", NETWORK_STEPS)
    config = FitConfig(generator=generator, target_se=target_se, random_seed=seed)
    fit = fit_density(density, config)
    x, acceptance = corrected_draws(density, fit, DRAWS, CHAINS, rng, thin=THIN, skip=1)
    x = x.reshape(-1, density.dim)
    ranks = {key: int((f(x) < f(truth[None])).sum()) for key, f in spec.functions.items()}
    return {
        "model": name,
        "seed": seed,
        "target_se": target_se,
        "ranks": ranks,
        "regions": fit.n_modes,
        "warnings": sorted({s.code for s in fit.statuses if s.level == "warning"}),
        "acceptance": round(acceptance, 3),
        "cpu": round(time.process_time() - began, 2),
    }


def histogram(ranks: list[int]) -> np.ndarray:
    """Count ranks in equal bins."""
    return np.bincount(np.array(ranks) * BINS // (CHAINS * DRAWS + 1), minlength=BINS)


def report(runs: list[dict]) -> str:
    """Rank histogram of each function with its chi-square test, as reStructuredText."""
    rows = []
    for name, spec in MODELS.items():
        mine = [r for r in runs if r["model"] == name]
        for key in spec.functions if mine else ():
            counts = histogram([r["ranks"][key] for r in mine])
            test = chisquare(counts)
            several = sum(r["regions"] > 1 for r in mine)
            warned = sum(bool(r["warnings"]) for r in mine)
            rows.append([
                name, key, len(mine), several, warned, " ".join(map(str, counts)),
                f"{test.statistic:.1f}", f"{test.pvalue:.2f}",
            ])  # fmt: skip
    head = ["model", "function", "simulations", "several regions", "warned", "counts of ranks",
            "chi-square", "p"]  # fmt: skip
    return table(head, rows)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS), help="comma separated names")
    parser.add_argument("--simulations", type=int, default=200, help="of each model")
    parser.add_argument("--target-se", type=float, default=TARGET_SE)
    parser.add_argument("--out", type=Path, help="JSON lines to append to, and to take up again")
    parser.add_argument("--report", action="store_true", help="only print the table of --out")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    runs = Runs(options.out)
    done = {(r["model"], r["seed"], r["target_se"]) for r in runs}
    for name in [] if options.report else options.models.split(","):
        seeds = range(options.simulations)
        seeds = [s for s in seeds if (name, s, options.target_se) not in done]
        model = MODELS[name].build() if seeds else None
        density = density_of(model) if seeds else None
        for seed in seeds:
            runs.keep(simulate(name, model, density, seed, options.target_se))
    print(report(runs))


if __name__ == "__main__":
    main()
