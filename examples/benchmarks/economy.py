"""Evaluations of a fit against what the answer needs at least, by step.

The limit is ``starts x evaluations of a climb + 2 d K + w (1 - w) / target_se^2``: the climbs of
the search as they were, a Hessian by differences of the gradient at each of K modes in d
dimensions, and as many independent draws as the largest standard error of a weight needs. Points
that are screened by values alone are counted apart: their number follows from a clock, not from the
answer. Fits by units, whose modes are not climbed to one by one, have no limit.
The targets are those of `weights.py`, and of the comparison with other samplers that are cheap and
have a gradient. One JSON line for each run; runs that the file already holds are left out. Run it
with::

    python examples/benchmarks/economy.py --out economy.jsonl
    python examples/benchmarks/economy.py --out economy.jsonl --report
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import logging
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "rivals"))

import numpy as np
import pymc as pm
from field_problems import PROBLEMS
from weights import SUITE, Runs

from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.gallery import TARGETS
from pymc_multimodal.model.build import density_of

# Evaluations at which a fit ends, so that a table takes hours and not days. Conventional.
MOST = 4_000_000
# Targets that the report names, and steps of each. Conventional.
WORST, STEPS = 10, 3
SEARCH = ("begin", "search")


def models() -> dict[str, Callable[[], pm.Model]]:
    """Return the targets by name."""
    own = {name: (lambda name=name: TARGETS[name]().model) for name in SUITE}
    others = {
        name: (lambda name=name: PROBLEMS[name]().model())
        for name in PROBLEMS
        if name not in own and name != "slow_plume"
    }
    return {**own, **others}


def run(name: str, seed: int, target_se: float) -> dict:
    """Fit once; return what was spent and the parts of the limit."""
    density = density_of(models()[name]())
    began = time.process_time()
    config = FitConfig(random_seed=seed, target_se=target_se, max_evals=MOST)
    fit = fit_density(density, config)
    modes, weights = fit.modes, fit.weights
    steps = dict(fit.evals_by_step or {})
    w = np.asarray(weights.weight)
    draws = float(np.max(w * (1 - w), initial=0.0) / target_se**2)
    return {
        "name": name,
        "seed": seed,
        "target_se": target_se,
        "dim": density.dim,
        "modes": len(modes.locations),
        "starts": int(modes.n_starts),
        "search": int(sum(steps.get(s, 0) for s in SEARCH)),
        "draws": draws,
        "units": fit.units is not None,
        "evals": int(fit.n_logp_evals),
        "screened": int(fit.n_screened),
        "steps": {k: int(v) for k, v in steps.items()},
        "warnings": sorted({s.code for s in fit.statuses if s.level == "warning"}),
        "cpu": round(time.process_time() - began, 1),
    }


def limit_of(r: dict) -> float:
    """Return the evaluations that the answer needs at least."""
    return r["search"] + 2 * r["dim"] * r["modes"] + r["draws"]


def report(runs: list[dict]) -> str:
    """Return the table, the largest ratio first, and the steps that the worst spend most in."""
    whole = [r for r in runs if not r["units"]]
    rows = [(r, limit_of(r), r["evals"] - r["screened"]) for r in whole]
    rows.sort(key=lambda row: -row[2] / row[1])
    lines = ["target, d, modes, limit, evaluations, ratio, screened, CPU s, warned"]
    lines += [
        f'{r["name"]}, {r["dim"]}, {r["modes"]}, "{limit:,.0f}", "{own:,}", {own / limit:.1f}, '
        f'"{r["screened"]:,}", {r["cpu"]:.1f}, "{" ".join(r["warnings"])}"'
        for r, limit, own in rows
    ]
    by_units = [r for r in runs if r["units"]]
    lines += [f'{r["name"]}, {r["dim"]}, , , "{r["evals"]:,}", by units' for r in by_units]
    lines.append("")
    for r, _, own in rows[:WORST]:
        steps = sorted(r["steps"].items(), key=lambda e: -e[1])[:STEPS]
        lines.append(f"{r['name']} ({own:,}): " + ", ".join(f"{k} {v:,}" for k, v in steps))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", default=",".join(models()))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--target-se", type=float, default=FitConfig().target_se)
    parser.add_argument("--out", type=Path, help="JSON lines to append to, and to take up again")
    parser.add_argument("--report", action="store_true", help="only print the table of --out")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    runs = Runs(options.out)
    done = {(r["name"], r["seed"]) for r in runs}
    for seed in range(0 if options.report else options.seeds):
        for name in options.names.split(","):
            if (name, seed) not in done:
                runs.keep(run(name, seed, options.target_se))
    print(report(list(runs)))


if __name__ == "__main__":
    main()
