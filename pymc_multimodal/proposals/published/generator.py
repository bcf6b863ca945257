"""The published recipe: Gaussian proposals for the weights, a supervised network for the draws."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from pymc_multimodal.proposals.base import RegionalMixture
from pymc_multimodal.proposals.elliptical import EllipticalMixture
from pymc_multimodal.proposals.published.labels import MapError
from pymc_multimodal.proposals.published.recipe import GaussianProposals, learn_map
from pymc_multimodal.proposals.published.settings import PublishedSettings
from pymc_multimodal.status import RAISE_LIMIT, Status, first_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.proposals.base import RegionDensity, RegionFit
    from pymc_multimodal.proposals.published.maps import SupervisedMap
    from pymc_multimodal.regions import RegionDraws
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["PublishedGenerator", "PublishedHybrid"]

_log = logging.getLogger("pymc.multimodal")


@dataclass(frozen=True)
class PublishedHybrid(PublishedSettings):
    """The recipe of arXiv 2505.07825: per region a plain network from normal noise to draws.

    Each region gets the Gaussian proposal ``N(mean, covariance)`` of its draws, with which the
    weights are bridged, and a map: a training-free reverse diffusion pairs normal noise with
    draws, and a network is regressed on the pairs by mean squared error.

    The network has no density. So corrected draws, those of `pm.sample`, come from the Gaussian
    proposals and are exact; ``generate`` alone uses the maps, and its draws are not corrected.

    Parameters
    ----------
    score : {"empirical", "smoothed"}
        Score of the diffusion: of the noised draws themselves, as published, or of a noised
        Gaussian mixture fitted to them, whose smooth map a network can learn.
    pairs : int
        Pairs of noise and label. The authors' code: 50,000.
    score_draws : int
        Draws in the sum of the empirical score, chosen at random if there are more.
    neighbours : int, optional
        Draws nearest to a point that the empirical score sums over one by one, the rest being
        represented by as many others; None for all. The authors' code: 2,048.
    ode_steps : int
        Euler steps of the reverse diffusion. The authors' code: 500 to 10,000.
    hidden : tuple of int
        Widths of the hidden layers. The authors' code: (100, 100).
    learning_rate : float
        Of Adam. The authors' code: 0.001.
    train_steps : int
        Steps of Adam. The authors' code: 10,000.
    batch : int, optional
        Pairs per step; None for all of them, as in the authors' code.
    max_components : int
        Largest number of components of the mixture behind the smoothed score.
    defensive, defensive_df, defensive_width : float
        Share, degrees of freedom and relative standard deviation of the heavy-tailed component
        that is added to every Gaussian proposal. It is not part of the recipe, but corrected draws
        need not be exact without it.
    device : str
        Where the network is trained: "cpu", "cuda", another name torch knows, or "auto":
        "cuda" where there is one and a step of the training takes 1e9 floating-point operations.

    Raises
    ------
    TypeError, ValueError
        If a setting has the wrong type, or is out of range.

    Notes
    -----
    Tran, Zhang, Bao, Lu and Zhang (2025), arXiv 2505.07825, sections 3.3 to 3.5. With the
    defaults a region takes some seconds; the numbers of the authors' code take hours with all
    draws in the score. With the empirical score the labels spread as the draws do, and the
    network much less in more than a few dimensions: the diffusion ends on the draws themselves,
    and a regression averages over them.
    """

    @property
    def regional(self) -> GaussianProposals:
        """How the density of each region is fitted; the maps are trained by `build`."""
        return GaussianProposals(self.defensive, self.defensive_df, self.defensive_width)

    def build(
        self,
        fitted: RegionFit,
        local: RegionDraws,
        weights: np.ndarray,
        rng: np.random.Generator,
        density: LogDensity | None = None,
    ) -> PublishedGenerator:
        """Train the map of every region on its draws; a region without a map keeps its Gaussian.

        Parameters
        ----------
        fitted : RegionFit
            Made by `regional`.
        local : RegionDraws
            The final draws. Neither the weights nor the corrected draws depend on a map: all
            chains are used.
        weights : array of shape (K,)
        rng : numpy.random.Generator
        density : LogDensity, optional
            No map is trained once it has reached a limit; it is not evaluated.

        Returns
        -------
        PublishedGenerator
            Its `fallbacks` say for which regions no map could be trained, and why.
        """
        maps: list[SupervisedMap | None] = []
        fallbacks: list[Status] = []
        for k, (proposal, stream) in enumerate(
            zip(fitted.densities, rng.spawn(len(local)), strict=True)
        ):
            began = time.monotonic()
            assert isinstance(proposal, EllipticalMixture)
            try:
                if density is not None and density.exhausted():
                    raise MapError("a limit of the fit was reached.", RAISE_LIMIT)
                with threadpool_limits(1, user_api="blas"):
                    maps.append(learn_map(local.x[k], proposal, self, stream))
            except (ImportError, RuntimeError, ValueError, MemoryError) as error:
                fallbacks.append(_no_map(k, error))
                maps.append(None)
            else:
                _log.debug("region %d: map trained in %.1f s", k, time.monotonic() - began)
        return PublishedGenerator(fitted.densities, weights, tuple(maps), tuple(fallbacks))


class PublishedGenerator(RegionalMixture):
    """Regional maps for fast draws, regional Gaussian densities for all that must be exact.

    ``generate`` draws a region by weight and maps normal noise. Proposals and corrections are
    those of the mixture of the densities.

    Parameters
    ----------
    densities : sequence of RegionDensity
    weights : array of shape (K,)
    maps : sequence of SupervisedMap or None
        None where a region has no map: its draws then come from its density.
    fallbacks : tuple of Status
        Why regions have no map.

    Raises
    ------
    ValueError
        If there are not as many maps as densities.

    Notes
    -----
    Step 7 of arXiv 2505.07825. A map may leave its region; such draws are not rejected.
    """

    def __init__(
        self,
        densities: Sequence[RegionDensity],
        weights: np.ndarray,
        maps: Sequence[SupervisedMap | None],
        fallbacks: tuple[Status, ...] = (),
    ) -> None:
        super().__init__(densities, weights)
        if len(maps) != len(self.densities):
            raise ValueError(
                f"maps has {len(maps)} entries for {len(self.densities)} densities; give one "
                "each, None where there is no map."
            )
        self.maps = tuple(maps)
        self.fallbacks = tuple(fallbacks)

    def generate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Uncorrected draws of the maps, regions in proportion to their weights."""
        counts = rng.multinomial(n, self.weights)
        parts = [np.empty((0, self.dim))]
        for density, learned, count in zip(self.densities, self.maps, counts, strict=True):
            if learned is None:
                parts.append(RegionalMixture((density,), np.ones(1)).generate(int(count), rng))
            else:
                parts.append(learned.generate(int(count), rng))
        return np.concatenate(parts)[rng.permutation(n)]


def _no_map(k: int, error: Exception) -> Status:
    cause, remedy = first_line(error), "Look at device= and at the memory."
    if isinstance(error, MapError):
        cause, remedy = error.cause.rstrip("."), error.remedy
    status = Status(
        "no_map",
        "proposals",
        f"no map was trained: {cause}. Its uncorrected draws come from its Gaussian density.",
        remedy,
        mode=k,
    )
    _log.debug("region %d: %s", k, status.cause, exc_info=error)
    return status
