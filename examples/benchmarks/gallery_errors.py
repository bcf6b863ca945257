"""Are the stated errors honest? Root mean square of (estimate - truth) / se over many runs.

Four cheap targets, fifty seeds each. The weight of every mode is compared with its share of
exact draws of the target, on the logit scale. Where log Z is known, it is compared as well. A ratio
near 1 is right; if the ratio is larger than 1, the stated errors are too small. Runs that the file
already holds are left out. Run it with::

    python examples/benchmarks/gallery_errors.py --out gallery_errors.jsonl
    python examples/benchmarks/gallery_errors.py --out gallery_errors.jsonl --report
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.stats import chi2
from weights import Runs, run

from pymc_multimodal.gallery import TARGETS
from pymc_multimodal.model.build import density_of

SUITE = {
    "mixture_2d_well": 0.01,
    "two_modes_16": 0.01,
    "two_bananas_10": 0.01,
    "student_t_modes_10": 0.01,
}


def summarise(runs: list[dict]) -> dict:
    """Ratios of errors to standard errors over runs of one target, or of several.

    The scores of the modes of one run depend on each other, because the weights add up to one. So
    the interval counts a run of K modes as K - 1 squares at most.
    """
    scores = [np.array(r["scores"], dtype=float) for r in runs if r["modes"] > 1]
    kept = [s[np.isfinite(s)] for s in scores]
    squares = np.array([np.sum(s**2) for s in kept if len(s)])
    sizes = np.array([len(s) for s in kept if len(s)])
    if not len(sizes):
        return {}
    mean = squares.sum() / sizes.sum()
    free = int(np.maximum(sizes - 1, 1).sum())
    low, high = np.sqrt(free * mean / chi2.ppf([0.975, 0.025], free))
    log_z = np.array([r["log_z_error"] / r["log_z_se"] for r in runs if "log_z_error" in r])
    pooled = np.concatenate(kept)
    # The scatter between runs needs no independence of the modes of one run.
    spread = np.std(squares - mean * sizes, ddof=1) if len(sizes) > 1 else np.nan
    error = spread * np.sqrt(len(sizes)) / sizes.sum() / (2 * np.sqrt(mean))
    return {
        "runs": len(runs),
        "rms": np.sqrt(mean),
        "error": error,
        "low": low,
        "high": high,
        "beyond_2": np.mean(np.abs(pooled) > 1.96),
        "largest": np.abs(pooled).max(),
        "bias": pooled.mean(),
        "log_z": np.sqrt(np.mean(log_z**2)) if len(log_z) else np.nan,
        "evals": np.mean([r["evals"] for r in runs]),
        "cpu": np.mean([r["cpu"] for r in runs]),
        "flagged": np.mean([bool(r["statuses"]) for r in runs]),
    }


def report(runs: list[dict]) -> str:
    """Markdown table: one row per target, and all together."""
    groups = defaultdict(list)
    for r in runs:
        groups[f"{r['name']} ({r['target_se']:g})"].append(r)
    if len(groups) > 1:
        groups["**all**"] = runs
    lines = [
        "| target (asked se) | runs | rms z | ± | 95 % by chi-square | beyond 1.96 | largest | "
        "mean z | rms z of log Z | evals | CPU s | flagged |",
        "|" + " --- |" * 12,
    ]
    for name, group in groups.items():
        if s := summarise(group):
            lines.append(
                f"| {name} | {s['runs']} | {s['rms']:.3f} | {s['error']:.3f} | {s['low']:.2f} to "
                f"{s['high']:.2f} | {s['beyond_2']:.1%} | {s['largest']:.1f} | {s['bias']:+.2f} | "
                f"{s['log_z']:.2f} | {s['evals']:,.0f} | {s['cpu']:.1f} | {s['flagged']:.0%} |"
            )
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", default=",".join(SUITE), help="comma separated names")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--target-se", type=float, help="instead of each target's own")
    parser.add_argument("--exact", type=int, default=10**6, help="exact draws behind the truth")
    parser.add_argument("--out", type=Path, help="JSON lines to append to, and to take up again")
    parser.add_argument("--report", action="store_true", help="only print the table of --out")
    return parser.parse_args()


def main() -> None:
    options = parse()
    runs = Runs(options.out)
    done = {(r["name"], r["seed"], r["target_se"]) for r in runs}
    for name in [] if options.report else options.targets.split(","):
        target_se = options.target_se or SUITE.get(name, 0.01)
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        seeds = [s for s in seeds if (name, s, target_se) not in done]
        if not seeds:
            continue
        target = TARGETS[name]()
        if target.draws is None:
            raise SystemExit(f"{name} has no exact draws to compare with.")
        density = density_of(target.model)
        for seed in seeds:
            record = {"name": name, **run(target, density, seed, target_se, 0, options.exact)}
            runs.keep(record)
        print(report([r for r in runs if r["name"] == name]), flush=True)
    print(report(runs))


if __name__ == "__main__":
    main()
