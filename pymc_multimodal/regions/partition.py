"""The partition: every point of R^d has one region, so that evidences add up exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pymc_multimodal.moves.local import moved_labels
from pymc_multimodal.regions.heights import plausible_floor
from pymc_multimodal.regions.nearest import NearestMode, nearest_mode
from pymc_multimodal.regions.svc import SupportVectors

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymc_multimodal.regions.settings import Regions
    from pymc_multimodal.status import Status
    from pymc_multimodal.target.protocol import LogDensity

__all__ = [
    "LabelledPoints",
    "Partition",
    "PermutedPartition",
    "divide",
    "expected_labels",
    "label_of",
    "mixing_groups",
]

# Training points of the classifier that come from the search, per draw of the pilot chains: chains
# say more about where a region is than starts do. Measured: examples/benchmarks/constants.py
EXTRA_SHARE = 4
# The highest of every 16th draw of a mode's pilot chains stands for the height of the mode: a few
# evaluations are enough. Measured: examples/benchmarks/constants.py
HEIGHT_STRIDE = 16
# Share of a mode's unrestricted chains, and of its last moves, that are looked at for mixing.
# Conventional: the last quarter.
LATE_SHARE = 4
# A mode that more than half of its own chains have left is no mode by itself. Two modes that
# exchange three tenths of their chains within the few pilot moves are one for any longer run.
# Measured: examples/benchmarks/constants.py
LEFT, EXCHANGED = 0.5, 0.3


class Partition(Protocol):
    """A labelling of R^d by disjoint regions that cover it."""

    n_regions: int
    statuses: tuple[Status, ...]

    def label(self, x: np.ndarray) -> np.ndarray:
        """Region of each row: (n, d) -> int array of shape (n,)."""
        ...


@dataclass(frozen=True)
class LabelledPoints:
    """Points of which the mode is known.

    Attributes
    ----------
    x : array of shape (n, d)
    mode : array of int, shape (n,)
        -1 where it is not known: such points are left out.
    """

    x: np.ndarray
    mode: np.ndarray

    def take(self, rows: np.ndarray) -> LabelledPoints:
        """Return some points, in the order of `rows` (indices or a mask)."""
        return LabelledPoints(self.x[rows], self.mode[rows])


def divide(
    target: LogDensity,
    pilot_draws: np.ndarray,
    settings: Regions,
    *,
    extra: LabelledPoints | None = None,
    corrections: LabelledPoints | None = None,
) -> Partition:
    """Divide R^d into one region per mode.

    Parameters
    ----------
    target : LogDensity
    pilot_draws : array of shape (K, m, d)
        Draws of short unrestricted chains, by the mode they began in.
    settings : Regions
    extra : LabelledPoints, optional
        Starts and points on the optimisers' paths. At most a quarter as many as there are pilot
        draws are used, those of plausible height only.
    corrections : LabelledPoints, optional
        Points that an earlier partition put into the wrong region; all are used.

    Returns
    -------
    Partition
    """
    k, m, d = pilot_draws.shape
    if k == 1 or settings.method == "nearest" or k > settings.max_svc_modes:
        return nearest_mode(target, pilot_draws)
    x, mode = [pilot_draws.reshape(-1, d)], [np.repeat(np.arange(k), m)]
    if extra is not None:
        extra = _plausible(target, pilot_draws, _thinned(extra, k, m // EXTRA_SHARE))
        x.append(extra.x)
        mode.append(extra.mode)
    if corrections is not None:
        known = corrections.mode >= 0
        x.append(corrections.x[known])
        mode.append(corrections.mode[known])
    return SupportVectors(
        np.concatenate(x), np.concatenate(mode), target.period, settings, judged=k * m
    )


def _thinned(points: LabelledPoints, k: int, most: int) -> LabelledPoints:
    """Keep evenly spaced points, at most so many of each mode."""
    chosen: list[int] = []
    for mode in range(k):
        rows = np.flatnonzero(points.mode == mode)
        chosen += list(rows[:: max(1, len(rows) // max(most, 1))][:most])
    return points.take(np.array(chosen, dtype=int))


def _plausible(
    target: LogDensity, pilot_draws: np.ndarray, points: LabelledPoints
) -> LabelledPoints:
    """Keep points that hold mass: a border that bends to suit others cuts through the mass."""
    k, _, d = pilot_draws.shape
    height = target.logp(pilot_draws[:, ::HEIGHT_STRIDE].reshape(-1, d)).reshape(k, -1).max(axis=1)
    if not len(points.x):
        return points
    return points.take(target.logp(points.x) > plausible_floor(height[points.mode], d))


class PermutedPartition:
    """A partition with its regions renumbered.

    Parameters
    ----------
    base : Partition
    order : array of int, shape (K,)
        ``order[i]`` is the old number of the new region i.
    """

    def __init__(self, base: Partition, order: np.ndarray) -> None:
        self.base = base
        self.n_regions = base.n_regions
        self._rank = np.argsort(order)
        self.statuses = base.statuses

    def label(self, x: np.ndarray) -> np.ndarray:
        """Region of each row, shape (n,)."""
        return self._rank[self.base.label(x)]


def expected_labels(partition: Partition, x: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Region of each row, quicker where most rows are in the regions that are expected.

    Parameters
    ----------
    partition : Partition
    x : array of shape (n, d)
    region : array of int, shape (n,)
        The regions that are expected.

    Returns
    -------
    array of int, shape (n,)
    """
    return moved_labels(label_of(partition), x, region)


def label_of(partition: Partition) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that labels points, as `moves.move` takes it."""
    return partition if isinstance(partition, NearestMode) else partition.label


def mixing_groups(target: LogDensity, pilot_draws: np.ndarray) -> np.ndarray:
    """Group modes whose unrestricted chains mix.

    Parameters
    ----------
    target : LogDensity
        For the periods of its coordinates.
    pilot_draws : array of shape (K, chains, moves, d)

    Returns
    -------
    array of int, shape (K,)
        Group of each mode, numbered from 0 in order of first appearance.
    """
    k, _, moves, d = pilot_draws.shape
    group = np.arange(k)
    if k == 1:
        return group
    late = pilot_draws[:, :, -max(1, moves // LATE_SHARE) :].reshape(k, -1, d)
    partition = nearest_mode(target, late)
    # Share of the draws of mode a's chains that are nearest to mode b, shape (K, K).
    own = np.repeat(np.arange(k), late.shape[1])
    label = expected_labels(partition, late.reshape(-1, d), own).reshape(k, -1)
    share = np.stack([np.bincount(row, minlength=k) for row in label]) / late.shape[1]
    joined = (share > LEFT) | (share.T > LEFT) | ((share > EXCHANGED) & (share.T > EXCHANGED))
    for a, b in np.argwhere(np.triu(joined, k=1)):
        group[group == group[b]] = group[a]
    return np.unique(group, return_inverse=True)[1]
