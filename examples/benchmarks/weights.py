"""Accuracy and cost of weights and evidence, over many targets and several seeds.

Every target of the suite is fitted with several seeds. The true weights are those of the fit's own
partition: shares of exact draws of the target, labelled by ``fit.label``. One JSON line is written
per run. Runs that the file already holds are left out, so a long suite can be stopped and
continued. ``--report`` prints a table of the worst over the seeds. Run it with::

    python examples/benchmarks/weights.py --out weights.jsonl
    python examples/benchmarks/weights.py --targets two_modes_16,forty_modes --seeds 2
    python examples/benchmarks/weights.py --out weights.jsonl --report
"""

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from pymc_multimodal import kernel
from pymc_multimodal._compat import ess
from pymc_multimodal.fit import Fit, FitConfig, fit_density
from pymc_multimodal.gallery import TARGETS, GalleryTarget
from pymc_multimodal.model.build import density_of
from pymc_multimodal.target.density import Density

# `target_se` of each target.
SUITE = {
    "two_modes_8": 0.001,
    "two_modes_16": 0.001,
    "two_modes_16_medium": 0.001,
    "two_modes_16_hard": 0.001,
    "two_modes_16_hard_rotated": 0.001,
    "two_modes_32": 0.001,
    "two_modes_64": 0.001,
    "two_modes_64_hard": 0.001,
    "two_modes_128": 0.001,
    "gaussian_mixture_100d": 0.001,
    "skew_normal_mixture_20": 0.003,
    "two_bananas_10": 0.003,
    "symmetric_mixture": 0.003,
    "five_bananas": 0.003,
    "forty_modes": 0.003,
    "forty_modes_unequal": 0.003,
}
EXACT, BLOCK = 10**6, 50_000


def true_shares(
    target: GalleryTarget, fit: Fit, seed: int, n: int
) -> tuple[np.ndarray, int] | None:
    """Mass of each region from n exact draws (n is 0 for an exact answer); None if unknown."""
    if target.draws is None:
        exact = target.weights is not None and fit.n_modes == len(target.weights)
        return (target.weights, 0) if exact else None
    rng = np.random.default_rng([seed, 77])
    count = np.zeros(fit.n_modes)
    for first in range(0, n, BLOCK):
        x = target.draws(min(BLOCK, n - first), rng)
        count += np.bincount(fit.label(x), minlength=fit.n_modes)
    return count / n, n


def logit_scores(weight, se, truth, n: int) -> np.ndarray:
    """(estimate - truth) / se of each weight on the logit scale; se includes the truth's error."""
    with np.errstate(all="ignore"):
        gap = np.log(weight) - np.log1p(-weight) - np.log(truth) + np.log1p(-truth)
        variance = (se / (weight * (1 - weight))) ** 2
        variance = variance + (1 / (n * truth * (1 - truth)) if n else 0.0)
        score = gap / np.sqrt(variance)
    return np.where(np.isfinite(score) | (truth <= 0), score, np.nan)


def mixing(density: Density, fit: Fit, seed: int, draws: int, chains: int = 4) -> dict:
    """Measure acceptance, effective draws of the modes, and frequencies against weights."""
    rng = np.random.default_rng([seed, 1])
    before = density.n_logp_evals
    target, step = fit.target(density), fit.kernel
    state = kernel.init(target, step, fit.starts(chains, rng), rng)
    mode, accepted = np.empty((chains, draws), dtype=int), np.empty((chains, draws))
    for i in range(draws):
        offered = kernel.propose(target, step, chains * step.jumps, rng)
        state, accepted[:, i] = kernel.step(target, step, state, offered, rng, i)
        mode[:, i] = fit.randomise_image(state.points, rng).region
    indicator = (mode[..., None] == np.arange(fit.n_modes)).astype(float)
    frequency = indicator.mean(axis=(0, 1))
    visited = np.flatnonzero((frequency > 0) & (frequency < 1))
    found = {
        "draws": mode.size,
        "acceptance": float(accepted.mean()),
        "jumps": int(fit.kernel.jumps),
        "evals_per_draw": (density.n_logp_evals - before) / mode.size,
    }
    if len(visited):
        effective = ess(indicator[..., visited])
        error = np.sqrt(frequency[visited] * (1 - frequency[visited]) / effective)
        gap = np.abs(frequency - fit.weights.weight)[visited]
        found["mode_ess_per_draw"] = float(effective.min() / mode.size)
        found["frequency_score"] = float(np.max(gap / error))
    return found


def run(
    target: GalleryTarget, density: Density, seed: int, target_se: float, draws: int, exact: int
):
    """Fit once and compare with the truth."""
    began, cpu = time.monotonic(), time.process_time()
    fit = fit_density(density, FitConfig(target_se=target_se, random_seed=seed))
    record = {
        "seed": seed,
        "target_se": target_se,
        "cpu": time.process_time() - cpu,
        "seconds": time.monotonic() - began,
        "stages": {k: round(v, 2) for k, v in fit.seconds.items()},
        "modes": fit.n_modes,
        "weight": fit.weights.weight.tolist(),
        "weight_se": fit.weights.weight_se.tolist(),
        "largest_se": float(np.max(fit.weights.weight_se)),
        "largest_log_se": float(np.max(fit.weights.log_evidence_se)),
        "log_z_se": fit.weights.total_se,
        "evals": fit.n_logp_evals,
        "screened": fit.n_screened,
        "grad_evals": fit.n_grad_evals,
        "statuses": sorted({s.code for s in fit.statuses if s.level == "warning"}),
    }
    if target.log_z is not None:
        record["log_z_error"] = fit.weights.total - target.log_z
    found = true_shares(target, fit, seed, exact)
    if found is not None:
        truth, n = found
        error = fit.weights.weight - truth
        scores = logit_scores(fit.weights.weight, fit.weights.weight_se, truth, n)
        record |= {
            "truth": truth.tolist(),
            "error": float(np.abs(error).max()),
            "total_variation": float(0.5 * np.abs(error).sum()),
            "scores": scores.tolist(),
        }
    elif target.weights is not None and target.membership is not None:
        # If there are more regions than components, compare the total of each component.
        component = target.membership(fit.modes.locations).argmax(axis=1)
        share = np.bincount(component, fit.weights.weight, minlength=len(target.weights))
        error = share - target.weights
        record |= {
            "error": float(np.abs(error).max()),
            "total_variation": float(0.5 * np.abs(error).sum()),
            "component_weight": share.tolist(),
        }
    return record | (mixing(density, fit, seed, draws) if draws else {})


