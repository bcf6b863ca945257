"""A trial run from the draws: what it does over time, and the time at which to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.proposals.score.two_sample import nearest_distance, permutation_test

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["RunStarts", "TrialRun", "observe_run"]

# Draws of either sample in a two-sample test, and in distances to the nearest start. A test takes
# the distances of all pairs: 640,000 numbers. Measured: examples/benchmarks/constants.py.
MAX_TESTED_DRAWS = 400
# The level of the two-sample test at the stop. Conventional.
STOP_LEVEL = 0.01
# The p-value of the starts themselves below which held-out draws are taken in the clusters' shares
# of the starts. Conventional.
SHARES_LEVEL = 0.1
# Fewest held-out draws that are left after that. Measured: examples/benchmarks/constants.py.
MIN_TESTED_DRAWS = 50
# Correlation of the points with their starts at which the start is forgotten. Conventional; a
# correlation of unrelated points by chance is added.
FORGOTTEN_CORRELATION = 0.05
# Median distance to the nearest start, relative to that of fresh draws, from which a point is no
# copy: in few dimensions the ratio varies by a tenth by chance. Measured:
# examples/benchmarks/constants.py.
MIN_NEAREST_RATIO = 0.8
# Coordinate beyond which a run has diverged, in units of a mode's spread. Conventional.
DIVERGED = 1e6


@dataclass(frozen=True)
class RunStarts:
    """Points that a run starts from.

    Attributes
    ----------
    z : array of shape (n, d)
    factors : array of shape (n, d, d)
        Factor of the preconditioner of each point.
    cluster : int array of shape (n,)
    """

    z: np.ndarray
    factors: np.ndarray
    cluster: np.ndarray


@dataclass(frozen=True)
class TrialRun:
    """A run from draws over time, compared with held-out draws that it did not start from.

    Attributes
    ----------
    time : array of shape (T,)
        The first entry is zero: the draws themselves.
    energy_distance : array of shape (T,)
        Squared energy distance to the held-out draws, unbiased: near zero where the two samples
        cannot be told apart.
    p_value : array of shape (T,)
        p-value of the permutation test that this distance is zero.
    start_correlation : array of shape (T,)
        Correlation of the points with their starts, of those points that stay in their cluster.
    nearest_ratio : array of shape (T,)
        Median distance to the nearest start, over that of held-out draws: zero for copies, about
        one for fresh draws.
    crossed : array of shape (T,)
        Share of the points in another cluster than their start.
    cluster_shares : array of shape (T, C)
        Share of the points in each cluster.
    stop_time : float
        Time at which runs are stopped.
    """

    time: np.ndarray
    energy_distance: np.ndarray
    p_value: np.ndarray
    start_correlation: np.ndarray
    nearest_ratio: np.ndarray
    crossed: np.ndarray
    cluster_shares: np.ndarray
    stop_time: float

    def at_stop(self, values: np.ndarray) -> float:
        """Return the entry of a column, such as `p_value`, at the stop."""
        return float(values[int(np.argmin(np.abs(self.time - self.stop_time)))])


def observe_run(
    states: Iterable[np.ndarray],
    times: np.ndarray,
    starts: RunStarts,
    held_out: np.ndarray,
    label: Callable[[np.ndarray], np.ndarray],
    rng: np.random.Generator,
    stop_time: float | None = None,
) -> TrialRun:
    """Compare the states of a run with held-out draws, and choose where to stop.

    The stop is the first time at which the start is forgotten and the points are no copies of
    it. If the two-sample test rejects by then, it is the last time before the test began to. Where
    the test rejects for the starts themselves, as with chains that hardly cross, the held-out draws
    are taken in the clusters' shares of the starts: the run did not make this difference.

    Parameters
    ----------
    states : iterable of arrays of shape (n, d)
        The points at each of the `times`, as `run_langevin` yields them.
    times : array of shape (T,)
        Ascending, from 0.
    starts : RunStarts
    held_out : array of shape (m, d)
    label : callable
        Cluster of each row, ``(n, d) -> (n,)``.
    rng : numpy.random.Generator
    stop_time : float, optional
        A given time to stop at, so that none is chosen.

    Returns
    -------
    TrialRun
        It has fewer than T times where the run diverged.
    """
    held_out_cluster = label(held_out)
    n_clusters = int(max(starts.cluster.max(), held_out_cluster.max())) + 1
    tested = held_out[rng.permutation(len(held_out))[:MAX_TESTED_DRAWS]]
    fresh_distance = np.median(nearest_distance(tested, starts.z))
    rows: list[tuple] = []
    for z in states:
        if not (np.isfinite(z).all(axis=1) & (np.abs(z).max(axis=1) < DIVERGED)).all():
            break
        cluster = label(z)
        some = z[rng.permutation(len(z))[:MAX_TESTED_DRAWS]]
        distance, p_value = permutation_test(some, tested, rng)
        if not rows and n_clusters > 1 and p_value < SHARES_LEVEL:
            alike = _rows_in_shares(starts.cluster, held_out_cluster, rng)
            if len(alike) >= MIN_TESTED_DRAWS:
                tested = held_out[alike]
                distance, p_value = permutation_test(some, tested, rng)
        stayed = cluster == starts.cluster
        rows.append(
            (
                distance,
                p_value,
                _start_correlation(starts, z, stayed),
                float(np.median(nearest_distance(some, starts.z)) / max(fresh_distance, 1e-300)),
                float(np.mean(~stayed)),
                np.bincount(cluster, minlength=n_clusters)[:n_clusters] / len(z),
            )
        )
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    distances, p_values, correlations, nearest, crossed, shares = columns
    time = np.asarray(times, dtype=float)[: len(rows)]
    if stop_time is None:
        by_chance = 1.0 / np.sqrt(starts.z.size)
        forgotten = correlations <= FORGOTTEN_CORRELATION + by_chance
        stop_time = _choose_stop(time, p_values, forgotten & (nearest >= MIN_NEAREST_RATIO))
    return TrialRun(time, distances, p_values, correlations, nearest, crossed, shares, stop_time)


def _rows_in_shares(
    start_cluster: np.ndarray, held_out_cluster: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Pick rows of the held-out draws at random, in the clusters' shares of the starts."""
    share = np.bincount(start_cluster, minlength=held_out_cluster.max() + 1) / len(start_cluster)
    available = np.bincount(held_out_cluster, minlength=len(share))
    occupied = share > 0
    size = min(MAX_TESTED_DRAWS, float(np.min(available[occupied] / share[occupied])))
    rows = [
        rng.permutation(np.flatnonzero(held_out_cluster == c))[: round(size * share[c])]
        for c in range(len(share))
    ]
    return np.concatenate(rows)


