"""Emulated fits of expensive simulators: shares, log Z and their errors against the truth.

Every evaluation is counted, and the rounds that they take with 16 workers. Draws cost none:
``Emulation(draws="weighted")``. The named simulators have true values that are stored here;
``--truth`` computes them anew. The random ones have importance samples as their truth, whose errors
are added to those of the fits. Run it with::

    python examples/benchmarks/simulators.py --seeds 5 --out simulators.jsonl
    python examples/benchmarks/simulators.py --seeds 5 --hidden --out simulators.jsonl
    python examples/benchmarks/simulators.py --seeds 2 --gradient --out gradient.jsonl
    python examples/benchmarks/simulators.py --seeds 2 --gradient --without-emulation \
        --seconds 0.002 --out without.jsonl
    python examples/benchmarks/simulators.py --names slow_plume,elliptic,pk_flip_flop,pk_edge \
        --max-evals 300 --seeds 5 --out simulators.jsonl
    python examples/benchmarks/simulators.py --random 100 --out simulators.jsonl
    python examples/benchmarks/simulators.py --random 40 --hidden --out simulators.jsonl
    python examples/benchmarks/simulators.py --out simulators.jsonl --report
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from calibration import contrast, is_missed
from scipy.special import logit
from simulator_models import TRUTHS, Simulator, pk, pk_edge, plume, rod, two_modes
from simulator_random import random_simulator
from simulator_truth import Truth, truth_of
from weights import Runs

from pymc_multimodal.emulation import Emulation
from pymc_multimodal.emulation.moves import Resampling
from pymc_multimodal.fit import Fit, FitConfig, fit_density

NAMED = {
    "slow_plume": plume,
    "elliptic": rod,
    "pk_flip_flop": pk,
    "pk_edge": pk_edge,
    "normals_4": lambda: two_modes("normals", 4),
    "normals_8": lambda: two_modes("normals", 8),
    "t_4": lambda: two_modes("t", 4),
    "t_8": lambda: two_modes("t", 8),
}
# Points of the truth: that of ``--truth``, and that by which regions are weighed.
LONG, SHORT = 400_000, 150_000
# Standard error of a true log evidence beyond which nothing is said of shares and lost modes.
KNOWN = 0.03
# An estimate is wrong beyond so many standard errors.
WRONG = 4.0


@cache
def named(name: str) -> tuple[Simulator, Truth]:
    """Return a named simulator with its truth; the weighted sample is a short one."""
    simulator = NAMED[name]()
    if name in TRUTHS:
        log_z, share = TRUTHS[name]
        simulator = replace(simulator, log_z=log_z, share=share)
    return simulator, truth_of(simulator, SHORT)


def weighted_draws(fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Draws of a fit (n, d) with their weights (n,)."""
    move = fit.kernel.moves[0]
    if isinstance(move, Resampling):
        return move.x, np.diff(move.cumulative, prepend=0.0)
    parts = [fit.local_draws(k) for k in range(fit.n_modes)]
    weights = [np.full(len(x), w / len(x)) for x, w in zip(parts, fit.weights.weight, strict=True)]
    return np.concatenate(parts), np.concatenate(weights)


def judge_regions(fit: Fit, simulator: Simulator, truth: Truth, seed: int) -> dict:
    """Compare the weight of the event's regions, or of some regions, with the truth."""
    side = simulator.event(simulator.parameters(fit.modes.locations))
    if side.all() or not side.any():
        rng = np.random.default_rng([seed, 5])
        side = rng.permutation(fit.n_modes) < rng.integers(1, fit.n_modes)
    value, se = contrast(fit, side)
    share, share_se = truth.share(side[fit.label(truth.x)])
    share = float(np.clip(share, 1e-9, 1 - 1e-9))
    return {
        "weight": float(fit.weights.weight[side].sum()),
        "contrast_error": value - float(logit(share)),
        "contrast_se": float(np.hypot(se, share_se / (share * (1 - share)))),
    }


