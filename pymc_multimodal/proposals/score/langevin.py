"""Langevin runs from the empirical distribution: step size, stopping time, and what they do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy.spatial.distance import cdist

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Curve", "permutation_test", "run", "sharpness", "watch"]

Score: TypeAlias = Callable[[np.ndarray], np.ndarray]

# Draws of either sample in a two-sample test, and relabellings of its permutation test.
MAX_TESTED, PERMUTATIONS = 400, 199
# p value of the starts themselves below which held-out draws are taken in their shares, if so
# many are left.
DOUBTFUL, LEAST_TESTED = 0.1, 50
# Median distance to the nearest start, relative to that of fresh draws, that is no copy's: in few
# dimensions it varies by a tenth by chance.
NEAR = 0.8


def run(
    score: Score,
    z: np.ndarray,
    factors: np.ndarray,
    step: float,
    marks: list[int],
    rng: np.random.Generator,
    *,
    averaged: bool = True,
) -> Iterator[np.ndarray]:
    r"""Langevin dynamics from given points, each with the preconditioner of its start.

    .. math:: z_{n+1} = z_n + h P s(z_n) + \sqrt{2 h} \, P^{1/2} \tfrac12 (\xi_n + \xi_{n+1})

    Parameters
    ----------
    score : callable
        ``(n, d) -> (n, d)``.
    z : array of shape (n, d)
    factors : array of shape (n, d, d), or (d, d) for all
        The factors :math:`P^{1/2}`.
    step : float
        h.
    marks : list of int
        Numbers of steps after which the points are yielded, ascending.
    rng : numpy.random.Generator
    averaged : bool
        Whether noise is averaged over two steps, which leaves a Gaussian's spread exact for
        every stable step (Leimkuhler and Matthews 2013); otherwise the Euler scheme of arXiv
        2310.01762, whose spread is too wide by ``1 / sqrt(1 - h / 2)``.
    """
    z = np.array(z, dtype=float)
    shape = "ij,nj->ni" if factors.ndim == 2 else "nij,nj->ni"
    back = "ji,nj->ni" if factors.ndim == 2 else "nji,nj->ni"
    old = rng.standard_normal(z.shape)
    done = 0
    for mark in marks:
        while done < mark:
            new = rng.standard_normal(z.shape)
            noise = 0.5 * (old + new) if averaged else new
            with np.errstate(over="ignore", invalid="ignore"):
                pull = np.einsum(back, factors, score(z))
                z = z + np.einsum(shape, factors, step * pull + np.sqrt(2 * step) * noise)
            old = new
            done += 1
        yield z


def sharpness(
    score: Score, z: np.ndarray, factors: np.ndarray, rng: np.random.Generator, rounds: int = 12
) -> float:
    """Largest curvature of the log density that nearly all draws see, in units of their metric.

    Langevin steps are stable below 2 over it. By power iteration on differences of the score;
    the 95 % quantile over the draws.

    Parameters
    ----------
    score : callable
    z : array of shape (n, d)
    factors : array of shape (n, d, d)
    rng : numpy.random.Generator
    rounds : int
        Of the power iteration.
    """
    v = rng.standard_normal(z.shape)
    here, small = score(z), 1e-4
    size = np.ones(len(z))
    for _ in range(rounds):
        v /= np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-300)
        there = score(z + small * np.einsum("nij,nj->ni", factors, v))
        v = np.einsum("nji,nj->ni", factors, here - there) / small
        size = np.linalg.norm(v, axis=1)
    finite = size[np.isfinite(size)]
    return float(max(np.quantile(finite, 0.95), 1e-6)) if len(finite) else np.inf


@dataclass(frozen=True)
class Curve:
    """What a run from draws does over time, seen against draws that it did not start from.

    Attributes
    ----------
    time : array of shape (T,)
        The first entry is zero: the draws themselves.
    distance : array of shape (T,)
        Squared energy distance to the held-out draws, unbiased: near zero where the two cannot
        be told apart.
    p_value : array of shape (T,)
        Of the permutation test that it is zero.
    memory : array of shape (T,)
        Correlation of the points with those they started from, of those that stay in their
        cluster.
    copies : array of shape (T,)
        Median distance to the nearest start, over that of held-out draws: zero for copies,
        about one for fresh draws.
    moved : array of shape (T,)
        Share of the points in another cluster than that of their start.
    weights : array of shape (T, C)
        Share of the points in each cluster.
    stop : float
        The time that was chosen.
    """

    time: np.ndarray
    distance: np.ndarray
    p_value: np.ndarray
    memory: np.ndarray
    copies: np.ndarray
    moved: np.ndarray
    weights: np.ndarray
    stop: float

    def at(self, values: np.ndarray) -> float:
        """One of the columns at the chosen stop."""
        return float(values[int(np.argmin(np.abs(self.time - self.stop)))])


def watch(
    score: Score,
    starts: np.ndarray,
    held_out: np.ndarray,
    factors: np.ndarray,
    label: Callable[[np.ndarray], np.ndarray],
    step: float,
    marks: list[int],
    rng: np.random.Generator,
    *,
    averaged: bool = True,
    stop: float | None = None,
    memory: float = 0.05,
    level: float = 0.01,
) -> Curve:
    """Run from `starts`, compare with `held_out` at every mark, and choose where to stop.

    The stop is the first mark by which the start is forgotten and points are no copies of
    it; if the two-sample test rejects by then, the last mark before it began to. Where it can
    tell the starts themselves from the held-out draws, as with chains that hardly cross, those are
    taken in the starts' shares: what differs from the beginning is not the run's.

    Parameters
    ----------
    score, factors, step, averaged
        As in `run`.
    starts, held_out : arrays of shape (n, d) and (m, d)
    label : callable
        Cluster of each row.
    marks : list of int
        Numbers of steps, ascending, from 0.
    rng : numpy.random.Generator
    stop : float, optional
        A time that is given: only watched, nothing is chosen.
    memory : float
        Correlation with the start under which it is forgotten.
    level : float
        Of the two-sample test.
    """
    home = label(starts)
    clusters = int(max(home.max(), label(held_out).max())) + 1
    small = held_out[rng.permutation(len(held_out))[:MAX_TESTED]]
    floor = np.median(_nearest(small, starts))
    rows: list[tuple] = []
    for z in run(score, starts, factors, step, marks, rng, averaged=averaged):
        fine = np.isfinite(z).all(axis=1) & (np.abs(z).max(axis=1) < 1e6)
        if not fine.all():
            break
        now = label(z)
        some = z[rng.permutation(len(z))[:MAX_TESTED]]
        distance, p = permutation_test(some, small, rng)
        if not rows and clusters > 1 and p < DOUBTFUL:
            alike = _in_shares(home, label(held_out), rng)
            if len(alike) >= LEAST_TESTED:
                small = held_out[alike]
                distance, p = permutation_test(some, small, rng)
        rows.append(
            (
                distance,
                p,
                _correlation(starts, z, np.where(now == home, home, -1), factors),
                float(np.median(_nearest(some, starts)) / max(floor, 1e-300)),
                float(np.mean(now != home)),
                np.bincount(now, minlength=clusters)[:clusters] / len(now),
            )
        )
    columns = [np.array(c) for c in zip(*rows, strict=True)]
    time = step * np.array(marks[: len(rows)], dtype=float)
    gap, p_value, remembered, copies, moved, weights = columns
    if stop is None:
        # What the correlation of unrelated points is by chance.
        memory += 1.0 / np.sqrt(starts.size)
        stop = _choose(time, p_value, remembered, copies, memory, level)
    return Curve(time, gap, p_value, remembered, copies, moved, weights, stop)


def _in_shares(home: np.ndarray, beside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pick rows of the held-out draws, at random, in the clusters' shares of the starts.

    Parameters
    ----------
    home, beside : arrays of shape (n,) and (m,)
        Clusters of the starts and of the held-out draws.
    rng : numpy.random.Generator
    """
    share = np.bincount(home, minlength=beside.max() + 1) / len(home)
    there = np.bincount(beside, minlength=len(share))
    some = share > 0
    size = min(MAX_TESTED, float(np.min(there[some] / share[some])))
    rows = [
        rng.permutation(np.flatnonzero(beside == c))[: round(size * share[c])]
        for c in range(len(share))
    ]
    return np.concatenate(rows)


