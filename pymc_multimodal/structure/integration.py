"""Weights and evidence by importance sampling of the hubs, with the units summed out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.structure.conditional import Correction

if TYPE_CHECKING:
    from pymc_multimodal.structure.extended import Extended, UnitProposals
    from pymc_multimodal.target.density import Density

__all__ = ["UnbiasedMarginal", "UnitSample", "choose_points", "draw_units", "refit_mixtures"]

# Variance of the log marginal density that M points of each unit leave, at most where this needs
# no more than the largest M. Measured: Doucet et al. 2015 (doi:10.1093/biomet/asu075) find values
# near 1 best for chains; importance sampling wants less.
MAX_VARIANCE = 0.3
LEAST_POINTS, MOST_POINTS = 12, 64
# Largest squared radius that counts in a refit, in squared standard deviations. Conventional: rare
# points of large weight would widen the fit.
MAX_RADIUS = 25.0
# Draws by whose number the correction of an explanation is shrunk, for each coordinate.
# Conventional.
SHRINKAGE = 20.0
# Least variance of a correction, and least factor of a mass. Conventional.
LEAST_VARIANCE, LEAST_RATIO = 1e-4, 1e-3


class UnbiasedMarginal:
    """Unbiased estimates of the marginal density of the hubs: a new one in each call.

    Parameters
    ----------
    density : Density
    proposals : UnitProposals
    rng : numpy.random.Generator
    """

    def __init__(
        self, density: Density, proposals: UnitProposals, rng: np.random.Generator
    ) -> None:
        self.density, self.proposals, self.rng = density, proposals, rng

    def __call__(self, g: np.ndarray) -> tuple[np.ndarray, None]:
        """Estimate the log density of hubs (n, H), shape (n,)."""
        return self.proposals.draw(self.density, g, self.rng).log_marginal, None


@dataclass(frozen=True, eq=False)
class UnitSample:
    """What a sample of extended draws says, without its points.

    Attributes
    ----------
    x : array of shape (n, d)
        One draw for each of the hubs, chosen by the units' weights.
    logp : array of shape (n,)
        Log density of the draws.
    log_marginal : array of shape (n,)
    log_mean : array of shape (n, N)
        Log mean weight of each unit.
    share : array of float32, shape (n, N, K)
        Share of each explanation in its unit's weight.
    """

    x: np.ndarray
    logp: np.ndarray
    log_marginal: np.ndarray
    log_mean: np.ndarray
    share: np.ndarray

    def __len__(self) -> int:
        return len(self.logp)

    @classmethod
    def joined(cls, parts: list[UnitSample]) -> UnitSample:
        """Join samples."""
        names = ("x", "logp", "log_marginal", "log_mean", "share")
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def draw_units(
    density: Density, proposals: UnitProposals, g: np.ndarray, rng: np.random.Generator
) -> UnitSample:
    """Draw and weigh units at hubs (n, H)."""
    parts, k = [], proposals.mixtures.n_explanations
    for first in range(0, len(g), proposals.rows):
        own = proposals.draw(density, g[first : first + proposals.rows], rng)
        z, logp = own.chosen(rng)
        parts.append(
            UnitSample(
                proposals.units.scatter(own.g, z),
                logp,
                own.log_marginal,
                own.log_mean,
                own.mass(k).astype(np.float32),
            )
        )
    return UnitSample.joined(parts)


def choose_points(drawn: Extended) -> int:
    """Return how many points each unit needs, by the variance of some weights.

    Parameters
    ----------
    drawn : Extended
        At typical hubs.

    Returns
    -------
    int
    """
    weight = drawn.share * drawn.z.shape[1]
    variance = np.median(weight.var(axis=1, ddof=1).sum(axis=1))
    return int(np.clip(np.ceil(variance / MAX_VARIANCE), LEAST_POINTS, MOST_POINTS))


def refit_mixtures(
    proposals: UnitProposals, drawn: list[Extended], weights: list[np.ndarray]
) -> UnitProposals:
    """Correct the constants of the mixtures by weighted draws.

    Parameters
    ----------
    proposals : UnitProposals
        That `drawn` were drawn from.
    drawn : list of Extended
    weights : list of arrays of shape (n,)
        Weight of each of the hubs.

    Returns
    -------
    UnitProposals
    """
    mixtures = proposals.mixtures
    (n_units, b), k = mixtures.inside.shape, mixtures.n_explanations
    total, squares, expected = np.zeros((3, n_units, k))
    first, second = np.zeros((n_units, k, b)), np.zeros((n_units, k, b, b))
    for own, weight in zip(drawn, weights, strict=True):
        at = own.conditional
        mass = own.share * weight[:, None, None]
        predicted = np.exp(at.log_share[..., :k])
        predicted /= predicted.sum(axis=2, keepdims=True)
        expected += np.einsum("n,nuk->uk", weight, predicted)
        for j in range(k):
            step = own.z - at.mean[:, None, :, j]
            r = np.einsum("nuij,nmuj->nmui", at.inverse[:, :, j], step)
            near = (own.label == j) & (np.einsum("nmui,nmui->nmu", r, r) < MAX_RADIUS)
            w = mass * near
            total[:, j] += w.sum(axis=(0, 1))
            squares[:, j] += (w**2).sum(axis=(0, 1))
            first[:, j] += np.einsum("nmu,nmui->ui", w, r)
            second[:, j] += np.einsum("nmu,nmui,nmul->uil", w, r, r)
    old = mixtures.correction
    ess = total**2 / np.maximum(squares, 1e-300)
    trust = ess / (ess + SHRINKAGE * b)
    mean = first / np.maximum(total, 1e-300)[..., None]
    covariance = second / np.maximum(total, 1e-300)[..., None, None]
    covariance -= mean[..., :, None] * mean[..., None, :]
    eye = np.eye(b)
    covariance = trust[..., None, None] * covariance + (1 - trust)[..., None, None] * eye
    both = mixtures.inside[:, None, :, None] & mixtures.inside[:, None, None, :]
    covariance = np.where(both, covariance, eye) + LEAST_VARIANCE * eye
    least = np.maximum(total, LEAST_RATIO * expected)
    ratio = np.log(np.maximum(least, 1e-300) / np.maximum(expected, 1e-300))
    correction = Correction(
        old.shift + np.einsum("ukij,ukj->uki", old.factor, trust[..., None] * mean),
        old.factor @ np.linalg.cholesky(covariance),
        old.log_mass + np.where(expected > 0, trust * ratio, 0.0),
    )
    return replace(proposals, mixtures=replace(mixtures, correction=correction))
