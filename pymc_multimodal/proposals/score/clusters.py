"""Clusters of overlapping components, and how fast a Langevin run crosses between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import expm
from scipy.sparse.csgraph import connected_components

from pymc_multimodal.proposals.score.overlap import log_sobolev_bound, overlap_matrix

if TYPE_CHECKING:
    from pymc_multimodal.proposals.mixture import GaussianMixture

__all__ = [
    "ClusterAnalysis",
    "analyse_clusters",
    "cluster_covariance",
    "cluster_labels",
    "crossing_rates",
]

# Draws of the mixture by which overlaps are estimated. Conventional: an overlap of 0.05 has then
# a standard error of at most 0.002.
OVERLAP_DRAWS = 20_000
# Relaxation times after which a pair of clusters is mixed. Conventional: exp(-3) = 0.05.
MIXED_RELAXATION_TIMES = 3.0
# Largest expected share of draws that leave a cluster which keeps its weight. Conventional.
MAX_DEPARTURE = 0.05
# Largest rate that enters a matrix exponential, which is exact there for all practical times.
MAX_RATE = 1e6
# Points of the quadrature of a passage time, and its lower end in standard deviations.
# Conventional: a step of 0.01 standard deviations for a distance of ten.
QUADRATURE_POINTS, QUADRATURE_SDS = 2001, 8.0
# Distance in joint standard deviations below which nothing separates two components' means.
MIN_SEPARATION = 1e-9


@dataclass(frozen=True, repr=False)
class ClusterAnalysis:
    """What the overlap of the mixture's components says about a run that starts from draws.

    Times are in the units of the run: Langevin dynamics ``dx = P grad log mu dt + sqrt(2 P) dB``
    with P the covariance of the cluster that a point starts in, so that a Gaussian cluster
    forgets its start as ``exp(-t)``.

    Attributes
    ----------
    weights, weights_se : arrays of shape (C,)
        Share of the draws in each cluster, heaviest first, and its sampling error.
    locations : array of shape (C, d)
        Mean of the draws in each cluster, in their own coordinates.
    cluster : int array of shape (K,)
        Cluster of each component of the fitted mixture.
    component_weights : array of shape (K,)
    overlap, overlap_se : arrays of shape (K, K)
        Pairwise overlaps of the components, and standard errors.
    min_overlap : float
        Overlap from which components are connected.
    log_sobolev : array of shape (C,)
        Bound on the log-Sobolev constant of each cluster, see `log_sobolev_bound`.
    log_sobolev_all : float
        The same for the whole mixture; ``inf`` where no draw showed an overlap.
    crossing_rates : array of shape (C, C)
        Rates of passages between clusters, see `crossing_rates`.
    """

    weights: np.ndarray
    weights_se: np.ndarray
    locations: np.ndarray
    cluster: np.ndarray
    component_weights: np.ndarray
    overlap: np.ndarray
    overlap_se: np.ndarray
    min_overlap: float
    log_sobolev: np.ndarray
    log_sobolev_all: float
    crossing_rates: np.ndarray

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def crossing_times(self) -> np.ndarray:
        """Expected time from each cluster to each other, shape (C, C); ``inf`` for never."""
        with np.errstate(divide="ignore"):
            return np.where(np.eye(len(self), dtype=bool), 0.0, 1.0 / self.crossing_rates)

    def departure_probability(self, time: float) -> np.ndarray:
        """Share of each cluster expected in another one after a run of this time, shape (C,)."""
        flow = np.minimum(self.crossing_rates, MAX_RATE)
        rate_matrix = flow - np.diag(flow.sum(axis=1))
        return np.clip(1.0 - np.diag(expm(time * rate_matrix)), 0.0, 1.0)

    def pair_mixing(self, time: float) -> dict[tuple[int, int], str]:
        """Return whether each pair of clusters "mixes", mixes "partly" or stays "apart".

        A pair mixes in a run of three relaxation times ``1 / (r_ij + r_ji)``. It stays apart
        where at most 5 % of either cluster are expected to pass.

        Parameters
        ----------
        time : float
            Length of the run.

        Returns
        -------
        dict
            By pairs i < j.
        """
        found = {}
        for i in range(len(self)):
            for j in range(i + 1, len(self)):
                passages = time * np.array([self.crossing_rates[i, j], self.crossing_rates[j, i]])
                if passages.sum() >= MIXED_RELAXATION_TIMES:
                    found[i, j] = "mixes"
                else:
                    found[i, j] = "apart" if np.all(passages <= MAX_DEPARTURE) else "partly"
        return found

    def describe(self, time: float) -> str:
        """Say in words which clusters mix in a run of this time, and which keep their weights."""
        if len(self) == 1:
            return (
                "All draws lie in one cluster of overlapping components: there are no weights "
                "to keep, and nothing is known of modes that no draw came from."
            )
        departure, lines = self.departure_probability(time), []
        pairs = self.pair_mixing(time)
        times = self.crossing_times + np.diag(np.full(len(self), np.inf))
        for c in range(len(self)):
            what = "keeps the weight that it was given"
            if departure[c] > MAX_DEPARTURE:
                what = (
                    f"loses {departure[c]:.0%} of its draws to others, so that its weight is "
                    "partly the score's"
                )
            nearest = int(np.argmin(times[c]))
            if pairs[min(c, nearest), max(c, nearest)] == "mixes":
                what = f"mixes with mode {nearest}: their shares are the score's, not the data's"
            lines.append(
                f"mode {c} (weight {self.weights[c]:.3f}): {what}; the expected time to mode "
                f"{nearest} is {times[c, nearest]:.2g}, the run's is {time:.2g}."
            )
        return "\n".join(lines)


def analyse_clusters(
    mixture: GaussianMixture, rng: np.random.Generator, min_overlap: float
) -> ClusterAnalysis:
    """Cluster the components of a mixture by overlap, and estimate the passages between clusters.

    Parameters
    ----------
    mixture : GaussianMixture
    rng : numpy.random.Generator
    min_overlap : float
        Overlap from which two components are connected.

    Returns
    -------
    ClusterAnalysis
        The locations are in the mixture's coordinates, `weights_se` is zero.
    """
    z = mixture.sample(OVERLAP_DRAWS, rng)
    overlap, error = overlap_matrix(mixture.log_parts(z), mixture.weights)
    cluster, weights = _connected(overlap >= min_overlap, mixture.weights)
    n_clusters = len(weights)
    metric = np.stack([cluster_covariance(mixture, cluster == c) for c in range(n_clusters)])
    constants = np.empty(len(cluster))
    bounds = []
    for c in range(n_clusters):
        inside = np.flatnonzero(cluster == c)
        inverse = np.linalg.inv(np.linalg.cholesky(metric[c]))
        for k in inside:
            whitened = inverse @ mixture.covariances[k] @ inverse.T
            constants[k] = np.linalg.eigvalsh(whitened)[-1]
        block = overlap[np.ix_(inside, inside)]
        bounds.append(log_sobolev_bound(block, mixture.weights[inside], constants[inside]))
    rates = crossing_rates(mixture, metric[cluster])
    means = [
        mixture.weights[cluster == c] @ mixture.means[cluster == c] / weights[c]
        for c in range(n_clusters)
    ]
    return ClusterAnalysis(
        weights=weights,
        weights_se=np.zeros(n_clusters),
        locations=np.stack(means),
        cluster=cluster,
        component_weights=mixture.weights,
        overlap=overlap,
        overlap_se=error,
        min_overlap=min_overlap,
        log_sobolev=np.array(bounds),
        log_sobolev_all=log_sobolev_bound(overlap, mixture.weights, constants),
        crossing_rates=_between_clusters(rates, cluster, mixture.weights),
    )


def _connected(graph: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cluster of each node of a graph by its connections, heaviest first, and their weights."""
    _, cluster = connected_components(graph, directed=False)
    cluster_weights = np.bincount(cluster, weights)
    order = np.argsort(-cluster_weights, kind="stable")
    return np.argsort(order)[cluster], cluster_weights[order]


