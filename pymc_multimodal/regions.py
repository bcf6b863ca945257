"""The partition: every point of R^d gets one region, so that evidences add up exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from scipy import sparse
from scipy.linalg import solve_triangular
from sklearn.svm import SVC

from pymc_multimodal.density import unroll
from pymc_multimodal.status import Status

if TYPE_CHECKING:
    from pymc_multimodal.density import Density

__all__ = ["NearestMode", "Partition", "Regions", "SupportVectors", "segment"]


@dataclass(frozen=True)
class Regions:
    """How R^d is cut into regions.

    Parameters
    ----------
    method : {"svc", "nearest"}
        "svc" trains a soft-margin support vector classifier on short unrestricted chains
        labelled by the mode they began in (arXiv 2505.07825 trains it on starting points,
        which extrapolates badly in high dimension); "nearest" assigns the mode of largest
        Gaussian density.
    C : float
        Penalty of the classifier.
    kernel : {"linear", "rbf"}, optional
        By default linear where it separates the training points as well as the radial one.
    max_svc_modes : int
        With more modes than this the nearest mode is used: the classifier works on pairs.

    Raises
    ------
    ValueError
        If a setting is out of range.
    """

    method: Literal["svc", "nearest"] = "svc"
    C: float = 10.0
    kernel: Literal["linear", "rbf"] | None = None
    max_svc_modes: int = 64

    def __post_init__(self) -> None:
        if self.method not in ("svc", "nearest"):
            raise ValueError(f"Regions(method={self.method!r}): choose 'svc' or 'nearest'.")
        if not self.C > 0:
            raise ValueError(f"Regions(C={self.C}) must be positive.")
        if self.kernel not in (None, "linear", "rbf"):
            raise ValueError(f"Regions(kernel={self.kernel!r}): choose 'linear', 'rbf' or None.")
        if self.max_svc_modes < 0:
            raise ValueError(
                f"Regions(max_svc_modes={self.max_svc_modes}) must not be negative; with 0 the "
                "nearest mode is always used."
            )


class Partition(Protocol):
    """A labelling of R^d by disjoint regions that cover it."""

    n_regions: int
    statuses: tuple[Status, ...]

    def label(self, x: np.ndarray) -> np.ndarray:
        """Region of each row: (n, d) -> int array of shape (n,)."""
        ...


class NearestMode:
    """Region of the mode with the largest Gaussian density at the point.

    Parameters
    ----------
    centres : array of shape (K, d)
    scale : array of shape (K, d, d)
        Lower-triangular factors of the covariances.
    period : array of shape (d,)
        Periods of circular coordinates, ``inf`` elsewhere.
    """

    def __init__(self, centres: np.ndarray, scale: np.ndarray, period: np.ndarray) -> None:
        self.centres, self.scale, self.period = centres, scale, period
        self.n_regions = len(centres)
        self.statuses: tuple[Status, ...] = ()
        self._log_det = np.log(np.diagonal(scale, axis1=1, axis2=2)).sum(axis=1)
        self._inverse = np.stack([solve_triangular(s, np.eye(len(s)), lower=True) for s in scale])

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Log Gaussian density up to a constant, shape (n, K)."""
        out = np.empty((len(x), self.n_regions))
        for k in range(self.n_regions):
            step = unroll(x - self.centres[k], 0.0, self.period)
            z = step @ self._inverse[k].T
            out[:, k] = -0.5 * np.einsum("ni,ni->n", z, z) - self._log_det[k]
        return out

    def label(self, x: np.ndarray) -> np.ndarray:
        """Region of each row."""
        if self.n_regions == 1:
            return np.zeros(len(x), dtype=int)
        return np.argmax(self.scores(x), axis=1)