def _choose(
    time: np.ndarray,
    p: np.ndarray,
    remembered: np.ndarray,
    copies: np.ndarray,
    memory: float,
    level: float,
) -> float:
    forgotten = (remembered <= memory) & (copies >= NEAR)
    first = int(np.argmax(forgotten)) if forgotten.any() else len(time) - 1
    if p[first] >= level:
        return float(time[first])
    rejected = p[1 : first + 1] < level
    # Entry i of `rejected` is mark i + 1, so that this is the mark before.
    return float(time[max(1, int(np.argmax(rejected)))])


def _nearest(x: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Distance of each row to the nearest start."""
    return cdist(x, starts).min(axis=1)


def _correlation(starts: np.ndarray, z: np.ndarray, home: np.ndarray, factors: np.ndarray) -> float:
    """Correlation of end and start within clusters, over all whitened directions together.

    Rows with a `home` of -1 are left out.
    """
    top = first = last = 0.0
    for c in np.unique(home[home >= 0]):
        inside = home == c
        inverse = np.linalg.inv(factors[np.argmax(inside)])
        a, b = (
            (part[inside] - np.median(part[inside], axis=0)) @ inverse.T for part in (starts, z)
        )
        top, first, last = top + np.sum(a * b), first + np.sum(a**2), last + np.sum(b**2)
    return float(top / np.sqrt(max(first * last, 1e-300)))


def permutation_test(
    x: np.ndarray, y: np.ndarray, rng: np.random.Generator, permutations: int = PERMUTATIONS
) -> tuple[float, float]:
    """Two-sample test by the energy distance.

    Parameters
    ----------
    x, y : arrays of shape (n, d) and (m, d)
    rng : numpy.random.Generator
    permutations : int

    Returns
    -------
    distance, p_value : float
        ``2 E|X-Y| - E|X-X'| - E|Y-Y'|`` by unbiased averages, and the share of relabellings
        with at least this distance (Szekely and Rizzo 2004).
    """
    n, m = len(x), len(y)
    both = np.concatenate([x, y])
    pair = cdist(both, both)
    labels = np.zeros((permutations + 1, n + m))
    labels[0, :n] = 1.0
    for row in labels[1:]:
        row[rng.permutation(n + m)[:n]] = 1.0
    push = labels @ pair
    total = pair.sum()
    inner = np.sum(push * labels, axis=1)
    cross = push.sum(axis=1) - inner
    outer = total - inner - 2 * cross
    value = 2 * cross / (n * m) - inner / (n * (n - 1)) - outer / (m * (m - 1))
    return float(value[0]), float(np.mean(value >= value[0] - 1e-12))