def run(name: str, seed: int, simulator: Simulator, truth: Truth, args) -> dict:
    """Fit a simulator and compare the fit with the truth."""
    density = simulator.density(args.hidden, gradient=args.gradient, seconds=args.seconds)
    cpu = time.process_time()
    settings = FitConfig(
        random_seed=seed,
        max_evals=args.max_evals,
        emulation=not args.without_emulation
        and Emulation(min_seconds=0.0, draws="weighted", despite_gradient=args.gradient),
    )
    record = {
        "name": name,
        "seed": seed,
        "dim": simulator.dim,
        "outputs": 0 if args.hidden else simulator.n_outputs,
        "hidden": args.hidden,
        "gradient": args.gradient,
        "max_evals": args.max_evals,
        "random": bool(args.random),
    }
    try:
        fit = fit_density(density, settings)
    except Exception as error:  # A simulator that cannot be fitted is counted; the run goes on.
        return record | {"error": f"{type(error).__name__}: {error}"}
    record["cpu"] = round(time.process_time() - cpu, 2)
    x, w = weighted_draws(fit)
    event = simulator.event(simulator.parameters(x))
    log_z = truth.log_z if simulator.log_z is None else simulator.log_z
    share = simulator.share
    if share is None:
        share = truth.share(simulator.event(simulator.parameters(truth.x)))[0]
    true_cells = np.bincount(simulator.cells(truth.x), truth.weight)
    cells = np.bincount(simulator.cells(x), w, minlength=len(true_cells))
    lost = is_missed(true_cells, cells)
    added = truth.log_z_se if simulator.log_z is None else 0.0
    known = added <= KNOWN
    record |= {
        "evals": fit.n_logp_evals,
        "rounds": density.rounds,
        "modes": fit.n_modes,
        "log_z_error": fit.weights.total - log_z,
        "log_z_se": float(np.hypot(fit.weights.total_se, added)),
        "truth_se": added,
        "share_error": float(w @ event) - share if known else float("nan"),
        "lost": true_cells[lost & known].tolist(),
        "emulated": fit.emulator is not None,
        "warnings": sorted({s.code for s in fit.statuses if s.level == "warning"}),
        "causes": [s.cause for s in fit.statuses if s.code == "emulated"],
    }
    if fit.n_modes > 1 and known:
        record |= judge_regions(fit, simulator, truth, seed)
    return record


def scores(runs: list[dict], key: str) -> np.ndarray:
    """(estimate - truth) / se of runs whose error is known."""
    pairs = [(r[f"{key}_error"], r[f"{key}_se"]) for r in runs if f"{key}_error" in r]
    error, se = np.array(pairs, dtype=float).reshape(-1, 2).T
    return (error / se)[np.isfinite(se)]


def row(name: str, runs: list[dict]) -> str:
    """One line of the table: medians, and the worst of the runs."""
    z = {key: np.abs(scores(runs, key)) for key in ("log_z", "contrast")}
    both = np.concatenate(list(z.values()))
    unknown = sum(not np.isfinite(r["log_z_se"]) for r in runs)
    share = np.abs([r["share_error"] for r in runs])
    log_z = np.abs([r["log_z_error"] for r in runs if not np.isnan(r["share_error"])])
    evals = [r["evals"] for r in runs]
    rounds = max(r["rounds"] / r["evals"] for r in runs)
    inside = ", ".join(f"{np.mean(v < 1.96):.0%}" if len(v) else "" for v in z.values())
    return (
        f"{name}, {len(runs)} ({np.isnan(share).sum()}), {np.nanmax(share):.4f}, "
        f"{max(log_z):.3f}, {inside}, "
        f"{max(both, default=float('nan')):.1f}, {np.sum(both > WRONG)}, {unknown}, "
        f"{sum(bool(r['lost']) for r in runs)} "
        f"({sum(bool(r['lost']) and not r['warnings'] for r in runs)}), "
        f"{sum(r['emulated'] for r in runs)}, {np.median(evals):.0f}; {max(evals)}, "
        f"{rounds:.3f}, {np.median([r['cpu'] for r in runs]):.1f}"
    )


