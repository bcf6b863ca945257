"""Draws of all regions in proportion to the regions' weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.proposals.base import split_chains
from pymc_multimodal.proposals.elliptical import EllipticalMixture
from pymc_multimodal.proposals.mixture import GaussianMixture
from pymc_multimodal.proposals.score.stored import StoredDraws

if TYPE_CHECKING:
    from pymc_multimodal.proposals.base import RegionFit
    from pymc_multimodal.regions.draws import RegionDraws

__all__ = ["PooledDraws", "pool_draws"]

# Draws of all regions at most, the share of them that is held out, and held-out draws that judge
# proposals at most. Measured: examples/benchmarks/constants.py.
MAX_POOLED_DRAWS, HELD_OUT_SHARE, MAX_TEST_DRAWS = 5000, 0.2, 2000
# Least weight of a region in the mixture, so that its logarithm is finite. Conventional.
MIN_REGION_WEIGHT = 1e-6
# Factor of the scale matrix of a Student-t density without a variance (df of at most 2), that of
# df = 3. Conventional.
COVARIANCE_FACTOR_WITHOUT_VARIANCE = 3.0


@dataclass(frozen=True)
class PooledDraws:
    """Draws of all regions in proportion to the regions' weights.

    Attributes
    ----------
    stored : StoredDraws
    held_out : bool array of shape (n,)
        Rows of the chains that are reserved for choices.
    gradient : array of shape (n, d) or None
    mixture : GaussianMixture
        Mixture of all regions' densities.
    test_x, test_logp : arrays of shape (m, d) and (m,)
        Some of the held-out rows, with the log density of the target.
    """

    stored: StoredDraws
    held_out: np.ndarray
    gradient: np.ndarray | None
    mixture: GaussianMixture
    test_x: np.ndarray
    test_logp: np.ndarray


def pool_draws(
    fitted: RegionFit, local: RegionDraws, weights: np.ndarray, rng: np.random.Generator
) -> PooledDraws:
    """Take draws of every region by weight, those to fit on and those to choose by.

    Parameters
    ----------
    fitted : RegionFit
        Elliptical densities of the regions.
    local : RegionDraws
    weights : array of shape (K,)
    rng : numpy.random.Generator

    Returns
    -------
    PooledDraws
    """
    share = np.where(np.isfinite(weights), weights, 0.0)
    share = share / share.sum()
    xs, logps, grads, held = [], [], [], []
    to_fit, to_choose, _ = split_chains(len(local.x[0]))
    for part, part_share in ((to_fit, 1 - HELD_OUT_SHARE), (to_choose, HELD_OUT_SHARE)):
        available = min(x[part].shape[0] * x.shape[1] for x in local.x)
        total = min(MAX_POOLED_DRAWS * part_share, available * len(local))
        for k, count in enumerate(np.round(share * total).astype(int)):
            own = local.x[k][part].reshape(-1, local.x[k].shape[-1])
            rows = _repeated_rows(len(own), count, rng)
            xs.append(own[rows])
            logps.append(local.logp[k][part].ravel()[rows])
            grads.append(local.grad[k][part].reshape(len(own), -1)[rows])
            held.append(np.full(count, part is to_choose))
    x, held_out, logp = np.concatenate(xs), np.concatenate(held), np.concatenate(logps)
    gradient = np.concatenate(grads)
    every = max(1, int(held_out.sum()) // MAX_TEST_DRAWS)
    return PooledDraws(
        stored=StoredDraws(x, {"x": (x.shape[1],)}, {}, 0),
        held_out=held_out,
        gradient=gradient if gradient.shape[1] else None,
        mixture=_whole_mixture(fitted, share),
        test_x=x[held_out][::every],
        test_logp=logp[held_out][::every],
    )


def _repeated_rows(n: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Choose `count` of n rows at random; each row is used as often as any other, or once more."""
    rounds = [rng.permutation(n) for _ in range(-(-count // n))]
    return np.concatenate([*rounds, np.empty(0, dtype=int)])[:count]


def _whole_mixture(fitted: RegionFit, weights: np.ndarray) -> GaussianMixture:
    """Gaussian mixture with the means and covariances of all regions' densities."""
    component_weights, means, covariances = [], [], []
    for density, weight in zip(
        fitted.densities, np.maximum(weights, MIN_REGION_WEIGHT), strict=True
    ):
        core = density.undefended
        assert isinstance(core, EllipticalMixture)
        component_weights.append(weight * core.weights / core.weights.sum())
        means.append(core.means)
        factor = np.where(core.df > 2, 1.0, COVARIANCE_FACTOR_WITHOUT_VARIANCE)
        heavy = np.isfinite(core.df) & (core.df > 2)
        factor[heavy] = core.df[heavy] / (core.df[heavy] - 2)
        scale_matrices = core.scales @ core.scales.swapaxes(1, 2)
        covariances.append(factor[:, None, None] * scale_matrices)
    whole = np.concatenate(component_weights)
    return GaussianMixture.from_covariances(
        whole / whole.sum(), np.concatenate(means), np.concatenate(covariances)
    )
