"""Evidences of normal mixtures of the galaxy velocities, without this package and without modes.

Tempered sequential Monte Carlo with NumPy alone, from draws of the prior, which lie in all K!
images of every mode alike. It is an independent check of docs/gallery/galaxies.md: the priors are
those of that page, with one variance or with a variance for each component. Run it with::

    python docs/gallery/mixture_evidence.py                  # K = 1..6, both kinds
    python docs/gallery/mixture_evidence.py --runs 16 unequal-3
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.special import logsumexp

PAGE = Path(__file__).parent / "galaxies.md"
# Particles of a run, and moves of each particle at a temperature: the standard deviation of the
# log evidence of K = 3 is then 0.2. Measured with this script.
PARTICLES, MOVES = 3_000, 12
# Effective share of the particles that a step in temperature leaves. Conventional.
EFFECTIVE_SHARE = 0.7
# Scales of differences of two particles, the last but one for each dimension d (ter Braak 2006,
# Stat. Comput. 16, 239-249); shares of the coordinates that move. Conventional.
SCALES, SHARES = (0.1, 0.3, 1.0), (0.2, 0.5, 1.0)
# Decimal logarithms of the widths of moves of one component. Conventional.
WIDTHS = (-1.7, 0.7)


def velocities() -> np.ndarray:
    """Return the velocities of the page in 1,000 km/s, shape (82,)."""
    numbers = re.search(r"velocity = np\.array\(\[(.*?)\]\)", PAGE.read_text(), re.DOTALL)[1]
    return np.array([float(n) for n in numbers.split(",") if n.strip()]) / 1000


class Mixture:
    """Density of K components; a row has K means, logarithms of variances, and K log gammas.

    Weights are exponentials of the log gammas, normalised: independent Gamma(1, 1) variables then
    have the uniform distribution on the simplex.

    Parameters
    ----------
    k : int
        Components.
    equal : bool
        Whether they share their variance.
    """

    def __init__(self, k: int, equal: bool) -> None:
        self.k, self.n_variances = k, 1 if equal else k
        self.dim = 2 * k + self.n_variances
        self.velocity = velocities()

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw from the prior, shape (n, dim)."""
        mean = rng.normal(20.0, 10.0, (n, self.k))
        variance = 20.0 / rng.gamma(3.0, 1.0, (n, self.n_variances))
        return np.concatenate(
            [mean, np.log(variance), np.log(rng.gamma(1.0, 1.0, (n, self.k)))], axis=1
        )

    def split(self, x: np.ndarray) -> list[np.ndarray]:
        """Return means, log variances and log gammas."""
        return np.split(x, [self.k, self.k + self.n_variances], axis=1)

    def log_prior(self, x: np.ndarray) -> np.ndarray:
        """Return the log density of the prior up to a constant, shape (n,)."""
        mean, log_variance, log_gamma = self.split(x)
        return (
            -0.5 * (((mean - 20.0) / 10.0) ** 2).sum(axis=1)
            - (3.0 * log_variance + 20.0 * np.exp(-log_variance)).sum(axis=1)
            + (log_gamma - np.exp(log_gamma)).sum(axis=1)
        )

    def log_likelihood(self, x: np.ndarray) -> np.ndarray:
        """Return the log likelihood, shape (n,)."""
        mean, log_variance, log_gamma = self.split(x)
        log_weight = log_gamma - logsumexp(log_gamma, axis=1, keepdims=True)
        log_variance = np.broadcast_to(log_variance, mean.shape)
        factor = log_weight - 0.5 * (log_variance + np.log(2 * np.pi))
        total = np.full((len(x), len(self.velocity)), -np.inf)
        for k in range(self.k):
            squared = (self.velocity - mean[:, k, None]) ** 2
            part = factor[:, k, None] - 0.5 * squared * np.exp(-log_variance[:, k, None])
            total = np.logaddexp(total, part)
        return total.sum(axis=1)

    def moved(self, x: np.ndarray, together: bool, rng: np.random.Generator) -> np.ndarray:
        """Propose a symmetric move of each row: along a difference of rows, or of one component."""
        n, d = x.shape
        if together:
            a, b = rng.integers(0, n, (2, n))
            scale = rng.choice([*SCALES, 2.4 / np.sqrt(2 * d)], n)[:, None]
            scale = scale * (rng.random((n, d)) < rng.choice(SHARES, n)[:, None])
            return x + scale * (x[a] - x[b])
        y, rows, k = x.copy(), np.arange(n), rng.integers(0, self.k, n)
        width = 10 ** rng.uniform(*WIDTHS, n)
        variance = self.k + (k if self.n_variances > 1 else 0)
        y[rows, k] += width * rng.normal(size=n)
        y[rows, variance] += 0.3 * width * rng.normal(size=n)
        y[rows, self.k + self.n_variances + k] += 0.5 * width * rng.normal(size=n)
        return y


def log_evidence(mixture: Mixture, rng: np.random.Generator) -> float:
    """Estimate the log evidence in one run."""
    x = mixture.draw(PARTICLES, rng)
    prior, likelihood = mixture.log_prior(x), mixture.log_likelihood(x)
    power, total = 0.0, 0.0

    def effective_share(step: float) -> float:
        log_share = 2 * logsumexp(step * likelihood) - logsumexp(2 * step * likelihood)
        return float(np.exp(log_share)) / PARTICLES - EFFECTIVE_SHARE

    while power < 1.0:
        step = 1.0 - power
        if effective_share(step) < 0:
            step = brentq(effective_share, 1e-9 * step, step)
        total += logsumexp(step * likelihood) - np.log(PARTICLES)
        weight = np.exp(step * likelihood - logsumexp(step * likelihood))
        power += step
        # Systematic resampling.
        at = (rng.random() + np.arange(PARTICLES)) / PARTICLES
        kept = np.searchsorted(np.cumsum(weight), at).clip(0, PARTICLES - 1)
        x, prior, likelihood = x[kept], prior[kept], likelihood[kept]
        for move in range(MOVES):
            y = mixture.moved(x, move % 2 == 0, rng)
            new_prior, new_likelihood = mixture.log_prior(y), mixture.log_likelihood(y)
            gain = new_prior - prior + power * (new_likelihood - likelihood)
            taken = np.log(rng.random(PARTICLES)) < gain
            x[taken] = y[taken]
            prior[taken], likelihood[taken] = new_prior[taken], new_likelihood[taken]
    return float(total)


def main() -> None:
    """Print the log evidence of the named mixtures, with its standard error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = [f"{kind}-{k}" for kind in ("equal", "unequal") for k in range(1, 7)]
    parser.add_argument("names", nargs="*", default=every)
    parser.add_argument("--runs", type=int, default=8)
    given = parser.parse_args()
    for name in given.names:
        kind, k = name.split("-")
        mixture = Mixture(int(k), kind == "equal")
        # The estimate of the evidence, not of its logarithm, is unbiased: evidences are averaged.
        values = [log_evidence(mixture, np.random.default_rng(s)) for s in range(given.runs)]
        relative = np.exp(np.array(values) - max(values))
        mean = max(values) + np.log(relative.mean())
        se = relative.std(ddof=1) / relative.mean() / np.sqrt(given.runs)
        print(f"{name}: log evidence {mean:.3f} ± {se:.3f} of {given.runs} runs", flush=True)


if __name__ == "__main__":
    main()
