"""Calibration: random multimodal models with known answers, one fit each.

For every model estimates are compared with the truth: the log evidence, that of each mode, and one
contrast of the weights, the logit of the mass of half of the regions (drawn from the seed). The
truth of a region is that of the fit's own partition: exact draws labelled by ``fit.label``. One
JSON line is written per model. Models that the file already holds are left out, so a run can be
stopped and continued.
Run it with::

    python examples/benchmarks/calibration.py --models 800 --out hybrid.jsonl
    python examples/benchmarks/calibration.py --models 420 --pymc --out pymc.jsonl
    python examples/benchmarks/calibration.py --models 200 --generator lrds --out lrds.jsonl
    python examples/benchmarks/calibration.py --out hybrid.jsonl --report
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from calibration_report import report
from random_models import FAMILIES, RandomModel, random_model
from random_pymc import pymc_model
from scipy.special import logit, logsumexp
from weights import Runs

from pymc_multimodal.fit import Fit, FitConfig, fit_density
from pymc_multimodal.proposals import (
    LRDS,
    ControlNetwork,
    GeneratorConfig,
    Hybrid,
    Network,
    PublishedHybrid,
    ScoreLangevin,
    resolve,
)
from pymc_multimodal.search import ModeSearch

sys.path.append(str(Path(__file__).resolve().parents[1] / "papers"))
from common import region_shares

TARGET_SE, NETWORK_STEPS = 0.03, 200
GENERATORS = ("hybrid", "lrds", "score", "published")
# A component of at least this weight is missed if the fit gives it less than this share of it.
COUNTED, OWN_MASS = 0.01, 0.1


@dataclass(frozen=True)
class TwoGroups:
    """A fit whose regions are joined to two groups, by the bool array `side` of shape (K,)."""

    fit: Fit
    side: np.ndarray
    n_modes: int = 2

    def label(self, x: np.ndarray) -> np.ndarray:
        return self.side[self.fit.label(x)].astype(int)


def contrast(fit: Fit, side: np.ndarray) -> tuple[float, float]:
    """Logit of the mass of the regions in `side`, and its standard error.

    The evidences of regions are independent. Their errors include what the cross-check and the
    challenge have added.
    """
    log_z, variance = fit.weights.log_evidence, fit.weights.log_evidence_se**2
    value, square = 0.0, 0.0
    for sign, group in ((1, side), (-1, ~side)):
        total = logsumexp(log_z[group])
        value += sign * total
        square += float(np.exp(2 * (log_z[group] - total)) @ variance[group])
    return float(value), float(np.sqrt(square))


def judge_contrast(fit: Fit, model: RandomModel, seed: int, exact: int) -> dict:
    """Compare a random contrast of the weights with its share of exact draws."""
    # Of the fit, only the number of regions changes which regions are drawn.
    rng = np.random.default_rng([seed, 5])
    side = rng.permutation(fit.n_modes) < rng.integers(1, fit.n_modes)
    value, se = contrast(fit, side)
    share, share_se = region_shares(TwoGroups(fit, side), model, exact, rng)
    truth = float(np.clip(share[1], 1e-9, 1 - 1e-9))
    return {
        "contrast": value,
        "contrast_se": se,
        "contrast_truth": float(logit(truth)),
        "contrast_truth_se": float(share_se[1] / (truth * (1 - truth))),
    }


def judge_evidences(fit: Fit, model: RandomModel, seed: int, exact: int) -> dict:
    """Compare the log evidence of each counted region with that by its share of exact draws."""
    rng = np.random.default_rng([seed, 6])
    share, share_se = region_shares(fit, model, exact, rng)
    counted = share >= COUNTED
    truth, truth_se = model.log_z + np.log(share[counted]), share_se[counted] / share[counted]
    weights = fit.weights
    return {
        "evidence_errors": (weights.log_evidence[counted] - truth).tolist(),
        "evidence_se": np.hypot(weights.log_evidence_se[counted], truth_se).tolist(),
    }


def found_weights(fit: Fit, model: RandomModel) -> np.ndarray:
    """Mass that the fit gives to each component, from its local draws and weights."""
    shares = [model.membership(fit.local_draws(k)).mean(axis=0) for k in range(fit.n_modes)]
    return fit.weights.weight @ np.array(shares)


def is_missed(weights: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Tell which components of counted weight have been given too little mass, shape (K,)."""
    return (weights >= COUNTED) & (found < OWN_MASS * weights)


