"""Early exits of fits: how often the first answer ends a fit, and whether it is then right.

For each seed a random model, or a target of the gallery, is searched and approximated as a fit does
it; nothing else is run. An exit is judged by log Z and by a contrast of the modes' weights, the
logit of the mass of half of the modes (drawn from the seed). The true contrast is the share of
exact draws that belong to these modes by the fitted mixture. Runs in which the search missed a
component are counted apart: no number of the sample sees it. Run it with::

    python examples/benchmarks/exits.py --models 1000 --out exits.jsonl
    python examples/benchmarks/exits.py --gallery --seeds 5 --out exits_gallery.jsonl
    python examples/benchmarks/exits.py --out exits.jsonl --report
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from calibration import COUNTED, OWN_MASS, contrast
from random_models import RandomModel, random_model
from scipy.special import logit
from weights import Runs

from pymc_multimodal.approximation import FirstAnswer, approximate
from pymc_multimodal.gallery import TARGETS, GalleryTarget
from pymc_multimodal.model.build import density_of
from pymc_multimodal.search import ModeSearch, begin_search, find_modes, modes_of
from pymc_multimodal.target.density import Density
from pymc_multimodal.target.target import Target

EXACT = 20_000
# An exit is false beyond so many standard errors.
FALSE = 4.0


def run(
    name: str,
    seed: int,
    density: Density,
    truth: RandomModel | GalleryTarget,
    target_se: float,
    limits: dict,
) -> dict:
    """Search, approximate, and compare with the truth."""
    cpu, rng = time.process_time(), np.random.default_rng([seed, 1])
    settings = ModeSearch()
    search = begin_search(density, settings, False, rng)
    while not search.settled:
        search = find_modes(density, search, settings, rng)
    modes, searched = modes_of(density, search, settings), density.n_logp_evals
    record = {"name": name, "seed": seed, "dim": density.dim, "modes": len(modes)}
    if modes.runaway:
        return record | {"exit": False, "reason": "runaway", "evals": searched, "search": searched}
    found = approximate(
        Target(density), modes, search.distribution, FirstAnswer(**limits), target_se, rng
    )
    verdict, weights = found.verdict, found.weights
    record |= {
        "exit": verdict.precise,
        "reason": verdict.reasons[0] if verdict.reasons else "",
        "rounds": found.rounds,
        "search": searched,
        "evals": density.n_logp_evals,
        "ess": verdict.ess,
        "pareto_k": verdict.pareto_k,
        "largest": verdict.largest,
        "se": float(weights.weight_se.max()),
        "log_z_se": weights.total_se,
        "cpu": round(time.process_time() - cpu, 3),
    }
    if truth.log_z is not None:
        record["log_z_error"] = weights.total - truth.log_z
    if truth.weights is not None and truth.membership is not None:
        ratio, rows = found.sample.ratio, np.isfinite(found.sample.log_ratio)
        own = ratio[rows] @ truth.membership(found.sample.x[rows]) / ratio.sum()
        lost = (truth.weights >= COUNTED) & (own < OWN_MASS * truth.weights)
        record["missed"] = truth.weights[lost].tolist()
    if truth.draws is not None and len(modes) > 1:
        side = rng.permutation(len(modes)) < rng.integers(1, len(modes))
        label = found.mixture.label(truth.draws(EXACT, rng))
        share = np.bincount(label, minlength=len(modes)) / EXACT
        value, se = contrast(found, side)
        exact = float(np.clip(share[side].sum(), 1e-6, 1 - 1e-6))
        error = 1.0 / np.sqrt(EXACT * exact * (1 - exact))
        record |= {
            "contrast_error": value - float(logit(exact)),
            "contrast_se": float(np.hypot(se, error)),
            "weight_error": float(np.abs(weights.weight - share).max()),
        }
    return record


def report(runs: list[dict]) -> str:
    """Return the tables of all runs."""
    exits = [r for r in runs if r["exit"]]
    lost = [r for r in exits if r.get("missed")]
    kept = [r for r in exits if not r.get("missed")]
    lines = [f"{len(runs)} runs, {len(exits)} exits, {len(lost)} of them with a lost component"]
    for key in ("log_z", "contrast"):
        z = np.array([r[f"{key}_error"] / r[f"{key}_se"] for r in kept if f"{key}_error" in r])
        if len(z):
            inside, false = np.mean(np.abs(z) < 1.96), np.flatnonzero(np.abs(z) > FALSE)
            lines.append(
                f"{key}: {len(z)} exits, in 95 % {inside:.1%}, rms z {np.sqrt(np.mean(z**2)):.2f}, "
                f"largest {np.abs(z).max():.1f}, false (z > {FALSE:g}) {len(false)}"
            )
    lines += ["", "name, d, exits, evaluations of an exit (median; worst), largest |z|"]
    for name in sorted({r["name"] for r in runs}):
        own = [r for r in runs if r["name"] == name]
        good = [r for r in own if r["exit"]]
        evals = [r["evals"] for r in good] or [0]
        z = [
            abs(r[f"{key}_error"] / r[f"{key}_se"])
            for r in good
            for key in ("log_z", "contrast")
            if f"{key}_error" in r
        ]
        lines.append(
            f"{name}, {own[0]['dim']}, {len(good)}/{len(own)}, {np.median(evals):.0f}; "
            f"{max(evals)}, {max(z, default=float('nan')):.1f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--gallery", action="store_true", help="targets instead of random models")
    parser.add_argument("--targets", help="comma separated, of the gallery")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each target")
    parser.add_argument("--target-se", type=float, default=0.01)
    parser.add_argument("--min-ess", type=float, default=FirstAnswer.min_ess)
    parser.add_argument("--max-pareto-k", type=float, default=FirstAnswer.max_pareto_k)
    parser.add_argument("--out", type=Path, help="JSON lines to append to, and to take up again")
    parser.add_argument("--report", action="store_true", help="only print the tables of --out")
    args = parser.parse_args()
    runs = Runs(args.out)
    done = {(r["name"], r["seed"]) for r in runs}
    limits = {"min_ess": args.min_ess, "max_pareto_k": args.max_pareto_k}
    if not args.report and args.gallery:
        names = args.targets.split(",") if args.targets else list(TARGETS)
        for name in names:
            target = TARGETS[name]()
            for seed in [s for s in range(args.seeds) if (name, s) not in done]:
                density = density_of(target.model)
                runs.keep(run(name, seed, density, target, args.target_se, limits))
    elif not args.report:
        seeds = range(args.first_seed, args.first_seed + args.models)
        for seed in seeds:
            model = random_model(seed)
            if (model.family, seed) in done:
                continue
            runs.keep(run(model.family, seed, model.density(), model, args.target_se, limits))
    print(report(runs))


if __name__ == "__main__":
    main()
