"""Overlaps of a mixture's components, and the bound on its log-Sobolev constant."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

__all__ = ["log_sobolev_bound", "overlap_matrix", "spanning_tree_paths"]

# Distance of a weight from 1/2 below which the constant of the weights is its limit there, 2.
HALF_ROUNDING = 1e-9


def overlap_matrix(log_parts: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Estimate pairwise overlaps and their standard errors from draws of the mixture.

    .. math:: \delta_{ij} = \int \min(\mu_i, \mu_j)
        = E_\mu \min(\mu_i / \mu, \mu_j / \mu), \quad \mu = \sum_k p_k \mu_k

    Parameters
    ----------
    log_parts : array of shape (n, K)
        Log of weight times density of the components at n draws of the mixture.
    weights : array of shape (K,)
        The p_k.

    Returns
    -------
    overlap, standard_error : arrays of shape (K, K)
        The overlap is one on the diagonal.

    Notes
    -----
    arXiv 2310.01762, section 2, defines the overlap. The ratios are bounded by ``1 / p_k``, so
    that the standard error exists whatever the components' tails are.
    """
    log_mixture = np.logaddexp.reduce(log_parts, axis=1)
    ratio = np.exp(log_parts - np.log(weights) - log_mixture[:, None])
    k = ratio.shape[1]
    overlap, error = np.eye(k), np.zeros((k, k))
    for i in range(k):
        for j in range(i):
            smaller = np.minimum(ratio[:, i], ratio[:, j])
            overlap[i, j] = overlap[j, i] = min(1.0, smaller.mean())
            error[i, j] = error[j, i] = smaller.std() / np.sqrt(len(smaller))
    return overlap, error


def log_sobolev_bound(overlap: np.ndarray, weights: np.ndarray, constants: np.ndarray) -> float:
    r"""Bound the log-Sobolev constant of a mixture by those of its components and their overlaps.

    .. math:: C_{LS}(\mu) \le \max_a C_a \Bigl(1 + \frac{\ell}{2 p_a} \sum_{i<j} p_i p_j L_{ij}
        \sum_{e \ni a} b(\delta_e)\Bigr), \quad b(\delta) = 2 (1 + \sqrt{1/\delta - 1})^2

    Here e runs over the edges of the path of length L_ij from i to j in the maximal spanning
    tree of the overlaps, and l = log(1/p* - 1) / (1 - 2 p*) is the constant of the weights as a
    measure on K points (Diaconis and Saloff-Coste 1996, Theorem A.1).

    Parameters
    ----------
    overlap : array of shape (K, K)
    weights, constants : arrays of shape (K,)
        Weights of the components and log-Sobolev constants, in the sense
        ``Ent(f^2) <= 2 C E|grad f|^2``: a Gaussian has its largest variance.

    Returns
    -------
    float
        ``inf`` if the overlaps do not connect the components.

    Notes
    -----
    The bound has the form of arXiv 2310.01762, Theorem 2, a constant of K and p* times
    ``max C_a / delta``, with its constant written out. It splits the entropy into that within
    components and that between their means. Two means differ by at most ``sqrt(1/delta - 1)``
    times the sum of the standard deviations, since the common part of two densities has a density
    of at most 1/delta with respect to either.
    """
    weights = weights / weights.sum()
    k = len(weights)
    if k == 1:
        return float(constants[0])
    paths = spanning_tree_paths(overlap)
    if paths is None:
        return np.inf
    load = np.zeros(k)
    for (i, j), path in paths.items():
        for a, b in pairwise(path):
            root = np.sqrt(max(0.0, 1.0 / overlap[a, b] - 1.0))
            edge = 2.0 * (1.0 + root) ** 2
            load[[a, b]] += weights[i] * weights[j] * (len(path) - 1) * edge
    smallest = weights.min()
    at_half = abs(smallest - 0.5) < HALF_ROUNDING
    of_weights = 2.0 if at_half else np.log(1 / smallest - 1) / (1 - 2 * smallest)
    return float(np.max(constants * (1.0 + 0.5 * of_weights * load / weights)))


def spanning_tree_paths(overlap: np.ndarray) -> dict[tuple[int, int], list[int]] | None:
    """Paths between all pairs of components in the maximal spanning tree of their overlaps.

    Parameters
    ----------
    overlap : array of shape (K, K)

    Returns
    -------
    dict or None
        For each pair i < j the components from i to j; None if the overlaps do not connect all.
    """
    k = len(overlap)
    to_root: dict[int, list[int]] = {0: [0]}
    while len(to_root) < k:
        best = max(
            ((overlap[i, j], i, j) for i in to_root for j in range(k) if j not in to_root),
        )
        if not best[0] > 0:
            return None
        to_root[best[2]] = [best[2], *to_root[best[1]]]
    paths = {}
    for i in range(k):
        for j in range(i + 1, k):
            up, down = to_root[i], to_root[j]
            meet = next(node for node in up if node in down)
            paths[i, j] = up[: up.index(meet) + 1] + down[: down.index(meet)][::-1]
    return paths
