"""Merging of optima to modes, by the saddles between them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.search.curvature import barriers

if TYPE_CHECKING:
    from pymc_multimodal.search.optima import OptimumSet
    from pymc_multimodal.search.state import Search
    from pymc_multimodal.target.density import Density

__all__ = ["group_by_saddles", "join_optima", "neighbours"]

# Nearest optima of each optimum to which paths are looked at.
# Measured: examples/benchmarks/constants.py
NEIGHBOURS = 5
# Coordinates of steps between optima that are held at a time: 32 MB of float64. Conventional.
MAX_STEP_NUMBERS = 4_000_000
# Optima are not joined if their log volumes differ by more than ``sqrt(8 d)`` in d dimensions.
# Round normals with a common centre, whose widths have the ratio exp(t), have the Bhattacharyya
# coefficient ``cosh(t)^(-d/2)``, about ``exp(-d t^2 / 4)``. It is exp(-2) if the difference of the
# log volumes, ``d t``, is ``sqrt(8 d)``.
LOG_VOLUME_FACTOR = 8.0


def join_optima(density: Density, search: Search, barrier: float) -> Search:
    """Join optima to one mode if the log density between them does not fall by `barrier`.

    Parameters
    ----------
    density : Density
        Evaluated on the paths between pairs of near optima, if the pair is new.
    search : Search
    barrier : float
        Nats.

    Returns
    -------
    Search
    """
    optima = search.optima
    if len(optima) < 2:
        return search
    known = set(map(tuple, search.saddle_pairs.tolist()))
    near = neighbours(optima, density)
    new = np.array([pair for pair in near if tuple(pair.tolist()) not in known])
    if len(new):
        height = barriers(density, optima.x, optima.logp, optima.scale, new)
        lower = np.minimum(optima.logp[new[:, 0]], optima.logp[new[:, 1]])
        search = replace(
            search,
            saddle_pairs=np.concatenate([search.saddle_pairs, new]),
            saddle_logp=np.concatenate([search.saddle_logp, lower - height]),
        )
    group = group_by_saddles(optima, search.saddle_pairs, search.saddle_logp, barrier)
    return replace(search, optima=replace(optima, group=group))


def neighbours(optima: OptimumSet, density: Density, k: int = NEIGHBOURS) -> np.ndarray:
    """Return pairs (i < j) of each optimum with its k nearest, shape (n, 2)."""
    x = optima.x
    n, d = x.shape
    k = min(k, n - 1)
    near = []
    size = max(1, MAX_STEP_NUMBERS // (n * d))
    for rows in np.split(np.arange(n), range(size, n, size)):
        step = density.unroll(x[rows, None] - x[None], 0.0) / optima.spread
        squared = np.einsum("ijk,ijk->ij", step, step)
        squared[np.arange(len(rows)), rows] = np.inf
        near.append(np.argpartition(squared, k - 1, axis=1)[:, :k])
    pairs = np.stack([np.repeat(np.arange(n), k), np.concatenate(near).ravel()], axis=1)
    return np.unique(np.sort(pairs, axis=1), axis=0)


def group_by_saddles(
    optima: OptimumSet, pairs: np.ndarray, saddle_logp: np.ndarray, barrier: float
) -> np.ndarray:
    """Group optima to modes by the saddles between pairs of them.

    Saddles are taken from the highest to the lowest. Let a saddle lie between two groups. The
    group of less mass (by Laplace's approximation) is a mode of its own if its highest optimum
    rises by `barrier` above the saddle; otherwise it belongs to the other group. This is
    persistence (Chazal et al. 2013, doi:10.1145/2535927) with the mass in place of the height: a
    narrow summit may be much higher than a wide one and hold less mass. A shoulder between two
    modes goes to one of them and does not join both.

    A saddle does not join optima of very different volume, because draws of the one do not come
    near the summit of the other. The two ends of the path are compared, and not the groups: the
    width of a ridge changes along the ridge.

    Parameters
    ----------
    optima : OptimumSet
    pairs : array of int, shape (m, 2)
    saddle_logp : array of shape (m,)
        Log density of the highest pass that is known between the optima of each pair.
    barrier : float
        Nats.

    Returns
    -------
    array of int, shape (p,)
        Group of each optimum, as in `OptimumSet.group`.
    """
    mass, group = optima.log_mass, np.arange(len(optima))
    log_volume = mass - optima.logp
    max_difference = np.sqrt(LOG_VOLUME_FACTOR * optima.x.shape[1])
    for s in np.argsort(-saddle_logp, kind="stable"):
        i, j = pairs[s]
        large, small = group[i], group[j]
        if large == small:
            continue
        if mass[group == large].max() < mass[group == small].max():
            large, small = small, large
        low = optima.logp[group == small].max() - saddle_logp[s] < barrier
        if low and abs(log_volume[i] - log_volume[j]) < max_difference:
            group[group == small] = large
    return group
