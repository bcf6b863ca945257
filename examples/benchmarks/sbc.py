"""Simulation-based calibration of four PyMC models whose posteriors have several modes.

Parameters are drawn from the prior, data given the parameters, and draws from the posterior. The
rank of a function of the parameters among its values at the draws is then uniform (Talts et al.,
arXiv 1804.06788, Theorem 1). The rank among equal values is drawn at random. Each model is one
graph with its data as input, compiled once. One JSON line is written per simulation; simulations
that the file already holds are left out.
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
from dataclasses import dataclass, field
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
from pymc_multimodal.model import MarginalModel, marginal_of
from pymc_multimodal.model.build import density_of
from pymc_multimodal.target import Density, Structure

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
        ``prior(rng)``: one draw in the unconstrained space, shape (d,), with the discrete variables
        in their places.
    data : callable
        ``data(x, rng)``: data given the parameters.
    functions : dict of callables
        Functions of unconstrained rows, shape (n, d), whose ranks are taken.
    settings : dict
        Further settings of the fit.
    """

    build: Callable[[], pm.Model]
    prior: Callable[[np.random.Generator], np.ndarray]
    data: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    functions: dict[str, Callable[[np.ndarray], np.ndarray]]
    settings: dict = field(default_factory=dict)


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


# ------------------------------------------------------------------ units with two explanations

UNITS, BORDER, SEEN_SD = 8, 1.2, 0.1


def units_model() -> pm.Model:
    """Observe the distances of rates from a border; the rates share a mean and a spread."""
    with pm.Model() as model:
        y = pm.Data("y", np.zeros(UNITS))
        mu, tau = pm.Normal("mu", 1.0, 0.5), pm.LogNormal("tau", -0.5, 0.3)
        z = pm.Normal("z", 0.0, 1.0, shape=UNITS)
        pm.Normal("seen", pm.math.abs(mu + tau * z - BORDER), SEEN_SD, observed=y)
    return model


def units_prior(rng):
    hubs = rng.normal([1.0, -0.5], [0.5, 0.3])
    return np.concatenate([hubs, rng.standard_normal(UNITS)])


def rates(x):
    return x[..., :1] + np.exp(x[..., 1:2]) * x[..., 2:]


def units_data(x, rng):
    return np.abs(rates(x) - BORDER) + SEEN_SD * rng.standard_normal(UNITS)


# ------------------------------------------------------------------ discrete variables

STEPS, GAINS, GAIN_SHARES = 12, np.array([1.0, -0.7, 2.0]), np.array([0.4, 0.4, 0.2])


def discrete_model() -> pm.Model:
    """Observe a level that changes once, by one of three instruments: both are unknown."""
    with pm.Model() as model:
        y = pm.Data("y", np.zeros(STEPS))
        level = pm.Normal("level", 1.0, 2.0, shape=2)
        s = pm.LogNormal("s", -0.5, 0.5)
        change = pm.DiscreteUniform("change", 1, STEPS - 1)
        instrument = pm.Categorical("instrument", p=GAIN_SHARES)
        gain = pm.math.switch(
            pm.math.eq(instrument, 0), GAINS[0],
            pm.math.switch(pm.math.eq(instrument, 1), GAINS[1], GAINS[2]),
        )  # fmt: skip
        now = pm.math.switch(np.arange(STEPS) < change, level[0], level[1])
        pm.Normal("observed", gain * now, s, observed=y)
    return model


def discrete_prior(rng):
    change, instrument = rng.integers(1, STEPS), rng.choice(3, p=GAIN_SHARES)
    return np.array([*rng.normal(1.0, 2.0, 2), rng.normal(-0.5, 0.5), change, instrument])


def discrete_data(x, rng):
    level = np.where(np.arange(STEPS) < x[3], x[0], x[1])
    return rng.normal(GAINS[int(x[4])] * level, np.exp(x[2]))


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
    "units": Simulated(
        units_model,
        units_prior,
        units_data,
        {
            "mu": lambda x: x[:, 0],
            "tau": lambda x: x[:, 1],
            "first rate": lambda x: rates(x)[:, 0],
            "rates above": lambda x: (rates(x) > BORDER).sum(axis=1),
        },
        {"structure": Structure()},
    ),
    "discrete": Simulated(
        discrete_model,
        discrete_prior,
        discrete_data,
        {
            "first level": lambda x: x[:, 0],
            "second level": lambda x: x[:, 1],
            "s": lambda x: x[:, 2],
            "change": lambda x: x[:, 3],
            "instrument": lambda x: x[:, 4],
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
    config = FitConfig(generator=generator, target_se=target_se, random_seed=seed, **spec.settings)
    fit = fit_density(density, config)
    x, acceptance = corrected_draws(density, fit, DRAWS, CHAINS, rng, thin=THIN, skip=1)
    x = x.reshape(-1, density.dim)
    if isinstance(model, MarginalModel):
        x = model.recovery().complete(x, rng)
    ranks = {key: rank_of(f(truth[None]), f(x), rng) for key, f in spec.functions.items()}
    return {
        "model": name,
        "seed": seed,
        "target_se": target_se,
        "ranks": ranks,
        "regions": fit.n_modes,
        "by_units": fit.units is not None,
        "warnings": sorted({s.code for s in fit.statuses if s.level == "warning"}),
        "acceptance": round(acceptance, 3),
        "cpu": round(time.process_time() - began, 2),
    }


def rank_of(value: np.ndarray, draws: np.ndarray, rng: np.random.Generator) -> int:
    """Rank of a value among draws; one of those that are possible where draws equal it."""
    return int((draws < value).sum() + rng.integers(0, (draws == value).sum() + 1))


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
            several = sum(r["regions"] > 1 or r["by_units"] for r in mine)
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
        model = marginal_of(MODELS[name].build()) if seeds else None
        density = density_of(model) if seeds else None
        for seed in seeds:
            runs.keep(simulate(name, model, density, seed, options.target_se))
    print(report(runs))


if __name__ == "__main__":
    main()
