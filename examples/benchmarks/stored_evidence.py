"""How often the stated errors of evidences from stored draws hold.

For each density with a known integral, `pymc_multimodal.evidence.evidence_of_draws` estimates it
from 2,000 draws of four chains, which are independent, or stay where they are with a probability of
80 %. The script prints how many 95 % intervals hold the truth, how many errors were not given, the
root mean square of (estimate - truth) / error, and the median error. Run it with::

    python examples/benchmarks/stored_evidence.py --seeds 100
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from scipy import stats

from pymc_multimodal.evidence import evidence_of_draws
from pymc_multimodal.target import Density

LOG_Z = 3.0
CHAINS, DRAWS = 4, 500


def normal(dim: int) -> tuple:
    def logpdf(x):
        return -0.5 * (x**2).sum(axis=1) - 0.5 * dim * np.log(2 * np.pi)

    return dim, logpdf, lambda n, rng: rng.standard_normal((n, dim))


def bimodal(dim: int, share: float = 0.3, width: float = 0.3, distance: float = 10.0) -> tuple:
    """Two normal modes, the heavier one narrow."""
    narrow, wide = stats.norm(0.0, width), stats.norm(distance, 1.0)

    def logpdf(x):
        return np.logaddexp(
            np.log(share) + wide.logpdf(x).sum(axis=1),
            np.log1p(-share) + narrow.logpdf(x).sum(axis=1),
        )

    def draw(n, rng):
        z, first = rng.standard_normal((n, dim)), rng.random(n) < share
        return np.where(first[:, None], distance + z, width * z)

    return dim, logpdf, draw


def banana(bend: float = 0.5) -> tuple:
    def logpdf(x):
        return stats.norm.logpdf(x[:, 0], 0, 1.5) + stats.norm.logpdf(x[:, 1] - bend * x[:, 0] ** 2)

    def draw(n, rng):
        a = 1.5 * rng.standard_normal(n)
        return np.stack([a, bend * a**2 + rng.standard_normal(n)], axis=1)

    return 2, logpdf, draw


def student(dim: int, df: float = 3.0) -> tuple:
    density = stats.multivariate_t(np.zeros(dim), np.eye(dim), df)
    return dim, density.logpdf, lambda n, rng: density.rvs(n, random_state=rng).reshape(n, dim)


def skewed(dim: int) -> tuple:
    """Logarithms of exponential variables."""
    return (
        dim,
        lambda x: stats.loggamma.logpdf(x, 1.0).sum(axis=1),
        lambda n, rng: np.log(rng.exponential(size=(n, dim))),
    )


CASES: dict[str, tuple] = {
    "normal, 5-D": normal(5),
    "normal, 50-D": normal(50),
    "two modes, 2-D": bimodal(2),
    "two modes, 10-D": bimodal(10),
    "banana": banana(),
    "Student-t (3), 5-D": student(5),
    "skewed, 3-D": skewed(3),
    "skewed, 20-D": skewed(20),
}


def lazy_chains(draw: Callable, stay: float, rng: np.random.Generator) -> np.ndarray:
    """Stationary chains that stay where they are with a given probability."""
    x = draw(CHAINS * DRAWS, rng).reshape(CHAINS, DRAWS, -1)
    for t in range(1, DRAWS):
        staying = rng.random(CHAINS) < stay
        x[staying, t] = x[staying, t - 1]
    return x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100)
    seeds = parser.parse_args().seeds
    for name, (dim, logpdf, draw) in CASES.items():
        density = Density(
            lambda x, logpdf=logpdf: (logpdf(x) + LOG_Z, None), dim, has_gradient=False
        )
        for stay in (0.0, 0.8):
            began, z, errors, covered = time.process_time(), [], [], 0
            for seed in range(seeds):
                rng = np.random.default_rng([seed, 7])
                found = evidence_of_draws(density, lazy_chains(draw, stay, rng), rng)
                if np.isfinite(found.log_evidence_se):
                    z.append((found.log_evidence - LOG_Z) / found.log_evidence_se)
                    errors.append(found.log_evidence_se)
                    covered += found.interval[0] < LOG_Z < found.interval[1]
            print(
                f"{name:18s} stay {stay:.1f}: {covered}/{len(z)} hold, {seeds - len(z)} not given, "
                f"rms {np.sqrt(np.mean(np.square(z))):.2f}, median error {np.median(errors):.4f}, "
                f"{(time.process_time() - began) / seeds:.2f} CPU s each",
                flush=True,
            )


if __name__ == "__main__":
    main()
