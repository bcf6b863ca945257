"""A learned scalar function of place and noise level, with its gradient, in NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from pymc_multimodal.proposals.lrds.reference import Features

__all__ = ["Potential"]

# Standard deviation of the output weights at random initialisation, times the root of the width:
# the potential starts close to zero. Conventional.
OUTPUT_SD = 0.1
# Half range of the biases at random initialisation, so that units differ in where they bend:
# whitened places have unit spread. Conventional.
BIAS_RANGE = 1.0


@dataclass(frozen=True, eq=False)
class Potential:
    """A network of two hidden layers, whose first layer is a mixture of experts.

    The modes of a posterior have directions of their own. Therefore the first layer has one matrix
    for each group of components; the pre-activations are averaged with the responsibilities of the
    groups at a point. Activations are ``silu(u) = u expit(u)``.

    Attributes
    ----------
    first : array of shape (G, H, d)
        Matrices of the first layer.
    first_gain : array of shape (K + 1, H)
        Factors of the first layer, by noise level: noise makes edges less steep.
    first_bias : array of shape (K + 1, G, H)
        Biases of the first layer, by noise level.
    second : array of shape (H, H)
        Matrix of the second layer.
    group_bias : array of shape (G, H)
    level_bias : array of shape (K + 1, H)
        Biases of the second layer, by group and by noise level.
    output : array of shape (H,)
        Weights of the output.
    scale : array of shape (K + 1,)
        Factor of the output, by noise level.
    """

    first: np.ndarray
    first_gain: np.ndarray
    first_bias: np.ndarray
    second: np.ndarray
    group_bias: np.ndarray
    level_bias: np.ndarray
    output: np.ndarray
    scale: np.ndarray

    @classmethod
    def random(
        cls, dim: int, groups: int, hidden: int, scale: np.ndarray, rng: np.random.Generator
    ) -> Potential:
        """Random initialisation, close to zero; levels differ in nothing but their `scale`."""
        levels = len(scale)
        return cls(
            first=rng.standard_normal((groups, hidden, dim)) / np.sqrt(dim),
            first_gain=np.ones((levels, hidden)),
            first_bias=np.repeat(
                rng.uniform(-BIAS_RANGE, BIAS_RANGE, (1, groups, hidden)), levels, axis=0
            ),
            second=rng.standard_normal((hidden, hidden)) / np.sqrt(hidden),
            group_bias=np.zeros((groups, hidden)),
            level_bias=np.repeat(rng.uniform(-BIAS_RANGE, BIAS_RANGE, (1, hidden)), levels, axis=0),
            output=OUTPUT_SD * rng.standard_normal(hidden) / np.sqrt(hidden),
            scale=np.asarray(scale, dtype=float),
        )

    def __call__(self, features: Features, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Values and gradients at noise level k.

        Parameters
        ----------
        features : Features
            Of n points.
        k : int

        Returns
        -------
        value : array of shape (n,)
        gradient : array of shape (n, d)
            In the whitened places, at fixed responsibilities.
        """
        whitened, responsibility = features
        groups, hidden, d = self.first.shape
        by_group = (whitened @ self.first.reshape(-1, d).T).reshape(-1, groups, hidden)
        by_group = self.first_gain[k] * by_group + self.first_bias[k]
        u = np.einsum("ngh,ng->nh", by_group, responsibility)
        gate_u = expit(u)
        v = (u * gate_u) @ self.second.T + responsibility @ self.group_bias + self.level_bias[k]
        gate_v = expit(v)
        value = self.scale[k] * (v * gate_v) @ self.output
        slope = self.scale[k] * self.output * gate_v * (1.0 + v * (1.0 - gate_v))
        slope = (slope @ self.second) * gate_u * (1.0 + u * (1.0 - gate_u)) * self.first_gain[k]
        gradients = np.einsum("nh,ghd->ngd", slope, self.first, optimize=True)
        return value, np.einsum("ngd,ng->nd", gradients, responsibility)
