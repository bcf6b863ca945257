"""Component analysis: which parts of a mixture a Langevin run mixes, and which it keeps apart."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import expm
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    from pymc_multimodal.proposals.score.score_function import GaussianParts

__all__ = [
    "Components",
    "analyse",
    "crossing_rates",
    "log_sobolev_bound",
    "overlap_matrix",
    "poincare_bound",
]

# Overlap from which two parts count as connected.
MIN_OVERLAP = 0.05
# Draws of the mixture by which overlaps are estimated.
DRAWS = 20_000
# A pair of clusters mixes in a run of so many relaxation times of the pair; a cluster keeps its
# weight if a smaller share than this is expected to leave it.
MIXED, KEPT = 3.0, 0.05


def overlap_matrix(log_densities: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Estimate pairwise overlaps and their standard errors from draws of the mixture.

    .. math:: \delta_{ij} = \int \min(\mu_i, \mu_j)
        = E_\mu \min(\mu_i / \mu, \mu_j / \mu), \quad \mu = \sum_k p_k \mu_k

    Parameters
    ----------
    log_densities : array of shape (n, K)
        Normalised log densities of the parts at n draws of the mixture.
    weights : array of shape (K,)
        The p_k.

    Returns
    -------
    overlap, standard_error : arrays of shape (K, K)
        One on the diagonal.

    Notes
    -----
    arXiv 2310.01762, section 2, defines the overlap; the ratios are bounded by ``1 / p_k``, so
    that the error exists whatever the parts' tails.
    """
    whole = np.logaddexp.reduce(log_densities + np.log(weights), axis=1)
    ratio = np.exp(log_densities - whole[:, None])
    k = ratio.shape[1]
    overlap, error = np.eye(k), np.zeros((k, k))
    for i in range(k):
        for j in range(i):
            least = np.minimum(ratio[:, i], ratio[:, j])
            overlap[i, j] = overlap[j, i] = min(1.0, least.mean())
            error[i, j] = error[j, i] = least.std() / np.sqrt(len(least))
    return overlap, error


def log_sobolev_bound(overlap: np.ndarray, weights: np.ndarray, constants: np.ndarray) -> float:
    r"""Bound the log-Sobolev constant of a mixture by those of its parts and their overlaps.

    .. math:: C_{LS}(\mu) \le \max_a C_a \Bigl(1 + \frac{\ell}{2 p_a} \sum_{i<j} p_i p_j L_{ij}
        \sum_{e \ni a} b(\delta_e)\Bigr), \quad b(\delta) = 2 (1 + \sqrt{1/\delta - 1})^2

    where e runs over the edges of the path of length L_ij from i to j in the maximal spanning
    tree of the overlaps, and l = log(1/p* - 1) / (1 - 2 p*) is the constant of the weights as a
    measure on K points (Diaconis and Saloff-Coste 1996, Theorem A.1).

    Parameters
    ----------
    overlap : array of shape (K, K)
    weights, constants : arrays of shape (K,)
        Weights of the parts and log-Sobolev constants, in the sense
        ``Ent(f^2) <= 2 C E|grad f|^2``: a Gaussian has its largest variance.

    Returns
    -------
    float
        ``inf`` if the overlaps do not connect the parts.

    Notes
    -----
    The bound has the form of arXiv 2310.01762, Theorem 2, a constant of K and p* times
    ``max C_a / delta``, with its constant written out. It splits the entropy into that within
    parts and that between their means; two means differ by at most ``sqrt(1/delta - 1)`` times
    the sum of the standard deviations, since the common part of two densities has a density of
    at most 1/delta with respect to either.
    """
    return _bound(overlap, weights, constants, entropy=True)


def poincare_bound(overlap: np.ndarray, weights: np.ndarray, constants: np.ndarray) -> float:
    """Bound the Poincare constant, the relaxation time of Langevin dynamics, in the same way.

    Parameters and result are those of `log_sobolev_bound`, with Poincare constants.
    """
    return _bound(overlap, weights, constants, entropy=False)


def _bound(overlap: np.ndarray, weights: np.ndarray, constants: np.ndarray, entropy: bool) -> float:
    weights = weights / weights.sum()
    k = len(weights)
    if k == 1:
        return float(constants[0])
    paths = _tree_paths(overlap)
    if paths is None:
        return np.inf
    load = np.zeros(k)
    for (i, j), path in paths.items():
        for a, b in pairwise(path):
            root = np.sqrt(max(0.0, 1.0 / overlap[a, b] - 1.0))
            step = 2.0 * ((1.0 + root) if entropy else root) ** 2
            share = weights[i] * weights[j] * (len(path) - 1) * step
            load[[a, b]] += share
    least = weights.min()
    points = 2.0 if abs(least - 0.5) < 1e-9 else np.log(1 / least - 1) / (1 - 2 * least)
    factor = 0.5 * points if entropy else 1.0
    return float(np.max(constants * (1.0 + factor * load / weights)))


