"""Weights of a fit beside those of NUTS, ``pm.sample_smc`` and tempered SMC with HMC moves.

Tempered SMC is the strongest rival known. Its temperature schedule from the prior to the posterior
is adaptive (nine tenths of the particles are effective at each step). Resampling is systematic. At
every temperature there are five Hamiltonian moves of three leapfrog steps, preconditioned by the
gradients of the particles, with an adaptive step size. Tempered SMC and the fit get the same
compiled density. NUTS and ``pm.sample_smc`` run four chains of 2,000 draws with PyMC's settings.
All draws are labelled by the regions of the fit with the same seed, and the truth is the share of
exact draws in each. One JSON line is written per run, and runs that the file already holds are left
out. Run it with::

    python examples/benchmarks/rivals_weights.py --out rivals_weights.jsonl
    python examples/benchmarks/rivals_weights.py --out rivals_weights.jsonl --report
"""

from __future__ import annotations

import argparse
import logging
import os
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pymc as pm
from weights import SUITE, Runs, true_shares

from pymc_multimodal.challenge import Reference, tempered_smc
from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.gallery import TARGETS, GalleryTarget
from pymc_multimodal.model.build import density_of
from pymc_multimodal.search import ModeSearch, start_distribution
from pymc_multimodal.target.density import Density

NAMES = (
    "two_modes_8", "two_modes_16", "two_modes_32", "two_modes_64", "two_modes_128",
    "gaussian_mixture_100d", "skew_normal_mixture_20", "two_bananas_10", "forty_modes",
)  # fmt: skip
FIT, NUTS, SMC = "fit", "NUTS", "sample_smc"
# The best of six settings, tried on two modes in 8 and 32 dimensions.
RIVAL: dict[str, Any] = {"max_temperatures": 1000, "moves": 5, "leapfrog": 3, "keep": 0.9}


def by_pymc(method: str, target: GalleryTarget, seed: int) -> np.ndarray:
    """Draws of PyMC's own samplers, shape (n, d); the targets have one unconstrained variable."""
    settings = {"chains": 4, "cores": 1, "random_seed": seed, "progressbar": False}
    settings["compute_convergence_checks"] = False
    with target.model, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if method == NUTS:
            idata = pm.sample(2000, tune=1000, nuts_sampler="pymc", **settings)
        else:
            idata = pm.sample_smc(2000, **settings)
    return idata["posterior"]["x"].values.reshape(-1, target.dim)


def runs_of(name: str, seed: int, particles: list[int], density: Density) -> list[dict]:
    """Fit once, and run each rival once; run tempered SMC once for each number of particles."""
    target = TARGETS[name]()
    fit = fit_density(density, FitConfig(target_se=SUITE[name], random_seed=seed))
    truth, _ = true_shares(target, fit, seed, 200_000)
    shares = [(FIT, fit.weights.weight, fit.n_logp_evals)]
    for method in (NUTS, SMC):
        x = by_pymc(method, target, seed)
        shares.append((method, np.bincount(fit.label(x), minlength=fit.n_modes) / len(x), None))
    for size in particles:
        rng = np.random.default_rng([seed, size])
        starts = start_distribution(density, ModeSearch(), rng)
        reference = Reference(starts.centre, starts.spread, density.period)
        before = density.n_logp_evals
        ends = tempered_smc(density, reference, 1, size, rng, settings=RIVAL)
        share = np.bincount(fit.label(ends.x), minlength=fit.n_modes) / size
        shares.append((str(size), share, density.n_logp_evals - before))
    return [
        {
            "name": name,
            "seed": seed,
            "method": method,
            "error": float(np.abs(share - truth).max()),
            "evals": evals,
            "lost": int(np.sum((share == 0) & (truth > 0.001))),
            "modes": fit.n_modes,
        }
        for method, share, evals in shares
    ]


def report(runs: list[dict]) -> str:
    """Rows of a table: root mean square errors, mean evaluations, runs that lost a mode."""
    groups = defaultdict(list)
    for r in runs:
        groups[r["name"], r["method"]].append(r)
    methods = list(dict.fromkeys(r["method"] for r in runs))
    head = ["target", "seeds"]
    for method in methods:
        head.append(f"{int(method):_} particles".replace("_", " ") if method.isdigit() else method)
        head += ["evaluations"] * (method == FIT or method.isdigit())
        head += ["lost a mode"] * (method != FIT)
    lines = [",".join(head)]
    for name in dict.fromkeys(r["name"] for r in runs):
        cells = [name, str(len(groups[name, FIT]))]
        for method in methods:
            group = groups[name, method]
            cells.append(f"{np.sqrt(np.mean([r['error'] ** 2 for r in group])):.4f}")
            if group[0]["evals"] is not None:
                cells.append(f'"{np.mean([r["evals"] for r in group]):,.0f}"')
            cells += [str(sum(r["lost"] > 0 for r in group))] * (method != FIT)
        lines.append(",".join(cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", nargs="+", default=NAMES, choices=list(SUITE))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--particles", type=int, nargs="+", default=[4000, 16000])
    parser.add_argument("--out", type=Path, help="JSON lines to append to, and to take up again")
    parser.add_argument("--report", action="store_true", help="only print the table of --out")
    args = parser.parse_args()
    logging.getLogger("pymc").setLevel(logging.ERROR)
    runs = Runs(args.out)
    done = {(r["name"], r["seed"]) for r in runs}
    for name in [] if args.report else args.targets:
        density = density_of(TARGETS[name]().model)
        for seed in range(args.seeds):
            if (name, seed) in done:
                continue
            for record in runs_of(name, seed, args.particles, density):
                runs.keep(record)
                print({k: v for k, v in record.items() if v is not None}, flush=True)
    print(report(runs))


if __name__ == "__main__":
    main()
