"""A narrow mode beside a wide one: how often the search finds it, and then the screening by values.

The target has two normals of equal mass, six standard deviations of the wider apart, under a prior
five times as wide as the wider. For each pair a row has the number of seeds in which the search for
modes found both, in which the search and the screening did, the points of the median screening, the
evaluations, and the most CPU seconds of a screening. The narrow basin of the last pairs has the
shares of prior draws 2e-4, 5e-5, 2e-6 and 3e-6. Run it with::

    python examples/benchmarks/screening.py --seeds 10
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time

import numpy as np

from pymc_multimodal.proposals import RegionalMixture, laplace
from pymc_multimodal.search import (
    Modes,
    ModeSearch,
    Screening,
    begin_search,
    find_modes,
    modes_of,
    screen,
)
from pymc_multimodal.target.density import Density

PRIOR, APART = 5.0, 6.0
PAIRS = ((2, 0.02), (3, 0.05), (5, 0.1), (8, 0.3))


class Pair:
    """Log density and gradient of a wide and a narrow normal of equal mass."""

    def __init__(self, dim: int, ratio: float) -> None:
        self.dim, self.ratio, self.at = dim, ratio, np.zeros(dim)
        self.at[0] = APART

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        step = x - self.at
        wide = -0.5 * np.einsum("ni,ni->n", x, x)
        thin = -0.5 * np.einsum("ni,ni->n", step, step) / self.ratio**2
        thin -= self.dim * np.log(self.ratio)
        total = np.logaddexp(wide, thin)
        share = np.exp(thin - total)[:, None]
        grad = -(1 - share) * x - share * step / self.ratio**2
        return total - np.log(2) - 0.5 * self.dim * np.log(2 * np.pi), grad


def pair(dim: int, ratio: float) -> Density:
    """Return the density with its prior."""
    return Density(
        Pair(dim, ratio), dim, prior=lambda n, rng: PRIOR * rng.standard_normal((n, dim))
    )


class LaplaceModes:
    """The known modes as normal densities with heavy-tailed parts."""

    def __init__(self, modes: Modes, period: np.ndarray) -> None:
        log_mass = modes.log_density + np.log(np.diagonal(modes.scale, axis1=1, axis2=2)).sum(
            axis=1
        )
        weights = np.exp(log_mass - log_mass.max())
        parts = [laplace(x, s, period) for x, s in zip(modes.locations, modes.scale, strict=True)]
        self.mixture = RegionalMixture(parts, weights / weights.sum())

    def log_density(self, x: np.ndarray) -> np.ndarray:
        return self.mixture.log_density(x)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.mixture.generate(n, rng)


def run(density: Density, settings: ModeSearch, seed: int) -> tuple[Modes, Modes, Screening, float]:
    """Return the modes before and after the screening, what it has seen, and its CPU seconds."""
    rng = np.random.default_rng(seed)
    search = begin_search(density, settings, False, rng)
    while not search.settled:
        search = find_modes(density, search, settings, rng)
    before = modes_of(density, search, settings)
    known, began = LaplaceModes(before, density.period), time.process_time()
    search, screening = screen(density, search, settings, known, rng)
    seconds = time.process_time() - began
    return before, modes_of(density, search, settings), screening, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--points", type=int, help="fixed number of points")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--starts", type=int, help="starts of the search")
    parser.add_argument("--pair", nargs=2, action="append", metavar=("DIM", "RATIO"))
    args = parser.parse_args()
    settings = ModeSearch(starts=args.starts, screening=args.points, screening_seconds=args.seconds)
    pairs = [(int(d), float(r)) for d, r in args.pair] if args.pair else PAIRS
    print("dimension,ratio,search alone,with screening,points,climbs,evaluations,CPU seconds")
    for dim, ratio in pairs:
        alone, both, points, climbs, evals, cpu = 0, 0, [], [], [], []
        for seed in range(args.seeds):
            density = pair(dim, ratio)
            before, after, screening, seconds = run(density, settings, seed)
            alone, both = alone + (len(before) == 2), both + (len(after) == 2)
            points.append(screening.n_points)
            climbs.append(screening.n_climbs)
            evals.append(density.n_logp_evals)
            cpu.append(seconds)
        print(
            f"{dim},{ratio:g},{alone} of {args.seeds},{both} of {args.seeds},"
            f"{np.median(points):.0f},{np.median(climbs):.0f},{np.median(evals):.0f},"
            f"{max(cpu):.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
