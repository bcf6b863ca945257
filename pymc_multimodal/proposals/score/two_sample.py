"""Comparisons of two samples: energy distance with its permutation test, and nearest points."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

__all__ = ["nearest_distance", "permutation_test"]

# Permutations of the test. Conventional: the p-value is a multiple of 1 / 200.
PERMUTATIONS = 199
# Difference below which two energy distances are equal: rounding, for distances of order one.
ROUNDING = 1e-12


def nearest_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance of each row of x, shape (n, d), to the nearest row of y; shape (n,)."""
    return cdist(x, y).min(axis=1)


def permutation_test(
    x: np.ndarray, y: np.ndarray, rng: np.random.Generator, permutations: int = PERMUTATIONS
) -> tuple[float, float]:
    """Test whether two samples have one distribution, by their energy distance.

    Parameters
    ----------
    x, y : arrays of shape (n, d) and (m, d)
    rng : numpy.random.Generator
    permutations : int

    Returns
    -------
    distance : float
        ``2 E|X-Y| - E|X-X'| - E|Y-Y'|`` by unbiased averages (Szekely and Rizzo 2004).
    p_value : float
        Share of the permutations with at least this distance; the samples as they are count as
        one of them.
    """
    n, m = len(x), len(y)
    both = np.concatenate([x, y])
    pair = cdist(both, both)
    labels = np.zeros((permutations + 1, n + m))
    labels[0, :n] = 1.0
    for row in labels[1:]:
        row[rng.permutation(n + m)[:n]] = 1.0
    from_first = labels @ pair
    total = pair.sum()
    inner = np.sum(from_first * labels, axis=1)
    cross = from_first.sum(axis=1) - inner
    outer = total - inner - 2 * cross
    value = 2 * cross / (n * m) - inner / (n * (n - 1)) - outer / (m * (m - 1))
    return float(value[0]), float(np.mean(value >= value[0] - ROUNDING))