def _choose_stop(time: np.ndarray, p_value: np.ndarray, fresh: np.ndarray) -> float:
    """Return the first fresh time, or the last one before the test rejects.

    Parameters
    ----------
    time, p_value : arrays of shape (T,)
    fresh : bool array of shape (T,)
        Times at which the points are no copies of their starts.
    """
    first = int(np.argmax(fresh)) if fresh.any() else len(time) - 1
    if p_value[first] >= STOP_LEVEL:
        return float(time[first])
    rejected = p_value[1 : first + 1] < STOP_LEVEL
    # Entry i of `rejected` is time i + 1, so that this is the time before.
    return float(time[max(1, int(np.argmax(rejected)))])


def _start_correlation(starts: RunStarts, z: np.ndarray, stayed: np.ndarray) -> float:
    """Correlation of ends and starts within clusters, over all whitened directions together."""
    product = start_square = end_square = 0.0
    for c in np.unique(starts.cluster[stayed]):
        inside = stayed & (starts.cluster == c)
        inverse = np.linalg.inv(starts.factors[np.argmax(inside)])
        start, end = (
            (points[inside] - np.median(points[inside], axis=0)) @ inverse.T
            for points in (starts.z, z)
        )
        product += np.sum(start * end)
        start_square += np.sum(start**2)
        end_square += np.sum(end**2)
    return float(product / np.sqrt(max(start_square * end_square, 1e-300)))
