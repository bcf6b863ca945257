"""Fits of the models of `hard_models.py` beside their truths: errors, costs, statuses.

Each line of the output is one fit. CPU seconds are those of the fit, without compiling the model.
A run that was ended goes on where it was. Run it with::

    python examples/benchmarks/hard_kinds.py --seeds 3 --out hard.jsonl
    python examples/benchmarks/hard_kinds.py --names sensors,arcs --out hard.jsonl
    python examples/benchmarks/hard_kinds.py --out hard.jsonl --report

``--max-evals`` ends fits that would go on without an end.
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
from hard_models import MODELS, Event, HardModel

from pymc_multimodal.fit import Fit, FitConfig, fit_density
from pymc_multimodal.target.density import Density

# Seconds of CPU within which a fit is asked to end, and errors that are allowed: in units of
# `target_se`, and of the stated standard error.
MOST_SECONDS, MOST_ERROR, MOST_Z = 60.0, 3.0, 4.0


def share_of(event: Event, fit: Fit, rng: np.random.Generator) -> tuple[float, float]:
    """Estimate the probability of an event by the draws and weights of the regions.

    Returns it with its standard error, which allows for the finite number of draws.
    """
    orbits, mean, variance = fit.orbits, [], []
    for k in range(fit.n_modes):
        x = fit.local_draws(k)
        if orbits is not None and not orbits.listed:
            x = orbits.cells.scatter(x, rng)
        values = np.asarray(event(x, fit.names), dtype=float)
        mean.append(values.mean())
        # Of a large sample there may be fewer draws than it is worth.
        variance.append(values.var() / max(min(fit.draws.ess[k], len(x)), 1.0))
    w, m = fit.weights, np.array(mean)
    share = float(w.weight @ m)
    by_weights = np.sum((w.weight_se * (m - share)) ** 2)
    return share, float(np.sqrt(by_weights + w.weight**2 @ np.array(variance)))


def run(name: str, seed: int, density: Density, truth: HardModel, most: float) -> dict:
    """Fit once, and compare with the truth."""
    settings = {"random_seed": seed, "max_evals": most, **truth.settings}
    began = time.process_time()
    fit = fit_density(density, FitConfig(**settings))
    record = {
        "name": name,
        "seed": seed,
        "cpu": time.process_time() - began,
        "evals": fit.n_logp_evals,
        "screened": fit.n_screened,
        "modes": fit.n_modes,
        "log_z": fit.weights.total - truth.log_evidence,
        "se": float(np.hypot(fit.weights.total_se, truth.truth_se)),
        "warnings": [s.code for s in fit.statuses if s.level == "warning"],
        "codes": [s.code for s in fit.statuses],
        "steps": fit.evals_by_step,
        "seconds": fit.seconds,
        "shares": {},
    }
    rng = np.random.default_rng(seed)
    for label, (event, probability) in truth.shares.items():
        share, se = share_of(event, fit, rng)
        error = [share - float(probability), float(np.hypot(se, truth.truth_se))]
        record["shares"][label] = error
    return record


def wrong(record: dict, target_se: float = 0.01) -> bool:
    """Whether log evidence or a share is wrong: beyond the errors asked for and those stated."""
    errors = [(record["log_z"], record["se"], 2.0), *((*e, 1.0) for e in record["shares"].values())]
    return any(
        abs(error) > MOST_Z * max(se, 1e-12) or abs(error) > factor * MOST_ERROR * target_se
        for error, se, factor in errors
    )


def report(lines: list[dict]) -> None:
    """Print the worst of the seeds of each model."""
    head = ("model", "fits", "log Z", "z", "share", "z", "evals", "+screen", "CPU s", "wrong",
            "silent", "statuses")  # fmt: skip
    print("{:27}{:>5}{:>8}{:>6}{:>7}{:>6}{:>10}{:>10}{:>7}{:>6}{:>7}  {}".format(*head))
    for name in MODELS:
        own = [r for r in lines if r["name"] == name]
        if not own:
            continue
        shares = [e for r in own for e in r["shares"].values()] or [[0.0, 1.0]]
        bad = [r for r in own if wrong(r)]
        codes = sorted({c for r in own for c in r["warnings"]})
        print(
            f"{name:27}{len(own):5d}{max(abs(r['log_z']) for r in own):8.3f}"
            f"{max(abs(r['log_z']) / max(r['se'], 1e-12) for r in own):6.1f}"
            f"{max(abs(e) for e, _ in shares):7.3f}"
            f"{max(abs(e) / max(s, 1e-12) for e, s in shares):6.1f}"
            f"{max(r['evals'] - r['screened'] for r in own):10d}"
            f"{max(r['evals'] for r in own):10d}{max(r['cpu'] for r in own):7.1f}{len(bad):6d}"
            f"{sum(not r['warnings'] for r in bad):7d}  {','.join(codes)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", default=",".join(MODELS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--max-evals", type=float, default=3e6)
    args = parser.parse_args()
    lines = (
        [json.loads(line) for line in args.out.read_text().splitlines()]
        if args.out.exists()
        else []
    )
    if not args.report:
        done = {(r["name"], r["seed"]) for r in lines}
        built: dict[str, tuple[HardModel, Density]] = {}
        for seed in range(args.seeds):
            for name in args.names.split(","):
                if (name, seed) in done:
                    continue
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    if name not in built:
                        truth = MODELS[name]()
                        density = truth.density()
                        density.logp(density.prior_draws(2, np.random.default_rng(0)))
                        built[name] = truth, density
                    record = run(name, seed, *reversed(built[name]), args.max_evals)
                lines.append(record)
                with args.out.open("a") as file:
                    file.write(json.dumps(record) + "\n")
                print(record, flush=True)
    report(lines)


if __name__ == "__main__":
    main()
