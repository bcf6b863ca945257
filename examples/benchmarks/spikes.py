"""A narrow maximum inside of a wide mode: whether fits that go on with chains keep both.

The target is a standard normal with a part of its mass in a narrow normal at its centre; starts are
uniform over ten standard deviations. All climbs end in the narrow one, and chains leave it and do
not come back. The log evidence is 0. For each setting a row has the seeds whose log evidence is
right within 4 stated errors, the largest error in nats and in stated errors, and the medians of
evaluations and CPU seconds. Run it with::

    python examples/benchmarks/spikes.py --seeds 6 --out spikes.jsonl
    python examples/benchmarks/spikes.py --out spikes.jsonl --report
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.special import logsumexp
from weights import Runs

from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.target.density import Density

# Mass of the narrow one, dimensions, and how many times as wide the wide one is.
SETTINGS = ((0.05, 20, 10), (0.02, 20, 10), (0.01, 20, 10), (0.1, 10, 5), (0.3, 30, 10))
# Half the width of the box that starts are drawn from.
HALF = 5.0


def spike(mass: float, dim: int, ratio: float) -> Density:
    """Return the density of two normals at one place."""
    sd, parts = np.array([1.0 / ratio, 1.0]), np.array([mass, 1.0 - mass])
    constant = np.log(parts) - dim * np.log(sd) - 0.5 * dim * np.log(2 * np.pi)

    def logp_and_grad(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logs = constant - 0.5 * (x**2).sum(axis=1)[:, None] / sd**2
        total = logsumexp(logs, axis=1)
        share = np.exp(logs - total[:, None])
        return total, -(share / sd**2).sum(axis=1)[:, None] * x

    return Density(logp_and_grad, dim, prior=lambda n, rng: rng.uniform(-HALF, HALF, (n, dim)))


def run(mass: float, dim: int, ratio: float, seed: int) -> dict:
    """Fit once."""
    density, began = spike(mass, dim, ratio), time.process_time()
    fit = fit_density(density, FitConfig(random_seed=seed))
    return {
        "setting": [mass, dim, ratio],
        "seed": seed,
        "error": fit.weights.total,
        "se": fit.weights.total_se,
        "evals": density.n_logp_evals,
        "cpu": round(time.process_time() - began, 1),
        "warnings": sorted({s.code for s in fit.statuses if s.level == "warning"}),
    }


def report(runs: list[dict]) -> str:
    """Return a line for each setting."""
    lines = ["mass, d, ratio, right, error, in se, evaluations, CPU s, warnings"]
    for setting in SETTINGS:
        own = [r for r in runs if r["setting"] == list(setting)]
        if not own:
            continue
        score = [abs(r["error"]) / r["se"] for r in own]
        evals, cpu = (np.median([r[key] for r in own]) for key in ("evals", "cpu"))
        codes = " ".join(sorted({code for r in own for code in r["warnings"]}))
        lines.append(
            f"{setting[0]:g}, {setting[1]}, {setting[2]}, {sum(z < 4 for z in score)}/{len(own)}, "
            f"{max(abs(r['error']) for r in own):.3f}, {max(score):.1f}, "
            f'"{evals:,.0f}", {cpu:.0f}, {codes}'
        )
    return "\n".join(lines)


def main() -> None:
    """Run what the file does not hold yet, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--report", action="store_true")
    args = parser.parse_args()
    runs = Runs(args.out)
    known = {(tuple(r["setting"]), r["seed"]) for r in runs}
    if not args.report:
        for seed in range(args.seeds):
            for setting in SETTINGS:
                if (setting, seed) not in known:
                    runs.keep(run(*setting, seed))
    print(report(runs))


if __name__ == "__main__":
    main()
