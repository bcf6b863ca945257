"""Coordinates of the Gaussian processes, and points that fill the prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import expit, ndtri

if TYPE_CHECKING:
    from pymc_multimodal.target import Density

__all__ = ["LOGISTIC_SPREAD", "Bounded", "Features", "prior_design"]

# Prior draws of which the design takes some, for each point of the design. Conventional.
DRAWS_PER_POINT = 32
# Half the distance between the 16th and the 84th percentile of the logistic distribution.
LOGISTIC_SPREAD = 1.668


@dataclass(frozen=True, eq=False)
class Bounded:
    """Coordinates of which the prior is the logistic distribution, as the shares that lie below.

    The logit of a uniform parameter becomes the parameter again: a simulator is a smooth function
    of that up to its bounds, and of the logit it is one with a long flat tail on either side.

    Attributes
    ----------
    which : array of int, shape (b,)
        Their numbers.
    centre, spread : arrays of shape (d,)
        Of the prior; robust (`StartDistribution`).
    """

    which: np.ndarray
    centre: np.ndarray
    spread: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Points (n, d), with shares in (0, 1) in place of these coordinates."""
        out, own = np.array(x, dtype=float), self.which
        scale = self.spread[own] / LOGISTIC_SPREAD
        out[:, own] = expit((out[:, own] - self.centre[own]) / scale)
        return out


@dataclass(frozen=True, eq=False)
class Features:
    """Some coordinates in units of the prior's spread; cosine and sine of those that are circular.

    Attributes
    ----------
    inputs : array of int, shape (i,)
        Coordinates that are used.
    centre, spread, period : arrays of shape (d,)
    bounded : Bounded or None
        What is done with the coordinates before; centre and spread are those of the result.
    """

    inputs: np.ndarray
    centre: np.ndarray
    spread: np.ndarray
    period: np.ndarray
    bounded: Bounded | None = None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Features of points (n, d), shape (n, f)."""
        x = x if self.bounded is None else self.bounded(x)
        x, period = x[:, self.inputs], self.period[self.inputs]
        circular = np.isfinite(period)
        line = ~circular
        z = (x[:, line] - self.centre[self.inputs[line]]) / self.spread[self.inputs[line]]
        angle = 2.0 * np.pi * x[:, circular] / period[circular]
        return np.concatenate([z, np.cos(angle), np.sin(angle)], axis=1)


def prior_design(density: Density, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw n points of the prior that fill it evenly, shape (n, d).

    Each point of a scrambled Sobol sequence takes the nearest prior draw that is left, in the
    normal scores of the coordinates' ranks: so the points follow the prior's dependence, too.

    Parameters
    ----------
    density : Density
        With a prior.
    n : int
    rng : numpy.random.Generator
    """
    from scipy.stats import rankdata
    from scipy.stats.qmc import Sobol

    draws = density.prior_draws(DRAWS_PER_POINT * n, rng)
    scores = ndtri(rankdata(draws, axis=0) / (len(draws) + 1.0))
    sobol = Sobol(density.dim, rng=rng)
    wanted = ndtri(np.clip(sobol.random(2 ** int(np.ceil(np.log2(n))))[:n], 1e-6, 1 - 1e-6))
    tree, taken = cKDTree(scores), np.zeros(len(draws), dtype=bool)
    chosen = []
    for point in wanted:
        near = DRAWS_PER_POINT
        while (
            free := [i for i in np.atleast_1d(tree.query(point, near)[1]) if not taken[i]]
        ) == []:
            near = min(4 * near, len(draws))
        taken[free[0]] = True
        chosen.append(free[0])
    return draws[chosen]