def report(runs: list[dict]) -> str:
    """Return the table of all runs."""
    failed, runs = [r for r in runs if "error" in r], [r for r in runs if "error" not in r]
    head = (
        "name, runs (truth not known), largest share error, largest log Z error, log Z in 95 %, "
        "weight in 95 %, "
        f"largest |z|, z above {WRONG:g}, errors unknown, lost a mode (unwarned), emulated, "
        "evaluations (median; worst), largest rounds / evaluations, CPU s"
    )
    lines = []
    for hidden, limit in sorted({(r["hidden"], r["max_evals"] or 0) for r in runs}):
        group = [r for r in runs if (r["hidden"], r["max_evals"] or 0) == (hidden, limit)]
        title = "outputs hidden" if hidden else "outputs seen"
        lines += ["", title + (f", max_evals={limit}" if limit else ""), head]
        for name in dict.fromkeys(r["name"] for r in group):
            lines.append(row(name, [r for r in group if r["name"] == name]))
        together = [r for r in group if r["random"]]
        if together:
            lines.append(row("all random", together))
    wrong = [
        r for r in runs if r["lost"] or max(abs(scores([r], k)).max(initial=0) for k in
                                            ("log_z", "contrast")) > WRONG
    ]  # fmt: skip
    lines += [f"not fitted: {r['name']} seed {r['seed']}: {r['error']}" for r in failed]
    for r in wrong:
        lines.append(
            f"{r['name']} seed {r['seed']} hidden {r['hidden']} max_evals {r['max_evals']}: z "
            f"{[round(float(v), 1) for k in ('log_z', 'contrast') for v in scores([r], k)]}, "
            f"lost {np.round(r['lost'], 2).tolist()}, warnings {r['warnings']}"
        )
    return "\n".join(lines)


def print_truths(names: list[str]) -> None:
    """Compute the stored values."""
    for name in names:
        simulator = NAMED[name]()
        truth = truth_of(simulator, LONG)
        share, share_se = truth.share(simulator.event(simulator.parameters(truth.x)))
        print(
            f'    "{name}": ({truth.log_z:.4f}, {share:.4f}),  # se {truth.log_z_se:.4f}, '
            f"{share_se:.4f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", help="comma separated, of the named simulators")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each named simulator")
    parser.add_argument("--random", type=int, default=0, help="random simulators instead")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--hidden", action="store_true", help="only the log density is seen")
    parser.add_argument("--gradient", action="store_true", help="hidden, but with a gradient")
    parser.add_argument("--without-emulation", action="store_true")
    parser.add_argument("--seconds", type=float, default=0.0, help="of an evaluation, at least")
    parser.add_argument("--max-evals", type=int)
    parser.add_argument("--truth", action="store_true", help="print the true values of the named")
    parser.add_argument("--out", type=Path, help="JSON lines to append to, and to take up again")
    parser.add_argument("--report", action="store_true", help="only print the table of --out")
    args = parser.parse_args()
    args.hidden |= args.gradient
    names = args.names.split(",") if args.names else list(NAMED)
    if args.truth:
        print_truths([name for name in names if NAMED[name]().exact_draws is None])
        return
    runs = Runs(args.out)
    done = {(r["name"], r["seed"], r["hidden"], r.get("gradient", False), r["max_evals"])
            for r in runs}  # fmt: skip
    seeds = range(args.first_seed, args.first_seed + (args.random or args.seeds))
    if args.report:
        seeds = range(0)
    for name in [None] if args.random else names:
        for seed in seeds:
            simulator = random_simulator(seed) if name is None else named(name)[0]
            label = simulator.name if name is None else name
            if (label, seed, args.hidden, args.gradient, args.max_evals) in done:
                continue
            if args.gradient or not args.hidden or simulator.log_likelihood is None:
                truth = truth_of(simulator, SHORT, seed) if name is None else named(name)[1]
                runs.keep(run(label, seed, simulator, truth, args))
    print(report(runs))


if __name__ == "__main__":
    main()