def _tree_paths(overlap: np.ndarray) -> dict[tuple[int, int], list[int]] | None:
    """Paths between all pairs i < j in the maximal spanning tree; None if there is none."""
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


def crossing_rates(
    parts: GaussianParts, metric: np.ndarray | None = None, points: int = 2001
) -> np.ndarray:
    r"""Rates at which Langevin dynamics passes from the middle of one part to that of another.

    .. math:: 1 / r_{ij} = \frac{1}{D} \int_{m_i}^{m_j} \frac{du}{p(u)} \int_{-\infty}^u p(v) dv

    with p the density of the two parts together along the direction that separates them best.
    Along one direction the mean first-passage time is at most that of the whole space when
    barriers are high, so the rates err towards too fast.

    Parameters
    ----------
    parts : GaussianParts
    metric : array of shape (K, d, d), optional
        Preconditioner of a run that starts in each part; the identity by default.
    points : int
        Of the quadrature.

    Returns
    -------
    array of shape (K, K)
        Zero on the diagonal, and where the time is beyond floating point.
    """
    k = len(parts.weights)
    rates = np.zeros((k, k))
    for i in range(k):
        for j in range(k):
            if i == j:
                continue
            gap = parts.means[j] - parts.means[i]
            both = parts.covariances[i] + parts.covariances[j]
            along = np.linalg.solve(both, gap)
            size = np.linalg.norm(along)
            if size < 1e-9:
                rates[i, j] = np.inf  # nothing separates their middles
                continue
            along /= size
            sds = [np.sqrt(along @ parts.covariances[n] @ along) for n in (i, j)]
            diffusion = 1.0 if metric is None else float(along @ metric[i] @ along)
            time = _log_passage_time(gap @ along, sds, parts.weights[[i, j]], points)
            rates[i, j] = diffusion * np.exp(-time)
    return rates


def _log_passage_time(distance: float, sds: list[float], weights: np.ndarray, points: int) -> float:
    u = np.linspace(-8 * sds[0], distance, points)
    logs = [
        np.log(w / s) - 0.5 * ((u - m) / s) ** 2
        for w, s, m in zip(weights, sds, (0.0, distance), strict=True)
    ]
    log_p = np.logaddexp(*logs)
    below = np.logaddexp.accumulate(log_p)
    inside = u >= 0
    cell = u[1] - u[0]
    return float(np.logaddexp.reduce((below - log_p)[inside]) + 2 * np.log(cell))


@dataclass(frozen=True, repr=False)
class Components:
    """What the overlap of the parts says about a run that starts from draws.

    Times are in the units of the run: Langevin dynamics ``dx = P grad log mu dt + sqrt(2 P) dB``
    with P the covariance of the cluster that a particle starts in, so that a Gaussian cluster
    forgets its start as ``exp(-t)``.

    Attributes
    ----------
    weights, weights_se : arrays of shape (C,)
        Share of the draws in each cluster, heaviest first, and its sampling error.
    locations : array of shape (C, d)
        Mean of the draws in each cluster, in their own coordinates.
    cluster : int array of shape (K,)
        Cluster of each part of the fitted mixture.
    part_weights : array of shape (K,)
    overlap, overlap_se : arrays of shape (K, K)
        Pairwise overlaps of the parts, and standard errors.
    min_overlap : float
        Overlap from which parts are connected.
    log_sobolev : array of shape (C,)
        Bound on the log-Sobolev constant of each cluster, see `log_sobolev_bound`.
    log_sobolev_all : float
        The same for the whole mixture, ``inf`` where no draw saw an overlap.
    rates : array of shape (C, C)
        Rates between clusters, see `crossing_rates`.
    """

    weights: np.ndarray
    weights_se: np.ndarray
    locations: np.ndarray
    cluster: np.ndarray
    part_weights: np.ndarray
    overlap: np.ndarray
    overlap_se: np.ndarray
    min_overlap: float
    log_sobolev: np.ndarray
    log_sobolev_all: float
    rates: np.ndarray

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def crossing_times(self) -> np.ndarray:
        """Expected time from each cluster to each other, shape (C, C); ``inf`` for never."""
        with np.errstate(divide="ignore"):
            return np.where(np.eye(len(self), dtype=bool), 0.0, 1.0 / self.rates)

    def leaving(self, time: float) -> np.ndarray:
        """Share of each cluster expected in another one after a run of this time, shape (C,)."""
        flow = np.minimum(self.rates, 1e6)
        generator = flow - np.diag(flow.sum(axis=1))
        return np.clip(1.0 - np.diag(expm(time * generator)), 0.0, 1.0)

    def pairs(self, time: float) -> dict[tuple[int, int], str]:
        """ChallengeResult on each pair of clusters: "mixes", "partly" or "apart".

        A pair mixes in a run of three relaxation times ``1 / (r_ij + r_ji)``; it stays apart
        where at most 5 % of either are expected to pass.
        """
        out = {}
        for i in range(len(self)):
            for j in range(i + 1, len(self)):
                both = time * np.array([self.rates[i, j], self.rates[j, i]])
                apart = np.all(both <= KEPT)
                out[i, j] = "mixes" if both.sum() >= MIXED else "apart" if apart else "partly"
        return out

    def verdict(self, time: float) -> str:
        """Plain words on which modes mix in a run of this time and which keep their weights."""
        if len(self) == 1:
            return (
                "All draws lie in one cluster of overlapping components: there are no weights "
                "to keep, and nothing is known of modes that no draw came from."
            )
        leaving, lines = self.leaving(time), []
        times = self.crossing_times + np.diag(np.full(len(self), np.inf))
        for c in range(len(self)):
            does = "keeps the weight it was given"
            if leaving[c] > KEPT:
                does = (
                    f"loses {leaving[c]:.0%} of its draws to others, so that its weight is partly "
                    "the score's"
                )
            nearest = int(np.argmin(times[c]))
            if (min(c, nearest), max(c, nearest)) in [
                pair for pair, found in self.pairs(time).items() if found == "mixes"
            ]:
                does = f"mixes with mode {nearest}: their shares are the score's, not the data's"
            lines.append(
                f"mode {c} (weight {self.weights[c]:.3f}): {does}; expected time to mode "
                f"{nearest} is {times[c, nearest]:.2g}, the run's is {time:.2g}."
            )
        return "\n".join(lines)


