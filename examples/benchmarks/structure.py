"""Fits by units beside what is known of the models of `unit_models.py`: errors and costs.

Each line of the output is one fit. CPU seconds are those of the fit; compiling the model is named
apart. Run it with::

    python examples/benchmarks/structure.py --seeds 5 --out structure.jsonl
    python examples/benchmarks/structure.py --names population_20,wells_16 --out structure.jsonl
    python examples/benchmarks/structure.py --out structure.jsonl --report
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from unit_models import MODELS, UnitModel

from pymc_multimodal.fit import Fit, FitConfig, fit_density
from pymc_multimodal.model.build import density_of
from pymc_multimodal.target import Structure
from pymc_multimodal.target.density import Density

# Models of few combinations, which are fitted by units only where that is asked for.
ASKED = ("missing",)


def share_errors(fit: Fit, truth: UnitModel) -> tuple[np.ndarray, np.ndarray, int]:
    """Return errors of units' shares with their stated errors, and how many units are compared."""
    weight, stated = fit.units.weight, fit.units.weight_se
    if truth.weights is not None:
        known = truth.weights(fit)
        n = len(known)
        return (weight[:n] - known).ravel(), stated[:n].ravel(), n
    n = len(truth.upper)
    several = weight[:n, 1] > 0.05
    above = np.where(several[:, None], truth.above(fit), False) if n else np.zeros((0, 1), bool)
    share = np.where(above, weight[:n], 0.0).sum(axis=1)
    se = np.where(above, stated[:n], 0.0).max(axis=1, initial=0.0)
    return np.where(several, share - truth.upper, 0.0), se, int(several.sum())


def run(name: str, seed: int, density: Density, truth: UnitModel) -> dict:
    """Fit once, and compare with the truth."""
    began = time.process_time()
    structure = Structure() if name in ASKED else True
    fit = fit_density(density, FitConfig(random_seed=seed, structure=structure))
    record = {
        "name": name,
        "seed": seed,
        "cpu": time.process_time() - began,
        "evals": fit.n_logp_evals,
        "by_units": fit.units is not None,
        "log_z": fit.weights.total - truth.log_evidence,
        "se": fit.weights.total_se,
        "warnings": [s.code for s in fit.statuses if s.level == "warning"],
    }
    if fit.units is not None and fit.units.weight.shape[1] > 1:
        gap, se, several = share_errors(fit, truth)
        if len(gap):
            record["share"] = float(np.abs(gap).max())
            record["share_z"] = float(np.abs(gap[se > 0] / se[se > 0]).max(initial=0.0))
            record["several"] = several
    return record


def report(lines: list[dict]) -> None:
    """Print the worst of the seeds of each model."""
    head = ("model", "fits", "log Z", "z", "share", "z", "evaluations", "CPU s", "warned")
    print("{:16}{:>5}{:>9}{:>6}{:>8}{:>6}{:>13}{:>8}{:>8}".format(*head))
    for name in MODELS:
        own = [r for r in lines if r["name"] == name]
        if not own:
            continue
        z = max(abs(r["log_z"] / r["se"]) for r in own)
        shares = [r for r in own if "share" in r]
        share = max((r["share"] for r in shares), default=np.nan)
        share_z = max((r["share_z"] for r in shares), default=np.nan)
        gap = max(abs(r["log_z"]) for r in own)
        evals, cpu = (int(np.median([r["evals"] for r in own])), np.median([r["cpu"] for r in own]))
        warned = sum(bool(r["warnings"]) for r in own)
        print(
            f"{name:16}{len(own):5d}{gap:9.4f}{z:6.1f}{share:8.4f}{share_z:6.1f}{evals:13d}"
            f"{cpu:8.1f}{warned:8d}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", default=",".join(MODELS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--report", action="store_true")
    args = parser.parse_args()
    lines = (
        [json.loads(line) for line in args.out.read_text().splitlines()]
        if args.out.exists()
        else []
    )
    done = {(r["name"], r["seed"]) for r in lines}
    names = [] if args.report else args.names.split(",")
    for name in names:
        missing = [seed for seed in range(args.seeds) if (name, seed) not in done]
        if not missing:
            continue
        truth = MODELS[name]()
        began = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            density = density_of(truth.model)
            density.terms(density.prior_draws(2, np.random.default_rng(0)))
        print(f"{name}: compiled in {time.process_time() - began:.1f} CPU s", flush=True)
        for seed in missing:
            record = run(name, seed, density, truth)
            lines.append(record)
            with args.out.open("a") as file:
                file.write(json.dumps(record) + "\n")
            print(record, flush=True)
    report(lines)


if __name__ == "__main__":
    main()
