"""The proposals of each region's bridge, with the log densities that were evaluated for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.regions import expected_labels

if TYPE_CHECKING:
    from pymc_multimodal.proposals.base import RegionDensity, RegionFit
    from pymc_multimodal.regions import Partition, RegionDraws
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["BridgeSamples", "begin_samples", "draw_ratios", "extend_samples", "replace_densities"]


@dataclass(frozen=True)
class BridgeSamples:
    """Proposals of K regional densities.

    Attributes
    ----------
    fitted : RegionFit
        The densities q_k that the proposals were drawn from.
    ratios : tuple of K arrays of shape (n_k,)
        Log ratios ``log gamma - log q_k`` of all proposals of q_k; -inf outside of region k.
    points : tuple of K arrays of shape (m_k, d)
        The proposals of q_k that are points of the space (``m_k <= n_k``), in another order than
        their ratios.
    logp : tuple of K arrays of shape (m_k,)
        Log density of the target at the points. NaN where it was not evaluated, because the point
        lies in another region.
    """

    fitted: RegionFit
    ratios: tuple[np.ndarray, ...]
    points: tuple[np.ndarray, ...]
    logp: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.ratios)

    @property
    def n_proposals(self) -> np.ndarray:
        """Number of proposals of each region, shape (K,)."""
        return np.array([len(ratio) for ratio in self.ratios])


def begin_samples(fitted: RegionFit, dim: int) -> BridgeSamples:
    """Return a record without proposals.

    Parameters
    ----------
    fitted : RegionFit
        One density for each region.
    dim : int
        Number of coordinates.

    Returns
    -------
    BridgeSamples
    """
    k = len(fitted.densities)
    return BridgeSamples(fitted, (np.empty(0),) * k, (np.empty((0, dim)),) * k, (np.empty(0),) * k)


def extend_samples(
    samples: BridgeSamples,
    target: LogDensity,
    partition: Partition,
    counts: np.ndarray,
    rng: np.random.Generator,
) -> BridgeSamples:
    """Draw ``counts[k]`` more proposals of each region and evaluate them in one batch.

    Proposals that fall outside of their region cost no evaluation.

    Parameters
    ----------
    samples : BridgeSamples
    target : LogDensity
    partition : Partition
    counts : array of int, shape (K,)
    rng : numpy.random.Generator

    Returns
    -------
    BridgeSamples

    Raises
    ------
    LimitReached
        If the target refuses evaluations and a limit of the fit is reached.
    """
    asked = np.flatnonzero(counts)
    if not len(asked):
        return samples
    xs = [samples.fitted.densities[k].sample(int(counts[k]), rng) for k in asked]
    # Rows of NaN fell outside of the window of a circular coordinate.
    are_points = [np.isfinite(x).all(axis=1) for x in xs]
    insides = [is_point.copy() for is_point in are_points]
    if partition.n_regions > 1:
        x = np.concatenate([x[own] for x, own in zip(xs, are_points, strict=True)])
        sizes = [int(own.sum()) for own in are_points]
        expected = np.repeat(asked, sizes)
        right = expected_labels(partition, x, expected) == expected
        for inside, part in zip(insides, np.split(right, np.cumsum(sizes)[:-1]), strict=True):
            inside[inside] = part
    drawn = [
        (k, x[inside], x[is_point & ~inside], int(np.sum(~inside)))
        for k, x, is_point, inside in zip(asked, xs, are_points, insides, strict=True)
    ]
    logp = target.logp(np.concatenate([inside for _, inside, _, _ in drawn]))
    ratios, points, logps = list(samples.ratios), list(samples.points), list(samples.logp)
    first = 0
    for k, inside, outside, n_zero in drawn:
        own = logp[first : first + len(inside)]
        first += len(inside)
        ratio = own - samples.fitted.densities[k].log_density(inside)
        ratios[k] = np.concatenate([ratios[k], np.full(n_zero, -np.inf), ratio])
        points[k] = np.concatenate([points[k], outside, inside])
        logps[k] = np.concatenate([logps[k], np.full(len(outside), np.nan), own])
    return BridgeSamples(samples.fitted, tuple(ratios), tuple(points), tuple(logps))


def replace_densities(
    samples: BridgeSamples, fitted: RegionFit, regions: np.ndarray
) -> BridgeSamples:
    """Replace the densities of some regions, and drop the proposals of their old densities.

    Parameters
    ----------
    samples : BridgeSamples
    fitted : RegionFit
        Density i, and statuses of mode i, belong to region ``regions[i]``.
    regions : array of int

    Returns
    -------
    BridgeSamples
        The statuses of the other regions are kept.
    """
    densities = list(samples.fitted.densities)
    ratios, points, logps = list(samples.ratios), list(samples.points), list(samples.logp)
    for k, q in zip(regions, fitted.densities, strict=True):
        densities[k] = q
        ratios[k], points[k], logps[k] = ratios[k][:0], points[k][:0], logps[k][:0]
    statuses = [s for s in samples.fitted.statuses if s.mode is None or s.mode not in regions]
    statuses += [
        s if s.mode is None else replace(s, mode=int(regions[s.mode]))
        for s in fitted.statuses
        if s.mode is not None or s not in statuses
    ]
    fitted = replace(fitted, densities=tuple(densities), statuses=tuple(statuses))
    return BridgeSamples(fitted, tuple(ratios), tuple(points), tuple(logps))


def draw_ratios(
    draws: RegionDraws, k: int, q: RegionDensity, chains: slice = slice(None)
) -> np.ndarray:
    """Log ratios of the target to q at the draws of region k, shape (chains, n)."""
    x = draws.x[k][chains]
    log_q = q.log_density(x.reshape(-1, x.shape[2])).reshape(x.shape[:2])
    return draws.logp[k][chains] - log_q
