"""The two fits of the published recipe: a Gaussian proposal, and a map, for each region."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from pymc_multimodal.proposals.base import RegionFit, split_chains
from pymc_multimodal.proposals.elliptical import (
    RELATIVE_RIDGE,
    EllipticalMixture,
    defensive_mixture,
)
from pymc_multimodal.proposals.elliptical_fit import fit_mixture, shrunk_factor
from pymc_multimodal.proposals.published.labels import (
    EmpiricalScore,
    MapError,
    SmoothedScore,
    labelled_pairs,
)
from pymc_multimodal.proposals.published.maps import train_map
from pymc_multimodal.status import Status, counted
from pymc_multimodal.target.circle import unroll

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.proposals.base import RegionDensity
    from pymc_multimodal.proposals.published.maps import SupervisedMap
    from pymc_multimodal.proposals.published.settings import PublishedSettings
    from pymc_multimodal.regions import RegionDraws

__all__ = ["GaussianProposals", "learn_map"]

# Fewest draws that a map is learned from, in all and for each dimension.
# Measured: examples/benchmarks/constants.py
MIN_DRAWS, MIN_DRAWS_PER_DIM = 100, 2
# Standard deviation relative to a coordinate's size under which the coordinate is constant: 1e4
# times the rounding error (2.2e-16).
CONSTANT = 1e-12
# One draw in so many is held out to choose the number of components; conventional.
HELD_OUT_EVERY = 8


@dataclass(frozen=True)
class GaussianProposals:
    """Per region the Gaussian ``N(mean, covariance)`` of its draws, with a defensive component.

    Parameters
    ----------
    share, df, width : float
        Share, degrees of freedom and relative standard deviation of the defensive component. It is
        not part of the published recipe, but corrected draws need not be exact without it.
    """

    share: float
    df: float
    width: float

    def fit_regions(
        self,
        draws: RegionDraws,
        period: np.ndarray,
        rng: np.random.Generator,
        previous: Sequence[RegionDensity | None] | None = None,
    ) -> RegionFit:
        """Fit the Gaussian of every region anew; `previous` and `rng` are not used."""
        with threadpool_limits(1, user_api="blas"):
            densities = tuple(self._fit(draws, k, period) for k in range(len(draws)))
        return RegionFit(densities, _statuses())

    def without_network(self) -> GaussianProposals:
        """Return itself: the proposals have no network."""
        return self

    def _fit(self, draws: RegionDraws, k: int, period: np.ndarray) -> EllipticalMixture:
        fit, _, _ = split_chains(len(draws.x[k]))
        d = draws.x[k].shape[-1]
        x = unroll(draws.x[k][fit].reshape(-1, d), draws.centre[k], period)
        size = CONSTANT * (1.0 + np.abs(x).max(axis=0))
        scale = shrunk_factor(x, size**2)
        gaussian = EllipticalMixture.single(x.mean(axis=0), scale, np.inf, period, draws.centre[k])
        return defensive_mixture(gaussian, self.share, self.df, self.width)


def _statuses() -> tuple[Status, ...]:
    no_density = Status(
        "no_density",
        "proposals",
        "the maps of the published recipe have no density: draws of pm.sample are exact and come "
        "from the Gaussian proposals.",
        "Use fit.generate(n, rng) for draws of the maps, which are not corrected.",
        level="info",
    )
    if find_spec("torch") is not None:
        return (no_density,)
    no_torch = Status(
        "no_torch",
        "proposals",
        "torch is not installed, so that no map can be trained: fit.generate draws from the "
        "Gaussian proposals.",
        "Install torch.",
    )
    return no_density, no_torch


def learn_map(
    draws: np.ndarray,
    density: EllipticalMixture,
    settings: PublishedSettings,
    rng: np.random.Generator,
) -> SupervisedMap:
    """Learn the map of one region from its draws.

    Parameters
    ----------
    draws : array of shape (chains, draws, d)
    density : EllipticalMixture
        Density of the region; its window on circular coordinates is used.
    settings : PublishedSettings
    rng : numpy.random.Generator

    Raises
    ------
    MapError
        If there are too few draws, coordinates do not vary, paths of the diffusion or the
        regression diverge, or torch is missing.
    """
    d = draws.shape[-1]
    x = unroll(draws.reshape(-1, d), density.centre, density.period)
    if len(x) < max(MIN_DRAWS, MIN_DRAWS_PER_DIM * d):
        raise MapError(
            f"the region has {counted(len(x), 'draw')} only, for {counted(d, 'coordinate')}.",
            "Raise LocalSampling.draws.",
        )
    mean, sd = x.mean(axis=0), x.std(axis=0)
    constant = np.flatnonzero(~(sd > CONSTANT * (1.0 + np.abs(mean))))
    if len(constant):
        raise MapError(
            f"the draws do not vary in the coordinates {constant[:8].tolist()}, or are not finite.",
            "Look for a variable without effect, or with a scale far from that of the others.",
        )
    z = (x - mean) / sd
    score: EmpiricalScore | SmoothedScore
    if settings.score == "smoothed":
        score = _smoothed_score(z, settings.max_components, rng)
    else:
        chosen = rng.permutation(len(z))[: settings.score_draws]
        score = EmpiricalScore(z[chosen], settings.neighbours, rng)
    labels = labelled_pairs(score, settings.pairs, d, rng, settings.ode_steps)
    learned = train_map(labels.y, labels.x, settings, rng)
    return learned.affine_image(mean, sd, density.period)


def _smoothed_score(z: np.ndarray, max_components: int, rng: np.random.Generator) -> SmoothedScore:
    """Score of a mixture fitted to standardised draws; a map needs no draws for a bridge."""
    d = z.shape[1]
    held_out = np.arange(len(z)) % HELD_OUT_EVERY == 0
    covariance = np.cov(z.T).reshape(d, -1) + RELATIVE_RIDGE * np.eye(d)
    line = np.full(d, np.inf)
    base = EllipticalMixture.single(
        z.mean(axis=0), np.linalg.cholesky(covariance), np.inf, line, np.zeros(d)
    )
    mixture = fit_mixture(z[~held_out], z[held_out], base, rng, max_components) or base
    return SmoothedScore(mixture.gaussian)
