"""The fit beside the strongest rival known: tempered sequential Monte Carlo with HMC moves.

The rival carries particles from the prior to the posterior: temperatures chosen on the way (half of
the particles effective at each step), systematic resampling, and at every temperature five
Hamiltonian moves of ten leapfrog steps, preconditioned by the gradients of the particles, with a
step size that adapts. Both are given the same compiled density. Particles are labelled by the
regions of the fit with the same seed, and the truth is the share of exact draws in each. One JSON
line is written per run, and runs that the file already holds are left out. Run it with::

    python examples/benchmarks/tempered_smc.py --out tempered_smc.jsonl
    python examples/benchmarks/tempered_smc.py --out tempered_smc.jsonl --report
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from weights import SUITE, Runs, true_shares

from pymc_multimodal.config import FitConfig
from pymc_multimodal.density import Density
from pymc_multimodal.gallery import TARGETS
from pymc_multimodal.modes import ModeSearch
from pymc_multimodal.pipeline import fit_density
from pymc_multimodal.starts import Starts
from pymc_multimodal.tempered import Reference, carry

NAMES = (
    "two_modes_8", "two_modes_16", "two_modes_32", "two_modes_64", "two_modes_128",
    "gaussian_mixture_100d", "skew_normal_mixture_20", "two_bananas_10", "forty_modes",
)  # fmt: skip
FIT = "fit"


def runs_of(name: str, seed: int, particles: list[int], density: Density) -> list[dict]:
    """Fit once, and run the rival once for each number of particles."""
    target = TARGETS[name]()
    fit = fit_density(density, FitConfig(target_se=SUITE[name], random_seed=seed))
    truth, _ = true_shares(target, fit, seed, 200_000)
    shares = [(FIT, fit.weights.weight, fit.n_logp_evals)]
    for size in particles:
        rng = np.random.default_rng([seed, size])
        starts = Starts(density, ModeSearch(), rng)
        reference = Reference(starts.centre, starts.spread, density.period)
        before = density.n_logp_evals
        ends = carry(density, reference, 1, size, rng, max_temperatures=1000, moves=5, leapfrog=10)
        share = np.bincount(fit.label(ends.x), minlength=fit.n_modes) / size
        shares.append((str(size), share, density.n_logp_evals - before))
    return [
        {
            "name": name,
            "seed": seed,
            "method": method,
            "error": float(np.abs(share - truth).max()),
            "evals": int(evals),
            "lost": int(np.sum((share == 0) & (truth > 0.001))),
            "modes": fit.n_modes,
        }
        for method, share, evals in shares
    ]


def report(runs: list[dict]) -> str:
    """Rows of a table: root mean square errors and mean evaluations over the seeds."""
    groups = defaultdict(list)
    for r in runs:
        groups[r["name"], r["method"]].append(r)
    methods = sorted({r["method"] for r in runs}, key=lambda m: 0 if m == FIT else int(m))
    head = ["target", "seeds"]
    for method in methods:
        who = FIT if method == FIT else f"{int(method):,} particles".replace(",", " ")
        head += [f"error ({who})", "evaluations"] + ["lost a mode"] * (method != FIT)
    lines = [",".join(head)]
    for name in dict.fromkeys(r["name"] for r in runs):
        cells = [name, str(len(groups[name, FIT]))]
        for method in methods:
            group = groups[name, method]
            error = np.sqrt(np.mean([r["error"] ** 2 for r in group]))
            cells += [f"{error:.4f}", f'"{np.mean([r["evals"] for r in group]):,.0f}"']
            cells += [str(sum(r["lost"] > 0 for r in group))] * (method != FIT)
        lines.append(",".join(cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", nargs="+", default=NAMES, choices=list(SUITE))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--particles", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--out", type=Path, help="JSON lines to append to, and to take up again")
    parser.add_argument("--report", action="store_true", help="only print the table of --out")
    args = parser.parse_args()
    runs = Runs(args.out)
    done = {(r["name"], r["seed"]) for r in runs}
    for name in [] if args.report else args.targets:
        density = Density.from_model(TARGETS[name]().model)
        for seed in range(args.seeds):
            if (name, seed) in done:
                continue
            for record in runs_of(name, seed, args.particles, density):
                runs.keep(record)
                print(
                    f"{name} seed {seed} {record['method']}: error {record['error']:.4f}, "
                    f"{record['evals']:,} evaluations, {record['lost']} modes lost",
                    flush=True,
                )
    print(report(runs))


if __name__ == "__main__":
    main()
