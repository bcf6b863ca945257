"""Modes that are lost where a limit ends the search: how often, by what the fit says of starts.

Random models (``random_models.py``) and four normals in six dimensions are fitted under limits.
*Share* is the share of the starts that may lead to modes which were not found, as the fit knows it.
Fits whose search has met its own rule are left out. Run it with::

    python examples/benchmarks/cut_short.py --models 100 --out cut_short.jsonl
    python examples/benchmarks/cut_short.py --out cut_short.jsonl --report
"""

from __future__ import annotations

import argparse
import os
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from calibration import NETWORK_STEPS, TARGET_SE, found_weights, generator_of, is_missed
from limits import density_named
from random_models import random_model
from weights import Runs

from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.status import FitError

LIMITS = (2_000, 5_000, 12_000, 30_000)
# Fits of the four normals, one for each seed.
N_FOUR = 25
EDGES = (0.0, 0.02, 0.05, 0.1, 0.2, 1.0)


def run(name: str, seed: int, limit: int) -> dict:
    """Fit a target with a limit, and say which components were lost."""
    model = random_model(seed) if name == "random" else None
    density, mixture = (model.density(), None) if model else density_named("four_modes_6")
    config = FitConfig(
        generator=generator_of("hybrid", NETWORK_STEPS),
        target_se=TARGET_SE,
        max_evals=limit,
        random_seed=seed,
    )
    record = {"name": name, "seed": seed, "limit": limit}
    try:
        fit = fit_density(density, config)
    except FitError as error:
        return record | {"error": str(error)}
    if model:
        lost = model.weights[is_missed(model.weights, found_weights(fit, model))]
    else:
        found = mixture.component(fit.modes.locations)
        lost = np.delete(mixture.weights, np.unique(found))
    return record | {
        "lost": float(np.sum(lost)),
        "share": float(np.nanmax([fit.modes.unseen_start_mass_upper, fit.modes.seen_basin_mass])),
        "stated": bool(np.isfinite(fit.weights.total_se)),
        "warnings": sorted({s.code for s in fit.statuses if s.level == "warning"}),
        "evals": fit.n_logp_evals,
    }


def report(runs: list[dict]) -> None:
    """Print losses by share, of all fits that a limit cut off and of those that state an error."""
    cut = [r for r in runs if "unfinished" in r.get("warnings", ())]
    print("share, fits, with a lost mode, with errors, of these with a lost mode")
    for low, high in pairwise(EDGES):
        mine = [r for r in cut if low < r["share"] <= high]
        stated = [r for r in mine if r["stated"]]
        losses = [sum(r["lost"] > 0 for r in group) for group in (mine, stated)]
        print(f"{low:g} to {high:g}, {len(mine)}, {losses[0]}, {len(stated)}, {losses[1]}")
    silent = [r for r in runs if r.get("lost", 0) > 0 and not r["warnings"]]
    print(f"lost without a warning: {len(silent)} of {len(runs)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=100, help="seeds; PyMC models are left out")
    parser.add_argument("--out", type=Path, help="JSON lines to append to, and to take up again")
    parser.add_argument("--report", action="store_true", help="only print the table of --out")
    options = parser.parse_args()
    runs = Runs(options.out)
    done = {(r["name"], r["seed"], r["limit"]) for r in runs}
    targets = [("four_modes_6", seed) for seed in range(N_FOUR)]
    # Every eighth random model is one of PyMC.
    targets += [("random", seed) for seed in range(options.models) if seed % 8 != 7]
    for name, seed in [] if options.report else targets:
        for limit in LIMITS:
            if (name, seed, limit) not in done:
                runs.keep(run(name, seed, limit))
    report(list(runs))


if __name__ == "__main__":
    main()