class SupportVectors:
    """C-SVC partition, one vote per pair of regions.

    The trained classifier is unpacked into plain arrays: labels are asked for at every move,
    and the library's own prediction would dominate the cost of a cheap density.

    Parameters
    ----------
    points, labels : arrays of shape (m, d) and (m,)
        Training points; every label in ``range(n_regions)`` occurs.
    period : array of shape (d,)
    config : Regions
    judged : int, optional
        Kernels are compared on a quarter of the first so many points; by default of all.
    """

    def __init__(
        self,
        points: np.ndarray,
        labels: np.ndarray,
        period: np.ndarray,
        config: Regions,
        judged: int | None = None,
    ) -> None:
        self.period = period
        self.n_regions = int(labels.max()) + 1
        raw = self._embed(points)
        means = np.stack([raw[labels == k].mean(axis=0) for k in range(self.n_regions)])
        centred = raw - means[labels]
        # Whitening by the pooled within-region covariance makes distances comparable; units
        # first, so that the floor on its eigenvalues cannot hide a coordinate of small scale.
        unit = np.sqrt(np.maximum(np.mean(centred**2, axis=0), 1e-300))
        values, vectors = np.linalg.eigh((centred / unit).T @ (centred / unit) / len(raw))
        values = np.maximum(values, 1e-6 * values.max())
        self._centre = raw.mean(axis=0)
        self._whiten = vectors / np.sqrt(values) / unit[:, None]
        features = self._features(points)
        row = np.arange(len(features))
        held_out = (row % 4 == 0) & (row < (judged or len(row)))
        kinds = [config.kernel] if config.kernel else ["linear", "rbf"]
        scores = []
        for kind in kinds:
            trained = _svc(kind, config.C, features).fit(features[~held_out], labels[~held_out])
            scores.append(trained.score(features[held_out], labels[held_out]))
        self.kernel = kinds[int(np.argmax(scores))]  # ties go to the linear one, listed first
        self.accuracy = float(max(scores))
        self._unpack(_svc(self.kernel, config.C, features).fit(features, labels))
        statuses = []
        if self.accuracy < 0.9:
            statuses.append(
                Status("overlap", "regions",
                       f"the regions overlap: {self.accuracy:.0%} of held-out points are labelled "
                       "as their chains are.",
                       "Weights of single regions depend on where the border is.", level="info")
            )  # fmt: skip
        self.statuses: tuple[Status, ...] = tuple(statuses)

    def _embed(self, x: np.ndarray) -> np.ndarray:
        circular = np.isfinite(self.period)
        if not circular.any():
            return x
        angle = 2 * np.pi * x[:, circular] / self.period[circular]
        return np.hstack([x[:, ~circular], np.cos(angle), np.sin(angle)])

    def _features(self, x: np.ndarray) -> np.ndarray:
        return (self._embed(x) - self._centre) @ self._whiten

    def _unpack(self, svc: SVC) -> None:
        count = svc.n_support_
        first = np.concatenate([[0], np.cumsum(count)])
        i, j = np.triu_indices(self.n_regions, k=1)
        self._pairs = (i, j)
        # LIBSVM keeps, for each support vector, its coefficients against the other classes.
        rows, columns, values = [], [], []
        for pair, (a, b) in enumerate(zip(i, j, strict=True)):
            for own, against in ((a, b - 1), (b, a)):
                span = np.arange(first[own], first[own + 1])
                rows.append(np.full(len(span), pair))
                columns.append(span)
                values.append(svc.dual_coef_[against, span])
        weights = sparse.csr_matrix(
            (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
            shape=(len(i), first[-1]),
        )
        self._intercept = svc.intercept_ if self.n_regions > 2 else svc.intercept_.copy()
        # With two classes scikit-learn flips the sign of what it shows.
        if self.n_regions == 2:
            weights, self._intercept = -weights, -self._intercept
        if self.kernel == "linear":
            self._planes = np.asarray(weights @ svc.support_vectors_)
        else:
            self._weights, self._support, self._gamma = weights, svc.support_vectors_, svc._gamma
            self._support_norm = np.einsum("ni,ni->n", self._support, self._support)

    def decisions(self, x: np.ndarray) -> np.ndarray:
        """Decision value of each pair of regions, positive for the first: (n, d) -> (n, pairs)."""
        features = self._features(x)
        if self.kernel == "linear":
            return features @ self._planes.T + self._intercept
        norm = np.einsum("ni,ni->n", features, features)
        distance = norm[:, None] + self._support_norm - 2 * features @ self._support.T
        kernel = np.exp(-self._gamma * np.maximum(distance, 0.0))
        return np.asarray((self._weights @ kernel.T).T) + self._intercept

    def label(self, x: np.ndarray) -> np.ndarray:
        """Region of each row."""
        decisions = self.decisions(x)
        i, j = self._pairs
        # Votes first, as in LIBSVM; squashed confidences break ties, so that a label never
        # depends on the order of the classes.
        support = np.where(decisions > 0, 1.0, -1.0) + decisions / (3 * (1 + np.abs(decisions)))
        votes = np.zeros((len(x), self.n_regions))
        for k in range(self.n_regions):
            votes[:, k] = support[:, i == k].sum(axis=1) - support[:, j == k].sum(axis=1)
        return np.argmax(votes, axis=1)


def _svc(kernel: str, penalty: float, features: np.ndarray) -> SVC:
    # Distances between whitened points are about sqrt(2 d): gamma follows.
    return SVC(kernel=kernel, C=penalty, gamma=1.0 / (2.0 * features.shape[1]))


def segment(
    density: Density,
    draws: np.ndarray,
    extra_points: np.ndarray,
    extra_labels: np.ndarray,
    config: Regions,
    corrections: tuple[np.ndarray, np.ndarray],
) -> Partition:
    """Cut R^d into one region per mode.

    Parameters
    ----------
    density : Density
        For the periods of its coordinates.
    draws : array of shape (K, m, d)
        Draws of short unrestricted chains, by the mode they began in.
    extra_points, extra_labels : arrays of shape (p, d) and (p,)
        Starts and points on the optimisers' paths, with their modes.
    config : Regions
    corrections : arrays of shape (c, d) and (c,)
        Points that an earlier partition put into the wrong region, with their modes.

    Returns
    -------
    Partition
    """
    k, m, d = draws.shape
    if k == 1 or config.method == "nearest" or k > config.max_svc_modes:
        return nearest_mode(density, draws)
    # Chains say more about where a region is than starts do: starts are thinned to a fraction.
    chosen: list[int] = []
    for mode in range(k):
        rows = np.flatnonzero(extra_labels == mode)
        chosen += list(rows[:: max(1, len(rows) // max(m // 4, 1))][: m // 4])
    some = _plausible(density, draws, extra_points, extra_labels, np.array(chosen, dtype=int))
    known = corrections[1] >= 0
    points = np.concatenate([draws.reshape(-1, d), extra_points[some], corrections[0][known]])
    labels = np.concatenate([np.repeat(np.arange(k), m), extra_labels[some], corrections[1][known]])
    return SupportVectors(points, labels, density.period, config, judged=k * m)


def _plausible(
    density: Density, draws: np.ndarray, points: np.ndarray, labels: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Keep the rows of points that hold mass: a border bent to suit others cuts through it."""
    level = density.logp(draws[:, ::16].reshape(-1, draws.shape[2]))
    level = level.reshape(len(draws), -1).max(axis=1)
    floor = level[labels[rows]] - 20.0 - draws.shape[2]
    return rows[density.logp(points[rows]) > floor] if len(rows) else rows


def nearest_mode(density: Density, draws: np.ndarray) -> NearestMode:
    """Nearest-mode partition with the centres and covariances of draws, shape (K, m, d)."""
    centres, scales = [], []
    for own in draws:
        centre = own[0]
        step = density.unroll(own, centre) - centre
        mean = step.mean(axis=0)
        covariance = np.atleast_2d(np.cov(step.T))
        variance = np.maximum(np.diag(covariance), 1e-300)
        # Shrinkage towards the diagonal: short chains do not fill high dimensions.
        weight = min(0.9, own.shape[1] / len(own))
        covariance = (1 - weight) * covariance + weight * np.diag(variance)
        centres.append(density.wrap(centre + mean))
        scales.append(np.linalg.cholesky(covariance + 1e-9 * np.diag(variance)))
    return NearestMode(np.array(centres), np.array(scales), density.period)


class Relabelled:
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
        """Region of each row."""
        return self._rank[self.base.label(x)]


def mixing_groups(density: Density, draws: np.ndarray) -> np.ndarray:
    """Group modes whose unrestricted chains mix.

    Parameters
    ----------
    density : Density
    draws : array of shape (K, chains, moves, d)

    Returns
    -------
    array of int, shape (K,)
        Group of each mode, numbered from 0 in order of first appearance.
    """
    k, _, moves, d = draws.shape
    group = np.arange(k)
    if k == 1:
        return group
    late = draws[:, :, -max(1, moves // 4) :].reshape(k, -1, d)
    partition = nearest_mode(density, late)
    stay = np.zeros((k, k))
    for a in range(k):
        stay[a] = np.bincount(partition.label(late[a]), minlength=k) / late.shape[1]
    # A mode that half of its own chains have left is no mode; two that exchange a third of
    # theirs within these few moves are one for any longer run.
    joined = (stay > 0.5) | (stay.T > 0.5) | ((stay > 0.3) & (stay.T > 0.3))
    for a, b in np.argwhere(np.triu(joined, k=1)):
        group[group == group[b]] = group[a]
    return np.unique(group, return_inverse=True)[1]
