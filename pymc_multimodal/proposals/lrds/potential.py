"""A learned scalar function of place and noise level, with its gradient, in NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

__all__ = ["Potential"]


@dataclass(frozen=True)
class Potential:
    """A small network ``psi(h, share, level)`` whose first layer is a blend of experts.

    The modes of a posterior have directions of their own, so that the first layer has one matrix
    for each group of components, and blends them by the groups' shares at a point.

    Attributes
    ----------
    first : array of shape (G, H, d)
    gain : array of shape (K + 1, H)
        Factors of the first layer, by noise level: noise makes edges less steep.
    level : array of shape (K + 1, G, H)
        Biases of the first layer, by noise level.
    second : array of shape (H, H)
    by_group : array of shape (G, H)
    by_level : array of shape (K + 1, H)
        Biases of the second layer, by group and by level.
    last : array of shape (H,)
    size : array of shape (K + 1,)
        Factor of the value, by level.
    """

    first: np.ndarray
    gain: np.ndarray
    level: np.ndarray
    second: np.ndarray
    by_group: np.ndarray
    by_level: np.ndarray
    last: np.ndarray
    size: np.ndarray

    @classmethod
    def random(
        cls, dim: int, groups: int, hidden: int, size: np.ndarray, rng: np.random.Generator
    ) -> Potential:
        """Draw the matrices; all levels begin alike but for their size, and close to zero."""
        levels = len(size)
        return cls(
            first=rng.standard_normal((groups, hidden, dim)) / np.sqrt(dim),
            gain=np.ones((levels, hidden)),
            level=np.repeat(rng.uniform(-1.0, 1.0, (1, groups, hidden)), levels, axis=0),
            second=rng.standard_normal((hidden, hidden)) / np.sqrt(hidden),
            by_group=np.zeros((groups, hidden)),
            by_level=np.repeat(rng.uniform(-1.0, 1.0, (1, hidden)), levels, axis=0),
            last=0.1 * rng.standard_normal(hidden) / np.sqrt(hidden),
            size=np.asarray(size, dtype=float),
        )

    def __call__(self, h: np.ndarray, share: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Values, shape (n,), and gradients in h at fixed shares, shape (n, d).

        Parameters
        ----------
        h : array of shape (n, d)
        share : array of shape (n, G)
        k : int
            Noise level.
        """
        groups, hidden, d = self.first.shape
        blend = (h @ self.first.reshape(-1, d).T).reshape(-1, groups, hidden)
        blend = self.gain[k] * blend + self.level[k]
        u = np.einsum("ngh,ng->nh", blend, share)
        gate = expit(u)
        v = (u * gate) @ self.second.T + share @ self.by_group + self.by_level[k]
        gate_v = expit(v)
        back = self.size[k] * self.last * gate_v * (1.0 + v * (1.0 - gate_v))
        back = (back @ self.second) * gate * (1.0 + u * (1.0 - gate)) * self.gain[k]
        parts = np.einsum("nh,ghd->ngd", back, self.first, optimize=True)
        return self.size[k] * (v * gate_v) @ self.last, np.einsum("ngd,ng->nd", parts, share)
