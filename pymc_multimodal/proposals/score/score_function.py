"""A learned score as NumPy arrays: a Gaussian mixture's score plus a small network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.proposals.score.coordinates import AffineCoordinates

__all__ = ["ExactScore", "GaussianParts", "LearnedScore", "Perceptron"]

# Rows evaluated together: bounds memory, not the result.
CHUNK = 2048


@dataclass(frozen=True)
class GaussianParts:
    """Gaussian mixture with all that score matching needs of it.

    Attributes
    ----------
    weights : array of shape (K,)
    means : array of shape (K, d)
    covariances : array of shape (K, d, d)
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    @cached_property
    def _factors(self) -> np.ndarray:
        return np.linalg.cholesky(self.covariances)

    @cached_property
    def precisions(self) -> np.ndarray:
        """Inverse covariances, shape (K, d, d)."""
        return np.linalg.inv(self.covariances)

    @property
    def largest_variance(self) -> np.ndarray:
        """Largest variance of each part, its log-Sobolev constant; shape (K,)."""
        return np.linalg.eigvalsh(self.covariances)[:, -1]

    def log_densities(self, z: np.ndarray) -> np.ndarray:
        """Log density of every part without its weight, shape (n, K)."""
        return np.concatenate([self._pulls(c)[0] for c in _chunks(z)])

    def log_mixture(self, z: np.ndarray) -> np.ndarray:
        """Log density of the mixture, shape (n,)."""
        return np.logaddexp.reduce(self.log_densities(z) + np.log(self.weights), axis=1)

    def label(self, z: np.ndarray) -> np.ndarray:
        """Part that most likely made each row, shape (n,)."""
        return np.argmax(self.log_densities(z) + np.log(self.weights), axis=1)

    def score(self, z: np.ndarray) -> np.ndarray:
        """Gradient of the log density, shape (n, d)."""
        return np.concatenate([self._score(c)[0] for c in _chunks(z)])

    def divergence(self, z: np.ndarray) -> np.ndarray:
        """Laplacian of the log density, shape (n,)."""
        out = []
        for chunk in _chunks(z):
            score, share, pull = self._score(chunk)
            spread = np.einsum("nki,nki->nk", pull, pull) - np.trace(
                self.precisions, axis1=1, axis2=2
            )
            out.append(np.sum(share * spread, axis=1) - np.sum(score**2, axis=1))
        return np.concatenate(out)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws of shape (n, d) and the part of each."""
        part = rng.choice(len(self.weights), size=n, p=self.weights)
        noise = rng.standard_normal((n, self.means.shape[1]))
        z = np.empty_like(noise)
        for k, (mean, factor) in enumerate(zip(self.means, self._factors, strict=True)):
            z[part == k] = mean + noise[part == k] @ factor.T
        return z, part

    def moved(self, mean: np.ndarray, factor: np.ndarray) -> GaussianParts:
        """Return the same mixture in coordinates y with ``z = mean + factor y``."""
        inverse = np.linalg.inv(factor)
        return GaussianParts(
            self.weights,
            (self.means - mean) @ inverse.T,
            inverse @ self.covariances @ inverse.T,
        )

    def _pulls(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n, d = z.shape
        logs, pull = np.empty((n, len(self.weights))), np.empty((n, len(self.weights), d))
        for k, (mean, precision) in enumerate(zip(self.means, self.precisions, strict=True)):
            pull[:, k] = (mean - z) @ precision
            logs[:, k] = -0.5 * np.einsum("ni,ni->n", mean - z, pull[:, k])
        size = np.log(np.diagonal(self._factors, axis1=1, axis2=2)).sum(axis=1)
        return logs - size - 0.5 * d * np.log(2 * np.pi), pull

    def _score(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        logs, pull = self._pulls(z)
        logs += np.log(self.weights)
        share = np.exp(logs - logs.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        return np.einsum("nk,nki->ni", share, pull), share, pull


@dataclass(frozen=True)
class Perceptron:
    """A network of two hidden tanh layers, whose divergence has a closed form.

    Its output is bounded, so that far out the mixture's drift towards the draws prevails.

    Attributes
    ----------
    weights : three arrays of shape (h, d), (h, h), (d, h)
    biases : three arrays of shape (h,), (h,), (d,)
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Output at each row, shape (n, d)."""
        second = self._hidden(z)[1]
        return second @ self.weights[2].T + self.biases[2]

    def divergence(self, z: np.ndarray) -> np.ndarray:
        r"""Trace of the Jacobian at each row, shape (n,).

        .. math:: \mathrm{tr}(W_3 D_2 W_2 D_1 W_1)
            = \sum_{jk} (D_2)_j (W_2)_{jk} (W_1 W_3)_{kj} (D_1)_k
        """
        first, second = self._hidden(z)
        w1, w2, w3 = self.weights
        return np.einsum(
            "nj,jk,nk->n", 1 - second**2, w2 * (w1 @ w3).T, 1 - first**2, optimize=True
        )

    def moved(self, mean: np.ndarray, factor: np.ndarray) -> Perceptron:
        """Return the same score in coordinates y with ``z = mean + factor y``."""
        (w1, w2, w3), (b1, b2, b3) = self.weights, self.biases
        return Perceptron((w1 @ factor, w2, factor.T @ w3), (b1 + w1 @ mean, b2, factor.T @ b3))

    def _hidden(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first = np.tanh(z @ self.weights[0].T + self.biases[0])
        return first, np.tanh(first @ self.weights[1].T + self.biases[1])


@dataclass(frozen=True)
class LearnedScore:
    """Score of a Gaussian mixture plus a network.

    Attributes
    ----------
    mixture : GaussianParts
    network : Perceptron or None
        None where held-out draws found no gain in one.
    """

    mixture: GaussianParts
    network: Perceptron | None = None

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Score at each row, shape (n, d)."""
        score = self.mixture.score(z)
        return score if self.network is None else score + self.network(z)

    def moved(self, mean: np.ndarray, factor: np.ndarray) -> LearnedScore:
        """Return the same score in coordinates y with ``z = mean + factor y``."""
        network = None if self.network is None else self.network.moved(mean, factor)
        return LearnedScore(self.mixture.moved(mean, factor), network)

    def objective(self, z: np.ndarray) -> np.ndarray:
        r"""Terms :math:`2 \nabla \cdot s + |s|^2` of the implicit objective, shape (n,).

        Their mean over draws is the squared score error less ``E|grad log mu|^2``, which does
        not depend on s (Hyvarinen 2005).
        """
        divergence = self.mixture.divergence(z)
        if self.network is not None:
            divergence = divergence + self.network.divergence(z)
        return 2 * divergence + np.sum(self(z) ** 2, axis=1)


@dataclass(frozen=True)
class ExactScore:
    """A given score of points x as a score of their coordinates z.

    Attributes
    ----------
    function : callable
        ``(n, d) -> (n, d)``.
    coordinates : AffineCoordinates
    """

    function: Callable[[np.ndarray], np.ndarray]
    coordinates: AffineCoordinates

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Score at each row, shape (n, r)."""
        score = np.asarray(self.function(self.coordinates.to_x(z)), dtype=float)
        return score @ self.coordinates.basis


def _chunks(z: np.ndarray) -> list[np.ndarray]:
    return [z[i : i + CHUNK] for i in range(0, max(len(z), 1), CHUNK)]
