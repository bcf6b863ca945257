"""A PyMC model with a known answer for all data: one compiled graph for each dimension.

The coordinates x are normal. The data y come from an unknown one of K linear maps of x:
``y ~ sum_k p_k N(B_k x + c_k, diag(r_k^2))``. The posterior is a mixture of K normals with
exact weights and evidence. K, p, B, c, r and y are all data of the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from random_models import (
    MAX_MODES,
    PRIOR_SD,
    Placed,
    RandomModel,
    random_centres,
    random_turns,
    random_widths,
    real_prior,
    standard_normal,
)
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from pymc_multimodal.model.build import density_of
from pymc_multimodal.target.density import Density

# Dimensions that are compiled. A model gets the largest that does not exceed its own dimension.
DIMENSIONS = (1, 2, 4, 8, 15, 30)
# Log probability of a map that fills up the K maps of the graph.
ABSENT = -1e6


@dataclass(frozen=True)
class InverseData:
    """The data of the graph.

    Attributes
    ----------
    log_p : array of shape (K,)
    maps : array of shape (K, d, d)
    offsets, noise : arrays of shape (K, d)
    y : array of shape (d,)
    """

    log_p: np.ndarray
    maps: np.ndarray
    offsets: np.ndarray
    noise: np.ndarray
    y: np.ndarray

    def padded(self) -> dict[str, np.ndarray]:
        """Fill up to the number of maps that the graph has."""
        more = MAX_MODES - len(self.log_p)
        dim = len(self.y)
        return {
            "log_p": np.append(self.log_p, np.full(more, ABSENT)),
            "maps": np.concatenate([self.maps, np.zeros((more, dim, dim))]),
            "offsets": np.concatenate([self.offsets, np.zeros((more, dim))]),
            "noise": np.concatenate([self.noise, np.ones((more, dim))]),
            "y": self.y,
        }


@cache
def compiled(dim: int) -> tuple[pm.Model, Density]:
    """Compile the model of one dimension, with data to be set."""
    empty = InverseData(
        np.zeros(1), np.eye(dim)[None], np.zeros((1, dim)), np.ones((1, dim)), np.zeros(dim)
    )
    with pm.Model() as model:
        data = {name: pm.Data(name, value) for name, value in empty.padded().items()}
        x = pm.Normal("x", 0.0, PRIOR_SD, shape=dim)
        mean = pt.dot(data["maps"], x) + data["offsets"]
        each = pm.logp(pm.Normal.dist(mean, data["noise"]), data["y"]).sum(axis=1)
        pm.Potential("observed", pt.logsumexp(data["log_p"] + each))
    return model, density_of(model)


def renewed(model: pm.Model, density: Density, data: dict[str, np.ndarray]) -> Density:
    """Set the data of a compiled model, and the count of its evaluations to zero."""
    with model:
        pm.set_data(data)
    density.n_logp_evals = density.n_grad_evals = 0
    return density


def with_data(dim: int, data: InverseData) -> Density:
    """Return the density of the compiled model of one dimension with other data."""
    return renewed(*compiled(dim), data.padded())


def inverse(rng: np.random.Generator, dim: int, weights: np.ndarray) -> RandomModel:
    """Draw maps and data at random, and probabilities that lead to the posterior `weights`."""
    dim = max(d for d in DIMENSIONS if d <= dim)
    n_modes = len(weights)
    turns = random_turns(rng, n_modes, dim)
    noise = random_widths(rng, n_modes, dim)
    y = rng.standard_normal(dim)
    offsets = y - np.einsum("kij,kj->ki", turns, random_centres(rng, n_modes, dim))
    precision = np.swapaxes(turns, 1, 2) @ (turns / noise[..., None] ** 2)
    covariance = np.linalg.inv(precision + np.eye(dim) / PRIOR_SD**2)
    pull = np.einsum("kji,kj->ki", turns, (y - offsets) / noise**2)
    means = np.einsum("kij,kj->ki", covariance, pull)
    evidence = [
        multivariate_normal(c, PRIOR_SD**2 * b @ b.T + np.diag(r**2)).logpdf(y)
        for b, c, r in zip(turns, offsets, noise, strict=True)
    ]
    log_p = np.log(weights) - evidence
    log_z = -float(logsumexp(log_p))
    data = InverseData(log_p + log_z, turns, offsets, noise, y)
    return RandomModel(
        "inverse",
        weights,
        log_z,
        Placed(standard_normal(n_modes, dim), means, np.linalg.cholesky(covariance)),
        partial(real_prior, np.zeros(dim), PRIOR_SD),
        np.full(dim, np.inf),
        partial(with_data, dim, data),
    )
