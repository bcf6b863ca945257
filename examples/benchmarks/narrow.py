"""A narrow mode beside a wide one: how often the default fit finds both, and when it says so.

The target has two normals, with 0.7 of the mass in the narrower. They are 8 standard deviations of
the wider apart, in a random direction. The point halfway between them is a draw from a normal with
half the prior's spread (standard deviation 5). Far away the wide one dominates, and all climbs lead
to it. The basin of the narrow one shrinks with the dimension and with the ratio of widths. For each
ratio and dimension a row has the number of seeds that were right, how many of the others gave a
warning, and the median of the evaluations, without the challenge and with it. Run it with::

    python examples/benchmarks/narrow.py --seeds 8
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.special import logsumexp

from pymc_multimodal.challenge import Challenge
from pymc_multimodal.fit import FitConfig, fit_density
from pymc_multimodal.target.density import Density

PRIOR, DISTANCE, WEIGHTS = 5.0, 8.0, np.array([0.3, 0.7])


def pair(dim: int, ratio: float, seed: int) -> Density:
    """Return the density of two normals of standard deviations 1 and `ratio`."""
    rng = np.random.default_rng(seed)
    middle, along = 0.5 * PRIOR * rng.standard_normal(dim), rng.standard_normal(dim)
    along *= 0.5 * DISTANCE / np.linalg.norm(along)
    means, scale = np.stack([middle - along, middle + along]), np.array([1.0, ratio])
    constant = np.log(WEIGHTS) - dim * np.log(scale) - 0.5 * dim * np.log(2 * np.pi)

    def logp_and_grad(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pull = (means - x[:, None]) / scale[:, None] ** 2
        logs = constant - 0.5 * np.sum((x[:, None] - means) ** 2, axis=2) / scale**2
        total = logsumexp(logs, axis=1)
        share = np.exp(logs - total[:, None])
        return total, np.einsum("nk,nki->ni", share, pull)

    # The prior is all that the search knows about the locations of the modes.
    return Density(logp_and_grad, dim, prior=lambda n, rng: PRIOR * rng.standard_normal((n, dim)))


def row(dim: int, ratio: float, seeds: int, challenge: Challenge | bool) -> str:
    right, flagged, evals = 0, 0, []
    for seed in range(seeds):
        fit = fit_density(pair(dim, ratio, seed), FitConfig(random_seed=seed, challenge=challenge))
        # The log evidence is 0. A fit with one of the modes has an error of 0.36 or 1.2.
        good = abs(fit.weights.total) < 4 * fit.weights.total_se + 0.01
        right += good
        flagged += not good and any(s.level == "warning" for s in fit.statuses)
        evals.append(fit.n_logp_evals)
    return f"{right} of {seeds},{flagged},{np.median(evals):.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--dims", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.8, 0.55, 0.3])
    args = parser.parse_args()
    print("ratio,dimension,right alone,flagged,evaluations,right challenged,flagged,evaluations")
    for ratio in args.ratios:
        for dim in args.dims:
            rows = [row(dim, ratio, args.seeds, c) for c in (False, Challenge())]
            print(f"{ratio:g},{dim},{rows[0]},{rows[1]}", flush=True)


if __name__ == "__main__":
    main()
