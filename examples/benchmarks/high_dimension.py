"""Fits in 256 to 2,000 dimensions, beside what is known of the models: errors and costs.

The models are those of `high_dimension_models.py`. Each fit has a process of its own, so that the
peak of the resident memory is that of the fit; CPU seconds are those of the fit, and compiling the
model is named apart. Fits that the file already holds are left out. Run it with::

    python examples/benchmarks/high_dimension.py --out high_dimension.jsonl --seeds 5
    python examples/benchmarks/high_dimension.py --out high_dimension.jsonl --names phi4_256
    python examples/benchmarks/high_dimension.py --out high_dimension.jsonl --report
    python examples/benchmarks/high_dimension.py --reference student_500
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from growth import peak
from high_dimension_models import MODELS, regression_model, share_given_square
from weights import Runs

from pymc_multimodal.fit import FitConfig, fit_density


def run(name: str, seed: int, seconds: float | None = None) -> dict:
    """Fit once, in this process, and compare with what is known."""
    began = time.process_time()
    known = MODELS[name]()
    density, start = known.density, known.density.prior_draws(1, np.random.default_rng(0))
    density.logp(start)
    compiled = time.process_time() - began
    before, cpu = peak(), time.process_time()
    fit = fit_density(density, FitConfig(random_seed=seed, max_seconds=seconds))
    upper = known.upper(fit.modes.locations)
    share = float(fit.weights.weight[upper].sum())
    sides = [fit.weights.weight_se[side] for side in (upper, ~upper)]
    se = float(max(np.sqrt(np.sum(side**2)) for side in sides))
    return {
        "name": name,
        "seed": seed,
        "compiled": compiled,
        "cpu": time.process_time() - cpu,
        "peak_mb": peak() - before,
        "evals": fit.n_logp_evals,
        "regions": fit.n_modes,
        "share": share,
        "share_error": share - known.share,
        "share_se": float(np.hypot(se, known.share_se)),
        "log_z_error": fit.weights.total - known.log_z,
        "log_z_se": fit.weights.total_se,
        "stages": {stage: round(s, 2) for stage, s in fit.seconds.items()},
        "warnings": sorted({s.code for s in fit.statuses if s.level == "warning"}),
    }


def reference(name: str, draws: int = 5000, chains: int = 4) -> tuple[float, float]:
    """Share of the positive effect and its standard error, by NUTS for the size of the effect."""
    import pymc as pm

    kind, p = name.split("_")
    model = regression_model(kind, int(p), 1000, centred=False, folded=True)
    with model:
        idata = pm.sample(draws, tune=1000, chains=chains, cores=1, random_seed=1)
    size = idata.posterior["effect"].values
    import arviz as az

    share = share_given_square(size)
    se = share.std() / np.sqrt(float(az.ess(share)))
    return float(share.mean()), float(se)


def run_apart(name: str, seed: int, cpu_limit: int) -> dict:
    """Fit once in a process of its own, which is ended after some CPU seconds."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", name, "--first-seed", str(seed)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (cpu_limit, cpu_limit)),
    )
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    return {"name": name, "seed": seed, "stopped": f"ended after {cpu_limit} CPU s, or failed"}


def report(runs: list[dict]) -> str:
    """Lines of the table for docs, one for each model: the worst of the seeds, and median costs."""
    lines = ["model, fits, evaluations, CPU s, peak MB, share, in se, log Z, in se, warned"]
    for name in MODELS:
        own = [r for r in runs if r["name"] == name]
        ended = [r for r in own if "stopped" not in r]
        if not own:
            continue
        if not ended:
            lines.append(f"{name}, {len(own)}, {own[0]['stopped']}")
            continue

        def worst(key: str, se: str, ended: list[dict] = ended) -> str:
            errors = [abs(r[key]) for r in ended if r[key] is not None]
            scores = [abs(r[key] / r[se]) for r in ended if r[se]]
            return f"{max(errors, default=np.nan):.4f}, {max(scores, default=np.nan):.1f}"

        cost = [np.median([r[k] for r in ended]) for k in ("evals", "cpu", "peak_mb")]
        warned = sum(bool(r["warnings"]) for r in ended)
        lines.append(
            f'{name}, {len(ended)} of {len(own)}, "{cost[0]:,.0f}", {cost[1]:.1f}, {cost[2]:.0f}, '
            f"{worst('share_error', 'share_se')}, {worst('log_z_error', 'log_z_se')}, {warned}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", help="comma separated names (default: all)")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--cpu-limit", type=int, default=600, help="CPU seconds of each fit")
    parser.add_argument("--max-seconds", type=float, help="limit of the fit itself (with --one)")
    parser.add_argument("--out", type=Path, help="JSON lines to append to, and to take up again")
    parser.add_argument("--report", action="store_true", help="only print the table of --out")
    parser.add_argument("--reference", help="sample the model of this name by NUTS")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.one:
        print(json.dumps(run(options.one, options.first_seed, options.max_seconds)))
        return
    if options.reference:
        print(
            "share of the positive effect: {:.5f} +- {:.5f}".format(*reference(options.reference))
        )
        return
    runs = Runs(options.out)
    if not options.report:
        names = list(MODELS) if options.names is None else options.names.split(",")
        done = {(r["name"], r["seed"]) for r in runs}
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        for name, seed in [(n, s) for n in names for s in seeds if (n, s) not in done]:
            runs.keep(run_apart(name, seed, options.cpu_limit))
            print(json.dumps(runs[-1]), flush=True)
    print(report(runs))


if __name__ == "__main__":
    main()
