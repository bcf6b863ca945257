"""The noising process of a diffusion sampler, as the noise levels of a Markov chain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Noising", "geometric", "pinned", "variance_preserving"]

# Rates beta at the two ends of unit time of the variance-preserving process, per unit of time.
# Source: the authors' code for arXiv 2410.19449, which uses 0.1 and 20 for some targets.
MIN_RATE, MAX_RATE = 0.1, 10.0


@dataclass(frozen=True, eq=False)
class Noising:
    r"""Gaussian noise added step by step: ``X_{k+1} = X_k + (c_{k+1}^2 - c_k^2)^{1/2} Z``.

    Every linear noising process is this chain times a factor: ``X_t = s(t) (X_0 + c(t) Z)``. The
    variance-preserving process and pinned Brownian motion differ in s, and in where their steps
    lie. Ratios of path densities do not depend on s, so that s is left out here.

    Attributes
    ----------
    levels : array of shape (K + 1,)
        Standard deviations c of the noise, rising from 0.
    """

    levels: np.ndarray

    @property
    def steps(self) -> int:
        """Number K of steps."""
        return len(self.levels) - 1

    @property
    def added(self) -> np.ndarray:
        """Variance that each step adds, shape (K,)."""
        return np.diff(self.levels**2)

    def forward(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Paths of shape (K + 1, n, d) that start at points x of shape (n, d)."""
        noise = rng.standard_normal((self.steps, *x.shape)) * np.sqrt(self.added)[:, None, None]
        return np.concatenate([x[None], x + noise.cumsum(axis=0)])

    def log_density(self, path: np.ndarray) -> np.ndarray:
        """Log density of paths (K + 1, n, d) given their first points, shape (n,)."""
        d = path.shape[2]
        step = np.sum(np.diff(path, axis=0) ** 2, axis=2) / self.added[:, None]
        constant = self.steps * np.log(2 * np.pi) + np.log(self.added).sum()
        return -0.5 * (step.sum(axis=0) + d * constant)


def geometric(steps: int, lowest: float, highest: float) -> Noising:
    """Noise levels in a geometric progression: as many for each factor of scale."""
    return Noising(np.append(0.0, np.geomspace(lowest, highest, steps)))


def variance_preserving(
    steps: int, min_rate: float = MIN_RATE, max_rate: float = MAX_RATE, scale: float = 1.0
) -> Noising:
    """Variance-preserving process in equal steps of unit time; its rate beta rises linearly.

    Parameters
    ----------
    steps : int
    min_rate, max_rate : float
        Rates beta at the two ends, per unit of time.
    scale : float
        Standard deviation of the process once no signal is left.

    Returns
    -------
    Noising
    """
    t = np.linspace(0.0, 1.0, steps + 1)
    return Noising(scale * np.sqrt(np.expm1(min_rate * t + 0.5 * (max_rate - min_rate) * t**2)))


def pinned(steps: int, scale: float) -> Noising:
    """Brownian motion pinned to zero at its end, in equal steps; the end itself is left out.

    Parameters
    ----------
    steps : int
    scale : float
        Standard deviation at unit time of the motion before it is pinned.

    Returns
    -------
    Noising
    """
    t = np.arange(steps + 1) / (steps + 1.0)
    return Noising(scale * np.sqrt(t / (1.0 - t)))
