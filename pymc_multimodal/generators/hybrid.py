"""The regional generator: per region the cheapest rung that held-out draws find good enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from pymc_multimodal.density import unroll
from pymc_multimodal.generators.base import RegionalMixture, RegionFit, split_chains
from pymc_multimodal.generators.gaussian import (
    fit_gaussian,
    fit_mixture,
    with_defence,
)

if TYPE_CHECKING:
    from pymc_multimodal.generators.gaussian import EllipticalMixture
    from pymc_multimodal.local import LocalDraws

__all__ = ["Hybrid"]

_RUNGS = ("gaussian", "mixture")


@dataclass(frozen=True)
class Hybrid:
    """A density for each region, from a ladder of rungs.

    Parameters
    ----------
    rungs : tuple of {"gaussian", "mixture"}
        Rungs that may be used; "gaussian" is always fitted first.
    max_components : int
        Most components of the mixture rung.
    min_gain : float
        Nats of mean held-out log density by which a higher rung has to beat the one below.
    defensive : float
        Share of the heavy-tailed component of every region.
    defensive_df : float
        Its degrees of freedom.

    Notes
    -----
    It stands where arXiv 2505.07825 has its regional networks; the rungs here have densities,
    which is what makes the corrected draws exact.
    """

    rungs: tuple[str, ...] = _RUNGS
    max_components: int = 16
    min_gain: float = 0.02
    defensive: float = 0.05
    defensive_df: float = 4.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rungs", tuple(self.rungs))
        unknown = [r for r in self.rungs if r not in _RUNGS]
        if unknown or not self.rungs:
            raise ValueError(f"Hybrid(rungs={self.rungs!r}): choose from {_RUNGS}.")
        if not 0 < self.defensive < 1:
            raise ValueError(
                f"Hybrid(defensive={self.defensive}) must lie between 0 and 1: without a "
                "heavy-tailed part the corrected draws need not be exact."
            )

    def fit_regions(
        self, local: LocalDraws, period: np.ndarray, rng: np.random.Generator
    ) -> RegionFit:
        """Fit the rungs of every region."""
        streams = rng.spawn(len(local))
        # Threads of the linear algebra only spin on matrices this small.
        with threadpool_limits(1, user_api="blas"):
            fits = [self._fit_region(local, k, period, streams[k]) for k in range(len(local))]
        return RegionFit(tuple(fits))

    def _fit_region(
        self, local: LocalDraws, k: int, period: np.ndarray, rng: np.random.Generator
    ) -> EllipticalMixture:
        fit, choose, _ = split_chains(len(local.x[k]))
        centre = local.centre[k]
        d = local.x[k].shape[-1]
        x = unroll(local.x[k][fit].reshape(-1, d), centre, period)
        held_out = unroll(local.x[k][choose].reshape(-1, d), centre, period)
        held_logp = local.logp[k][choose].ravel()
        grad = local.grad[k][fit].reshape(len(x), -1)
        density = fit_gaussian(x, grad if grad.shape[1] else None, held_out, period, centre)
        log_q = density.log_density(held_out)
        # Where the log ratio hardly varies, no higher rung can gain min_gain nats.
        room = 0.5 * np.var(held_logp - log_q) > self.min_gain
        if "mixture" in self.rungs and room:
            mixture = fit_mixture(x, held_out, density, rng, self.max_components)
            if mixture is not None:
                gain = np.mean(mixture.log_density(held_out) - log_q)
                density = mixture if gain > self.min_gain else density
        return with_defence(density, self.defensive, self.defensive_df, widen=1.2)

    def build(
        self,
        fitted: RegionFit,
        local: LocalDraws,
        weights: np.ndarray,
        rng: np.random.Generator,
    ) -> RegionalMixture:
        """Mix the regional densities by their weights."""
        return RegionalMixture(fitted.densities, weights)