class Runs(list):
    """Records of runs: those that a file of JSON lines already holds, and new ones.

    Parameters
    ----------
    path : Path, optional
        File of JSON lines. Without a file, records are kept in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        super().__init__(json.loads(line) for line in lines if line.strip())
        self.path = path

    def keep(self, record: dict) -> None:
        """Add a record, and write it to the file at once, so that a long run can be stopped."""
        self.append(record)
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(record) + "\n")


def _worst(runs: list[dict], name: str, absolute: bool = True, smallest: bool = False) -> float:
    values = [r[name] for r in runs if r.get(name) is not None]
    values = [abs(v) for v in values] if absolute else values
    return (min if smallest else max)(values, default=float("nan"))


def report(runs: list[dict]) -> str:
    """Markdown table, the worst over the seeds of each target."""
    groups = defaultdict(list)
    for r in runs:
        groups[r["name"], r["target_se"]].append(r)
    head = (
        "| target | asked se | seeds | modes | error | TV | se | z | dlogZ/se | se logZ | evals | "
        "+ screened | CPU s | accepted | jumps | ESS/draw | flags |"
    )
    lines = [head, "|" + " --- |" * (head.count("|") - 1)]
    for (target, target_se), group in groups.items():
        modes = sorted({r["modes"] for r in group})
        scores = [abs(s) for r in group for s in r.get("scores", []) if s is not None]
        scores = [s for s in scores if np.isfinite(s)]
        log_z = [abs(r["log_z_error"]) / r["log_z_se"] for r in group if "log_z_error" in r]
        flags = sorted({code for r in group for code in r["statuses"]})
        flagged = sum(bool(r["statuses"]) for r in group)
        cells = [
            target,
            f"{target_se:g}",
            len(group),
            "-".join(str(m) for m in sorted({modes[0], modes[-1]})),
            f"{_worst(group, 'error'):.5f}",
            f"{_worst(group, 'total_variation'):.5f}",
            f"{_worst(group, 'largest_se'):.5f}",
            f"{max(scores, default=float('nan')):.1f}",
            f"{max(log_z, default=float('nan')):.1f}",
            f"{_worst(group, 'log_z_se'):.4f}",
            f"{max(r['evals'] - r['screened'] for r in group):,}",
            f"{_worst(group, 'screened'):,.0f}",
            f"{_worst(group, 'cpu'):.1f}",
            f"{_worst(group, 'acceptance', smallest=True):.2f}",
            f"{_worst(group, 'jumps'):.0f}",
            f"{_worst(group, 'mode_ess_per_draw', smallest=True):.2f}",
            f"{flagged}/{len(group)} {', '.join(flags)}" if flags else "",
        ]
        lines.append("| " + " | ".join(str(c) for c in cells) + " |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", help="comma separated names, or 'all' (default: the suite)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--target-se", type=float, help="instead of each target's own")
    parser.add_argument("--draws", type=int, default=500, help="per chain, 4 chains; 0 for none")
    parser.add_argument("--exact", type=int, default=EXACT, help="exact draws behind the truth")
    parser.add_argument("--out", type=Path, help="JSON lines to append to, and to take up again")
    parser.add_argument("--report", action="store_true", help="only print the table of --out")
    return parser.parse_args()


def main() -> None:
    options = parse()
    runs = Runs(options.out)
    if not options.report:
        names = list(SUITE) if options.targets is None else options.targets.split(",")
        names = list(TARGETS) if names == ["all"] else names
        if unknown := set(names) - set(TARGETS):
            raise SystemExit(f"Unknown targets {sorted(unknown)}; choose from {', '.join(TARGETS)}")
        done = {(r["name"], r["seed"], r["target_se"]) for r in runs}
        for name in names:
            target_se = options.target_se or SUITE.get(name, 0.003)
            seeds = range(options.first_seed, options.first_seed + options.seeds)
            seeds = [s for s in seeds if (name, s, target_se) not in done]
            if not seeds:
                continue
            target = TARGETS[name]()
            cpu = time.process_time()
            density = density_of(target.model)
            compiled = time.process_time() - cpu
            for seed in seeds:
                record = run(target, density, seed, target_se, options.draws, options.exact)
                record = {"name": name, **record, "compile_cpu": compiled}
                runs.keep(record)
                print(
                    f"{name} seed {seed}: {record['modes']} modes, error "
                    f"{record.get('error', float('nan')):.5f} (se {record['largest_se']:.5f}), "
                    f"{record['evals']:,} evaluations, {record['cpu']:.1f} s "
                    f"{' '.join(record['statuses'])}",
                    flush=True,
                )
    print(report(runs))


if __name__ == "__main__":
    main()
