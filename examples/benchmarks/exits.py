"""Early exits of fits: how often the first answer ends a fit, and whether it is then right.

For each seed a random model, or a target of the gallery, is searched and approximated as a fit does
it, until the first answer ends the fit, or the chains of the regions would begin. An exit is judged
as in ``calibration.py``: by log Z and by a contrast of the regions' weights. Runs that have lost a
component are counted apart. Evaluations are counted without the points of the screening. Run it
with::

    python examples/benchmarks/exits.py --models 1000 --out exits.jsonl
    python examples/benchmarks/exits.py --again exits.jsonl --out others.jsonl
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
from calibration import found_weights, is_missed, judge_contrast
from random_models import RandomModel, random_model
from weights import Runs

from pymc_multimodal.approximation import FirstAnswer
from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.gallery import TARGETS, GalleryTarget
from pymc_multimodal.model.build import density_of
from pymc_multimodal.search import ModeSearch
from pymc_multimodal.target.density import Density

EXACT = 20_000
# An exit is false beyond so many standard errors.
FALSE = 4.0


class NoExit(BaseException):
    """The fit goes on to the chains of the regions."""


def stop_at_chains(stage: str, text: str) -> None:
    if stage == "begin chains":
        raise NoExit


def run(name: str, seed: int, density: Density, truth: RandomModel | GalleryTarget, args) -> dict:
    """Fit until an exit or the first chains, and compare an exit with the truth."""
    cpu, before = time.process_time(), (density.n_logp_evals, density.n_values)
    record = {"name": name, "seed": seed, "dim": density.dim}
    settings = FitConfig(
        random_seed=seed,
        target_se=args.target_se,
        modes=ModeSearch(screening_seconds=args.screening_seconds),
        first_answer=FirstAnswer(min_ess=args.min_ess, max_pareto_k=args.max_pareto_k),
    )
    try:
        fit = fit_density(density, settings, report=stop_at_chains)
    except NoExit:
        fit = None
    spent, screened = density.n_logp_evals - before[0], density.n_values - before[1]
    if fit is not None:
        screened = fit.screening.n_evals if fit.screening else 0
    record |= {"exit": fit is not None, "evals": spent - screened, "screened": screened}
    if fit is None:
        return record | {"cpu": round(time.process_time() - cpu, 2)}
    record |= {
        "cpu": round(time.process_time() - cpu, 2),
        "modes": fit.n_modes,
        "se": float(fit.weights.weight_se.max()),
        "log_z_se": fit.weights.total_se,
    }
    if truth.log_z is not None:
        record["log_z_error"] = fit.weights.total - truth.log_z
    if truth.weights is not None and truth.membership is not None:
        found = found_weights(fit, truth)
        record["missed"] = truth.weights[is_missed(truth.weights, found)].tolist()
        record["weight_error"] = float(np.abs(found - truth.weights).max())
    if truth.draws is not None and fit.n_modes > 1:
        judged = judge_contrast(fit, truth, seed, EXACT)
        record["contrast_error"] = judged["contrast"] - judged["contrast_truth"]
        record["contrast_se"] = float(np.hypot(judged["contrast_se"], judged["contrast_truth_se"]))
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
    parser.add_argument("--again", type=Path, help="only models that had no exit in this file")
    parser.add_argument("--gallery", action="store_true", help="targets instead of random models")
    parser.add_argument("--targets", help="comma separated, of the gallery")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each target")
    parser.add_argument("--target-se", type=float, default=0.01)
    parser.add_argument("--min-ess", type=float, default=FirstAnswer.min_ess)
    parser.add_argument("--max-pareto-k", type=float, default=FirstAnswer.max_pareto_k)
    parser.add_argument("--screening-seconds", type=float, default=ModeSearch.screening_seconds)
    parser.add_argument("--out", type=Path, help="JSON lines to append to, and to take up again")
    parser.add_argument("--report", action="store_true", help="only print the tables of --out")
    args = parser.parse_args()
    runs = Runs(args.out)
    done = {(r["name"], r["seed"]) for r in runs}
    if not args.report and args.gallery:
        names = args.targets.split(",") if args.targets else list(TARGETS)
        for name in names:
            target = TARGETS[name]()
            for seed in [s for s in range(args.seeds) if (name, s) not in done]:
                density = density_of(target.model)
                runs.keep(run(name, seed, density, target, args))
    elif not args.report:
        seeds = list(range(args.first_seed, args.first_seed + args.models))
        if args.again:
            seeds = [r["seed"] for r in Runs(args.again) if not r["exit"]]
        for seed in seeds:
            model = random_model(seed)
            if (model.family, seed) in done:
                continue
            runs.keep(run(model.family, seed, model.density(), model, args))
    print(report(runs))


if __name__ == "__main__":
    main()
