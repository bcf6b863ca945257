"""Sums over the densities of many regions, of which only the near ones are computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.proposals.elliptical import EllipticalMixture
from pymc_multimodal.target.blocks import Blocks
from pymc_multimodal.target.circle import is_circular
from pymc_multimodal.target.radii import RadiusBounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.moves import JumpDensity

__all__ = ["log_mixture"]

# Densities up to which all are computed: bounds gain nothing then. Conventional.
FEW_DENSITIES = 16
# Share of a sum that all terms which are left out have together at most: far below any standard
# error, and near the rounding error of log densities. Conventional.
LEFT_OUT = 1e-10
# Terms that are held at a time: 8 MB of float64. Conventional.
MAX_TERMS = 1_000_000


def log_mixture(
    densities: Sequence[JumpDensity], log_weights: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """Compute ``log sum_k exp(log_weights[k] + log q_k(x))``.

    With more than 16 elliptical densities, those of which a bound shows that they add next to
    nothing are left out: the cost of a point is then that of its near densities.

    Parameters
    ----------
    densities : sequence of K JumpDensity
        Normalised densities on R^d.
    log_weights : array of shape (K,)
    x : array of shape (n, d)

    Returns
    -------
    array of shape (n,)
    """
    near = None
    if len(densities) > FEW_DENSITIES:
        elliptical = [q for q in densities if isinstance(q, EllipticalMixture)]
        if len(elliptical) == len(densities) and not is_circular(elliptical[0].period).any():
            near = _Components(elliptical, log_weights)
    items = len(densities) if near is None else len(near.constant)
    size = max(1, MAX_TERMS // items)
    out = np.empty(len(x))
    for first in range(0, len(x), size):
        rows = x[first : first + size]
        if near is None:
            logs = np.stack([q.log_density(rows) for q in densities], axis=1)
            out[first : first + size] = np.logaddexp.reduce(logs + log_weights, axis=1)
        else:
            out[first : first + size] = near.log_sum(rows)
    return out


class _Components:
    """The components of elliptical densities, with bounds of what each adds at a point.

    Parameters
    ----------
    densities : sequence of EllipticalMixture
        Without circular coordinates.
    log_weights : array of shape (K,)
    """

    def __init__(self, densities: Sequence[EllipticalMixture], log_weights: np.ndarray) -> None:
        means = np.concatenate([q.means for q in densities])
        scales = np.concatenate([q.scales for q in densities])
        self.dim = means.shape[1]
        self.df = np.concatenate([q.df for q in densities])
        self.constant = np.concatenate(
            [q.log_constants + w for q, w in zip(densities, log_weights, strict=True)]
        )
        self.means = means
        inverse = np.concatenate([q.gaussian.inverse_factors for q in densities])
        self.inverse = inverse.swapaxes(1, 2)
        self.bounds = RadiusBounds(means, scales, inverse)
        self.heavy = np.flatnonzero(np.isfinite(self.df))
        self.cut = np.log(len(self.df) / LEFT_OUT)

    def log_sum(self, x: np.ndarray) -> np.ndarray:
        """Log of the sum of the components at rows of shape (n, d), shape (n,)."""
        bound = self._bounds(x)
        row = np.arange(len(x))
        best = np.argmax(bound, axis=1)
        top = self._terms(x, best)
        more = bound > (top - self.cut)[:, None]
        more[row, best] = False
        other, component = np.nonzero(more)
        terms = self._terms(x[other], component)
        largest = top.copy()
        np.maximum.at(largest, other, terms)
        largest = np.where(np.isfinite(largest), largest, 0.0)
        total = np.exp(top - largest) + np.bincount(
            other, np.exp(terms - largest[other]), minlength=len(x)
        )
        with np.errstate(divide="ignore"):
            out: np.ndarray = largest + np.log(total)
        return out

    def _bounds(self, x: np.ndarray) -> np.ndarray:
        """Upper bounds of the log terms at rows of shape (n, d), shape (n, components)."""
        radius = self.bounds.squared(x)
        bound = -0.5 * radius
        df = self.df[self.heavy]
        bound[:, self.heavy] = -0.5 * (df + self.dim) * np.log1p(radius[:, self.heavy] / df)
        bound += self.constant
        return bound

    def _terms(self, x: np.ndarray, component: np.ndarray) -> np.ndarray:
        """Log term of one component at each row, shape (n,)."""
        blocks = Blocks(component, len(self.df))
        z = blocks.times(x - self.means[component], self.inverse)
        radius = np.einsum("ni,ni->n", z, z)
        out = -0.5 * radius
        df = self.df[component]
        heavy = np.isfinite(df)
        df = df[heavy]
        out[heavy] = -0.5 * (df + self.dim) * np.log1p(radius[heavy] / df)
        out += self.constant[component]
        return out
