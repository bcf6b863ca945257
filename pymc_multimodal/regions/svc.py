"""A partition by a support vector classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from sklearn.svm import SVC

from pymc_multimodal.status import Status

if TYPE_CHECKING:
    from pymc_multimodal.regions.settings import Regions

__all__ = ["SupportVectors"]


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