def analyse(
    parts: GaussianParts,
    rng: np.random.Generator,
    *,
    min_overlap: float = MIN_OVERLAP,
    draws: int = DRAWS,
) -> Components:
    """Cluster the parts of a mixture by overlap, and say how fast a run passes between them.

    Parameters
    ----------
    parts : GaussianParts
    rng : numpy.random.Generator
    min_overlap : float
        Overlap from which two parts are connected.
    draws : int
        Draws of the mixture by which overlaps are estimated.

    Returns
    -------
    Components
        Its locations are those of the parts' coordinates, its `weights_se` zero.
    """
    z, _ = parts.draw(draws, rng)
    overlap, error = overlap_matrix(parts.log_densities(z), parts.weights)
    _, cluster = connected_components(overlap >= min_overlap, directed=False)
    share = np.bincount(cluster, parts.weights)
    order = np.argsort(-share, kind="stable")
    cluster = np.argsort(order)[cluster]
    share = share[order]
    metric = np.stack([covariance(parts, cluster == c) for c in range(len(share))])
    own = parts.largest_variance
    bounds = []
    constants = np.empty(len(own))
    for c in range(len(share)):
        inside = np.flatnonzero(cluster == c)
        inverse = np.linalg.inv(np.linalg.cholesky(metric[c]))
        for k in inside:
            constants[k] = np.linalg.eigvalsh(inverse @ parts.covariances[k] @ inverse.T)[-1]
        block = overlap[np.ix_(inside, inside)]
        bounds.append(log_sobolev_bound(block, parts.weights[inside], constants[inside]))
    fine = crossing_rates(parts, metric[cluster])
    rates = np.zeros((len(share), len(share)))
    for a in range(len(share)):
        for b in range(len(share)):
            if a != b:
                block = fine[np.ix_(cluster == a, cluster == b)].sum(axis=1)
                rates[a, b] = parts.weights[cluster == a] @ block / share[a]
    means = [parts.weights[cluster == c] @ parts.means[cluster == c] / share[c]
             for c in range(len(share))]  # fmt: skip
    return Components(
        weights=share,
        weights_se=np.zeros(len(share)),
        locations=np.stack(means),
        cluster=cluster,
        part_weights=parts.weights,
        overlap=overlap,
        overlap_se=error,
        min_overlap=min_overlap,
        log_sobolev=np.array(bounds),
        log_sobolev_all=log_sobolev_bound(overlap, parts.weights, constants),
        rates=rates,
    )


def covariance(parts: GaussianParts, which: np.ndarray) -> np.ndarray:
    """Covariance of the chosen parts together, shape (d, d)."""
    w = parts.weights[which] / parts.weights[which].sum()
    step = parts.means[which] - w @ parts.means[which]
    inner: np.ndarray = np.einsum("k,kij->ij", w, parts.covariances[which])
    return inner + np.einsum("k,ki,kj->ij", w, step, step)
