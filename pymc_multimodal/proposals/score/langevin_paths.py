"""Langevin paths from a regional density, with a way back of known density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.proposals.elliptical import EllipticalMixture
    from pymc_multimodal.proposals.score.coordinates import AffineCoordinates
    from pymc_multimodal.proposals.score.langevin import Score

__all__ = ["LangevinPath"]


@dataclass(frozen=True)
class LangevinPath:
    r"""Langevin steps from a regional density, with a way back of known density.

    A step forth is ``z -> z + h P s(z)`` plus noise of covariance ``2 h P``. A step back is, with
    the same noise, ``z -> z + h P (2 g_i(z) - s(z))``. Here g_i stands for the score of the
    distribution after step i: :math:`g_i = (1 - \lambda_i) \nabla \log q + \lambda_i s` with
    :math:`\lambda_i = 1 - \exp(-r h (i + 1))`, between the score of the start and the learned
    one. Any g_i is valid; with a good one the log ratio varies little.

    Attributes
    ----------
    score : callable
        The score s, in the coordinates z.
    coordinates : AffineCoordinates
    densities : tuple of EllipticalMixture
        Densities q that paths start from, by region.
    factors : array of shape (K, d, d)
        Factors of P in each region.
    step, rate : float
        The step size h, and the rate r at which the start is forgotten.
    steps : int
    """

    score: Score
    coordinates: AffineCoordinates
    densities: tuple[EllipticalMixture, ...]
    factors: np.ndarray
    step: float
    rate: float
    steps: int

    def forward(self, x: np.ndarray, region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw paths that start from given points.

        Parameters
        ----------
        x : array of shape (n, d)
        region : int array of shape (n,)
            Region that each x was drawn from.
        rng : numpy.random.Generator

        Returns
        -------
        array of shape (steps + 1, n, d)
            In the coordinates z.
        """
        path = [self.coordinates.to_z(x)]
        for _ in range(self.steps):
            path.append(self._move(path[-1], self.score(path[-1]), region, rng))
        return np.stack(path)

    def backward(self, x: np.ndarray, region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw paths that end in given points; they are in the order of time, as in `forward`."""
        path = [self.coordinates.to_z(x)]
        for i in reversed(range(self.steps)):
            drift = self._backward_drift(path[-1], self.score(path[-1]), region, i)
            path.append(self._move(path[-1], drift, region, rng))
        return np.stack(path[::-1])

    def log_ratio(self, path: np.ndarray, region: np.ndarray) -> np.ndarray:
        """Log density of the steps back less that of the steps forth, shape (n,)."""
        total = np.zeros(path.shape[1])
        scores = [self.score(z) for z in path]
        for i in range(self.steps):
            backward = self._backward_drift(path[i + 1], scores[i + 1], region, i)
            for sign, start, end, drift in (
                (1.0, path[i], path[i + 1], scores[i]),
                (-1.0, path[i + 1], path[i], backward),
            ):
                whitened = self._each(np.linalg.inv(self.factors), end - start, region)
                noise = whitened - self.step * self._by_metric(drift, region)
                total += sign * np.einsum("ni,ni->n", noise, noise) / (4.0 * self.step)
        return total

    def _move(
        self, z: np.ndarray, drift: np.ndarray, region: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        noise = np.sqrt(2 * self.step) * rng.standard_normal(z.shape)
        whitened = self.step * self._by_metric(drift, region) + noise
        return z + self._each(self.factors, whitened, region)

    def _backward_drift(
        self, z: np.ndarray, score: np.ndarray, region: np.ndarray, i: int
    ) -> np.ndarray:
        """Gradient that a step back follows, ``2 g_i - s``."""
        share = np.exp(-self.rate * self.step * (i + 1))
        x = self.coordinates.to_x(z)
        start_score = np.empty_like(z)
        for k in np.unique(region):
            inside = region == k
            start_score[inside] = self.densities[k].score(x[inside]) @ self.coordinates.basis
        return 2 * (share * start_score + (1 - share) * score) - score

    def _by_metric(self, gradient: np.ndarray, region: np.ndarray) -> np.ndarray:
        """Transposed factor times gradient."""
        return self._each(self.factors.swapaxes(1, 2), gradient, region)

    def _each(self, matrices: np.ndarray, rows: np.ndarray, region: np.ndarray) -> np.ndarray:
        """Multiply each row by the matrix of its region."""
        out = np.empty_like(rows)
        for k in np.unique(region):
            inside = region == k
            out[inside] = rows[inside] @ matrices[k].T
        return out