def _between_clusters(rates: np.ndarray, cluster: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rates between clusters, shape (C, C), from those between components, shape (K, K)."""
    share = np.bincount(cluster, weights)
    out = np.zeros((len(share), len(share)))
    for a in range(len(share)):
        for b in range(len(share)):
            if a != b:
                block = rates[np.ix_(cluster == a, cluster == b)].sum(axis=1)
                out[a, b] = weights[cluster == a] @ block / share[a]
    return out


def cluster_covariance(mixture: GaussianMixture, which: np.ndarray) -> np.ndarray:
    """Covariance, shape (d, d), of the components that a mask of shape (K,) chooses."""
    return mixture.take(which).moments()[1]


def cluster_labels(
    clusters: ClusterAnalysis, mixture: GaussianMixture, z: np.ndarray
) -> np.ndarray:
    """Cluster of the component that most likely made each row of z, shape (n,)."""
    out: np.ndarray = clusters.cluster[np.argmax(mixture.log_parts(z), axis=1)]
    return out


def crossing_rates(mixture: GaussianMixture, metric: np.ndarray | None = None) -> np.ndarray:
    r"""Rates at which Langevin dynamics passes from the mean of one component to another mean.

    .. math:: 1 / r_{ij} = \frac{1}{D} \int_{m_i}^{m_j} \frac{du}{p(u)} \int_{-\infty}^u p(v) dv

    Here p is the density of the two components together along the direction that separates them
    best. Along one direction the mean first-passage time is at most that of the whole space when
    barriers are high, so that the rates err towards too fast.

    Parameters
    ----------
    mixture : GaussianMixture
    metric : array of shape (K, d, d), optional
        Preconditioner of a run that starts in each component; the identity by default.

    Returns
    -------
    array of shape (K, K)
        Zero on the diagonal, and where the time is beyond floating point.
    """
    k = len(mixture.weights)
    rates = np.zeros((k, k))
    for i in range(k):
        for j in range(k):
            if i == j:
                continue
            gap = mixture.means[j] - mixture.means[i]
            both = mixture.covariances[i] + mixture.covariances[j]
            direction = np.linalg.solve(both, gap)
            size = np.linalg.norm(direction)
            if size < MIN_SEPARATION:
                rates[i, j] = np.inf
                continue
            direction /= size
            sds = [np.sqrt(direction @ mixture.covariances[n] @ direction) for n in (i, j)]
            diffusion = 1.0 if metric is None else float(direction @ metric[i] @ direction)
            log_time = _log_passage_time(gap @ direction, sds, mixture.weights[[i, j]])
            rates[i, j] = diffusion * np.exp(-log_time)
    return rates


def _log_passage_time(distance: float, sds: list[float], weights: np.ndarray) -> float:
    """Log of the mean first-passage time from 0 to `distance` in a mixture of two normals."""
    u = np.linspace(-QUADRATURE_SDS * sds[0], distance, QUADRATURE_POINTS)
    logs = [
        np.log(w / s) - 0.5 * ((u - m) / s) ** 2
        for w, s, m in zip(weights, sds, (0.0, distance), strict=True)
    ]
    log_p = np.logaddexp(*logs)
    below = np.logaddexp.accumulate(log_p)
    inside = u >= 0
    cell = u[1] - u[0]
    return float(np.logaddexp.reduce((below - log_p)[inside]) + 2 * np.log(cell))
