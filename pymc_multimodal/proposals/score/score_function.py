"""A learned score as NumPy arrays: a Gaussian mixture's score plus a small network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.proposals.mixture import GaussianMixture
    from pymc_multimodal.proposals.score.coordinates import AffineCoordinates

__all__ = ["ExactScore", "LearnedScore", "Perceptron"]


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
    mixture : GaussianMixture
    network : Perceptron or None
        None where held-out draws found no gain in one.
    """

    mixture: GaussianMixture
    network: Perceptron | None = None

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Score at each row, shape (n, d)."""
        score = self.mixture.score(z)
        return score if self.network is None else score + self.network(z)

    def moved(self, mean: np.ndarray, factor: np.ndarray) -> LearnedScore:
        """Return the same score in coordinates y with ``z = mean + factor y``."""
        network = None if self.network is None else self.network.moved(mean, factor)
        return LearnedScore(self.mixture.in_coordinates(mean, factor), network)

    def objective(self, z: np.ndarray) -> np.ndarray:
        r"""Terms :math:`2 \nabla \cdot s + |s|^2` of the implicit objective, shape (n,).

        Their mean over draws is the squared score error less ``E|grad log mu|^2``, which does
        not depend on s (Hyvarinen 2005).
        """
        divergence = self.mixture.laplacian(z)
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
