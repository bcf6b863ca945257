"""The noising process of a diffusion sampler, as the noise levels of a Markov chain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Noising", "geometric", "pinned", "variance_preserving"]


@dataclass(frozen=True)
class Noising:
    r"""Gaussian noise added step by step: ``X_{k+1} = X_k + (c_{k+1}^2 - c_k^2)^{1/2} Z``.

    Any linear noising is this chain seen through a factor: ``X_t = s(t) (X_0 + c(t) Z)``, for
    the variance-preserving process and for pinned Brownian motion alike, which differ in s and
    in where they place their steps. Ratios of path densities do not see the factor, so that it
    is divided out here once and for all.

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
        """Noise points of shape (n, d) into paths of shape (K + 1, n, d), which start there."""
        noise = rng.standard_normal((self.steps, *x.shape)) * np.sqrt(self.added)[:, None, None]
        return np.concatenate([x[None], x + noise.cumsum(axis=0)])

    def log_density(self, path: np.ndarray) -> np.ndarray:
        """Log density of paths given where they start, shape (n,)."""
        d = path.shape[2]
        step = np.sum(np.diff(path, axis=0) ** 2, axis=2) / self.added[:, None]
        constant = self.steps * np.log(2 * np.pi) + np.log(self.added).sum()
        return -0.5 * (step.sum(axis=0) + d * constant)


def geometric(steps: int, first: float, last: float) -> Noising:
    """Noise levels in a geometric progression: the same care for every scale."""
    return Noising(np.append(0.0, np.geomspace(first, last, steps)))


def variance_preserving(
    steps: int, least: float = 0.1, most: float = 10.0, scale: float = 1.0
) -> Noising:
    """Variance-preserving process, its rate rising linearly over unit time, in equal steps.

    Parameters
    ----------
    steps : int
    least, most : float
        Rates beta at the two ends; 0.1 and 10 are those of the authors' code for
        arXiv 2410.19449, which also uses 0.1 and 20.
    scale : float
        Standard deviation of the process when all signal is gone.
    """
    t = np.linspace(0.0, 1.0, steps + 1)
    return Noising(scale * np.sqrt(np.expm1(least * t + 0.5 * (most - least) * t**2)))


def pinned(steps: int, scale: float) -> Noising:
    """Brownian motion pinned to zero at its end, which is left out, in equal steps.

    Parameters
    ----------
    steps : int
    scale : float
        Standard deviation at unit time of the motion before it is pinned.
    """
    t = np.arange(steps + 1) / (steps + 1.0)
    return Noising(scale * np.sqrt(t / (1.0 - t)))