def generator_of(name: str, steps: int) -> GeneratorConfig:
    """Make a generator whose networks are trained for `steps` steps (0: the default number).

    Only Hybrid's networks can change the weights. The others are trained after the weights are
    known.
    """
    if not steps:
        return resolve(name)
    short = {
        "hybrid": Hybrid(network=Network(steps=steps, total_steps=8 * steps)),
        "lrds": LRDS(network=ControlNetwork(steps=steps, regression_steps=steps)),
        "score": ScoreLangevin(training_steps=steps),
        "published": PublishedHybrid(train_steps=steps, pairs=1000),
    }
    return short[name]


def model_of(seed: int, options: argparse.Namespace) -> RandomModel:
    """Make the model of a seed."""
    return (pymc_model if options.pymc else random_model)(seed, options.family)


def name_of(options: argparse.Namespace) -> str:
    """Name what is calibrated: a generator, or PyMC models."""
    return "pymc" if options.pymc else options.generator


def judge(seed: int, options: argparse.Namespace) -> dict:
    """Fit the model of a seed and compare the fit with the truth."""
    began, cpu = time.monotonic(), time.process_time()
    model = model_of(seed, options)
    record = {
        "seed": seed,
        "generator": name_of(options),
        "target_se": options.target_se,
        "family": model.family,
        "dim": model.dim,
        "components": len(model.weights),
    }
    config = FitConfig(
        generator=generator_of(options.generator, options.network_steps),
        target_se=options.target_se,
        max_evals=options.max_evals,
        modes=ModeSearch(screening_seconds=options.screening_seconds),
        random_seed=seed,
    )
    try:
        fit = fit_density(model.density(), config)
    except Exception as error:  # A model that cannot be fitted is counted; the run goes on.
        return record | {"error": f"{type(error).__name__}: {error}"}
    found = found_weights(fit, model)
    missed = is_missed(model.weights, found)
    record |= {
        "regions": fit.n_modes,
        "log_z_error": fit.weights.total - model.log_z,
        "log_z_se": fit.weights.total_se,
        "missed": model.weights[missed].tolist(),
        "largest_weight_error": float(np.abs(found - model.weights).max()),
        **{
            f"{level}s": sorted({s.code for s in fit.statuses if s.level == level})
            for level in ("warning", "info")
        },
        "challenged_by": fit.challenge.effective if fit.challenge else 0.0,
        "pareto_k": float(fit.weights.pareto_k.max()),
        "seen_basin_mass": fit.modes.seen_basin_mass,
        "evals": fit.n_logp_evals,
    }
    if fit.n_modes > 1:
        record |= judge_contrast(fit, model, seed, options.exact)
        record |= judge_evidences(fit, model, seed, options.exact)
    return record | {
        "cpu": round(time.process_time() - cpu, 2),
        "seconds": round(time.monotonic() - began, 2),
    }


def results(seeds: list[int], options: argparse.Namespace):
    """Yield the record of each seed as it is ready."""
    if options.workers == 1:
        yield from map(partial(judge, options=options), seeds)
        return
    # torch does not work after a fork.
    context = get_context("spawn")
    with ProcessPoolExecutor(options.workers, mp_context=context) as pool:
        for done in as_completed([pool.submit(judge, s, options) for s in seeds]):
            yield done.result()


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generator", choices=GENERATORS, default="hybrid")
    parser.add_argument("--models", type=int, default=800)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", help="comma separated, instead of --models and --first-seed")
    parser.add_argument("--max-dim", type=int, help="leave out models with more dimensions")
    parser.add_argument("--family", choices=[*FAMILIES, "inverse"], help="instead of all in turn")
    parser.add_argument("--pymc", action="store_true", help="models of random_pymc.py")
    parser.add_argument("--target-se", type=float, default=TARGET_SE)
    parser.add_argument("--screening-seconds", type=float, default=ModeSearch.screening_seconds)
    parser.add_argument("--network-steps", type=int, default=NETWORK_STEPS, help="0: as it comes")
    parser.add_argument("--max-evals", type=int, default=5_000_000)
    parser.add_argument("--exact", type=int, default=20_000, help="exact draws behind the truth")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, help="JSON lines to append to, and to take up again")
    parser.add_argument("--report", action="store_true", help="only print the tables of --out")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    runs = Runs(options.out)
    if not options.report:
        key = (name_of(options), options.target_se)
        done = {r["seed"] for r in runs if (r["generator"], r["target_se"]) == key}
        seeds = range(options.first_seed, options.first_seed + options.models)
        seeds = [int(s) for s in options.seeds.split(",")] if options.seeds else seeds
        if options.max_dim is not None:
            seeds = [s for s in seeds if model_of(s, options).dim <= options.max_dim]
        for record in results([s for s in seeds if s not in done], options):
            runs.keep(record)
    print(report(runs))


if __name__ == "__main__":
    main()
