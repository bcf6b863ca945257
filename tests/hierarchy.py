"""A regression whose coefficients have a common spread, with an effect of unknown sign."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm

from pymc_multimodal.target.density import Density

MEAN, SD = 0.5, 1.0
LOG_SD = 0.7


class Hierarchy:
    """Normal observations of ``effect^2 w + X beta``, with beta normal of a common spread.

    The coordinates are the effect, the logarithms of spread and noise, and beta.
    """

    def __init__(self, p: int = 120, n: int = 150, seed: int = 77) -> None:
        rng = np.random.default_rng(seed)
        self.p, self.n = p, n
        self.x = rng.standard_normal((n, p)) / np.sqrt(p)
        self.w = 1.0 + 0.5 * rng.standard_normal(n)
        beta = rng.standard_normal(p)
        self.y = 0.6 * self.w + self.x @ beta + 0.5 * rng.standard_normal(n)

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        effect, log_spread, log_noise, beta = x[:, 0], x[:, 1], x[:, 2], x[:, 3:]
        residual = self.y - effect[:, None] ** 2 * self.w - beta @ self.x.T
        with np.errstate(over="ignore", invalid="ignore"):
            spread, noise = np.exp(-2 * log_spread), np.exp(-2 * log_noise)
            rr, bb = (residual**2).sum(axis=1), (beta**2).sum(axis=1)
            logp = (
                norm.logpdf(effect, MEAN, SD)
                + norm.logpdf(log_spread, 0, LOG_SD)
                + norm.logpdf(log_noise, 0, LOG_SD)
                - 0.5 * (noise * rr + spread * bb)
                - self.n * log_noise
                - self.p * log_spread
                - 0.5 * (self.n + self.p) * np.log(2 * np.pi)
            )
            pull = noise[:, None] * residual
            grad = np.empty_like(x)
            grad[:, 0] = 2 * effect * (pull @ self.w) - (effect - MEAN) / SD**2
            grad[:, 1] = spread * bb - self.p - log_spread / LOG_SD**2
            grad[:, 2] = noise * rr - self.n - log_noise / LOG_SD**2
            grad[:, 3:] = pull @ self.x - spread[:, None] * beta
        return logp, grad

    def prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of shape (n, d)."""
        logs = LOG_SD * rng.standard_normal((n, 2))
        beta = np.exp(logs[:, :1]) * rng.standard_normal((n, self.p))
        return np.column_stack([MEAN + SD * rng.standard_normal(n), logs, beta])

    @property
    def density(self) -> Density:
        names = ["effect", "log_spread", "log_noise", *(f"beta[{i}]" for i in range(self.p))]
        return Density(self, self.p + 3, names=names, prior=self.prior)

    def marginal(self, u: np.ndarray) -> np.ndarray:
        """Log marginal density of effect, log spread and log noise, (n, 3) to (n,)."""
        values, vectors = np.linalg.eigh(self.x @ self.x.T)
        residual = (self.y - u[:, :1] ** 2 * self.w) @ vectors
        v = np.exp(2 * u[:, 1:2]) * values + np.exp(2 * u[:, 2:])
        prior = norm.logpdf(u, [MEAN, 0, 0], [SD, LOG_SD, LOG_SD]).sum(axis=1)
        return prior - 0.5 * (residual**2 / v + np.log(2 * np.pi * v)).sum(axis=1)

    def answer(self) -> tuple[float, float]:
        """Log evidence, and share of the positive effect, on a grid.

        A grid of half the spacing gives the same to 1e-5.
        """
        grids = np.linspace(-1.6, 1.6, 80), np.linspace(-1.2, 1.0, 28), np.linspace(-2.2, 0.4, 33)
        u = np.stack(np.meshgrid(*grids, indexing="ij"), axis=-1).reshape(-1, 3)
        logs = np.concatenate([self.marginal(part) for part in np.array_split(u, 40)])
        cell = np.prod([g[1] - g[0] for g in grids])
        total = logsumexp(logs)
        share = logsumexp(logs[u[:, 0] > 0]) - total
        return float(total + np.log(cell)), float(np.exp(share))
