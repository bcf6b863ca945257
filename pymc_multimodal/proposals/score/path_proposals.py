"""Proposals of a fit by Langevin paths: the score proposes, a log ratio on paths corrects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from pymc_multimodal.proposals.base import Diffuses, Proposals, RegionalMixture

if TYPE_CHECKING:
    from pymc_multimodal.proposals.base import RegionDensity
    from pymc_multimodal.proposals.score.langevin_paths import LangevinPath
    from pymc_multimodal.status import Status

__all__ = ["ScoreProposals"]

# Share of the proposals without a path (Hesterberg 1995): their log ratio is bounded. Conventional.
DEFENSIVE_SHARE = 0.1


class UncorrectedSampler(Protocol):
    """What draws fast, without a correction."""

    def generate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of shape (n, d)."""
        ...


class ScoreProposals(RegionalMixture):
    """Proposals by Langevin paths of a learned score, or by the regional mixture alone.

    A path starts in the regional mixture. Its target is ``pi(x) R(path | x)``, where R is the
    distribution of paths that are drawn back from x. With the share `defensive` a proposal is a
    draw x of the mixture q with a path from R, so that the density of path and end over R is
    ``(1 - eps) Q / R + eps q(x)``, and the ratio of target to proposal is bounded by that of the
    target to ``eps q``.

    Parameters
    ----------
    densities : sequence of RegionDensity
    weights : array of shape (K,)
    path : LangevinPath, optional
    defensive : float
        The share eps.
    uncorrected : object with a method ``generate(n, rng)``, optional
        What `generate` draws from, a `ScoreGenerator` in a fit; the mixture without it.
    fallbacks : tuple of Status
    """

    def __init__(
        self,
        densities: tuple[RegionDensity, ...],
        weights: np.ndarray,
        path: LangevinPath | None = None,
        defensive: float = DEFENSIVE_SHARE,
        *,
        uncorrected: UncorrectedSampler | None = None,
        fallbacks: tuple[Status, ...] = (),
    ) -> None:
        super().__init__(densities, weights)
        self.path, self.defensive = path, defensive
        self.uncorrected = uncorrected
        self.fallbacks = tuple(fallbacks)
        self.auxiliary = path is not None

    def generate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Uncorrected draws: early-stopped Langevin runs from draws of the regions by weight."""
        if self.uncorrected is None:
            return super().generate(n, rng)
        return self.uncorrected.generate(n, rng)

    def diffuse(self, n: int, rng: np.random.Generator) -> np.ndarray | None:
        """Langevin runs of the learned score from noise, shape (steps + 1, n, d); None without."""
        learned = self.uncorrected
        return learned.diffuse(n, rng) if isinstance(learned, Diffuses) else None

    def propose(self, n: int, rng: np.random.Generator) -> Proposals:
        """Draws with minus their log densities."""
        if self.path is None:
            return super().propose(n, rng)
        region = rng.choice(len(self.weights), size=n, p=self.weights)
        x = np.empty((n, self.dim))
        for k in np.unique(region):
            x[region == k] = self.densities[k].sample(int(np.sum(region == k)), rng)
        paths = self.path.forward(x, region, rng)
        defended = rng.random(n) < self.defensive
        if defended.any():
            # A draw of the mixture: its region is drawn anew, given the point.
            region[defended] = self._draw_region(x[defended], rng)
            paths[:, defended] = self.path.backward(x[defended], region[defended], rng)
        end = np.where(defended[:, None], x, self.path.coordinates.to_x(paths[-1]))
        return Proposals(end, self._minus_log_q(self.path, end, paths, region))

    def minus_log_q(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Minus the log densities of given points, the path to each drawn afresh; shape (n,)."""
        if self.path is None:
            return super().minus_log_q(x, rng)
        region = self._draw_region(x, rng)
        return self._minus_log_q(self.path, x, self.path.backward(x, region, rng), region)

    def _region_log_densities(self, x: np.ndarray) -> np.ndarray:
        """Weighted log density of each region at x, shape (n, K)."""
        logs = np.stack([q.log_density(x) for q in self.densities], axis=1)
        return logs + np.log(self.weights)

    def _draw_region(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw a region for each x, in proportion to its density there; shape (n,)."""
        logs = self._region_log_densities(x)
        # The largest of logs with Gumbel noise has the probabilities exp(logs) over their sum.
        region: np.ndarray = np.argmax(logs + rng.gumbel(size=logs.shape), axis=1)
        return region

    def _minus_log_q(
        self, path: LangevinPath, x: np.ndarray, paths: np.ndarray, region: np.ndarray
    ) -> np.ndarray:
        rows = np.arange(len(x))
        at_end = self._region_log_densities(x)
        mixture = np.logaddexp.reduce(at_end, axis=1)
        at_start = self._region_log_densities(path.coordinates.to_x(paths[0]))[rows, region]
        log_back = at_end[rows, region] - mixture + path.log_ratio(paths, region)
        return -np.logaddexp(
            np.log1p(-self.defensive) + at_start - log_back, np.log(self.defensive) + mixture
        )
