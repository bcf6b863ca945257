"""A partition by a support vector classifier."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from pymc_multimodal.status import Status
from pymc_multimodal.target.circle import is_circular

if TYPE_CHECKING:
    from pymc_multimodal.regions.settings import Regions

__all__ = ["SupportVectors"]

# Smallest eigenvalue of the within-region covariance, relative to the largest, that points are
# whitened by: directions of less variance are rounding. Conventional.
MIN_EIGENVALUE = 1e-6
# Least variance, for coordinates that never vary: its inverse is finite. Conventional.
MIN_VARIANCE = 1e-300
# Every fourth point is held out when kernels are compared. Conventional.
HELD_OUT_STRIDE = 4
# Accuracy on held-out points below which regions are said to overlap. Conventional.
MIN_ACCURACY = 0.9
# Decision values, or kernel values, that are held at a time: 8 MB of float64 each. Conventional.
MAX_DECISIONS = 1_000_000


class SupportVectors:
    """C-SVC partition (Cortes and Vapnik 1995), one vote per pair of regions.

    The trained classifier is unpacked into plain arrays: labels are needed at every move, and the
    prediction of scikit-learn would be most of the cost of a cheap density.

    Parameters
    ----------
    points : array of shape (m, d)
    labels : array of int, shape (m,)
        Every label in ``range(n_regions)`` occurs.
    period : array of shape (d,)
        Periods of circular coordinates, ``inf`` elsewhere.
    settings : Regions
    judged : int, optional
        Kernels are compared on a quarter of the first so many points; by default of all.
    """

    def __init__(
        self,
        points: np.ndarray,
        labels: np.ndarray,
        period: np.ndarray,
        settings: Regions,
        judged: int | None = None,
    ) -> None:
        self.period = period
        self.n_regions = int(labels.max()) + 1
        self._centre, self._whiten = _whitening(self._embed(points), labels)
        features = self.features(points)
        row = np.arange(len(features))
        held_out = (row % HELD_OUT_STRIDE == 0) & (row < (judged or len(row)))
        kernels = [settings.kernel] if settings.kernel else ["linear", "rbf"]
        scores = []
        for kernel in kernels:
            svc = _svc(kernel, settings.C, features).fit(features[~held_out], labels[~held_out])
            scores.append(svc.score(features[held_out], labels[held_out]))
        self.kernel = kernels[int(np.argmax(scores))]  # a tie goes to the linear one, the first
        self.accuracy = float(max(scores))
        self._unpack(_svc(self.kernel, settings.C, features).fit(features, labels))
        self.statuses = _overlap_statuses(self.accuracy)

    def _embed(self, x: np.ndarray) -> np.ndarray:
        """Replace each circular coordinate by its cosine and sine."""
        circular = is_circular(self.period)
        if not circular.any():
            return x
        angle = 2 * np.pi * x[:, circular] / self.period[circular]
        return np.hstack([x[:, ~circular], np.cos(angle), np.sin(angle)])

    def features(self, x: np.ndarray) -> np.ndarray:
        """Whitened coordinates that the classifier works on: (n, d) -> (n, features)."""
        return (self._embed(x) - self._centre) @ self._whiten

    def _unpack(self, svc: Any) -> None:
        count = svc.n_support_
        first = np.concatenate([[0], np.cumsum(count)])
        i, j = np.triu_indices(self.n_regions, k=1)
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
        self._intercept = svc.intercept_
        # With two classes scikit-learn flips the sign of the coefficients that it shows.
        if self.n_regions == 2:
            weights, self._intercept = -weights, -self._intercept
        if self.kernel == "linear":
            # Whitening and planes in one map of shape (embedded coordinates, pairs).
            self._planes = self._whiten @ np.asarray(weights @ svc.support_vectors_).T
        else:
            self._weights, self._support, self._gamma = weights, svc.support_vectors_, svc._gamma
            self._support_norm = np.einsum("ni,ni->n", self._support, self._support)

    def decisions(self, x: np.ndarray) -> np.ndarray:
        """Decision value of each pair of regions, positive for the first: (n, d) -> (n, pairs)."""
        if self.kernel == "linear":
            return (self._embed(x) - self._centre) @ self._planes + self._intercept
        features = self.features(x)
        norm = np.einsum("ni,ni->n", features, features)
        distance = norm[:, None] + self._support_norm - 2 * features @ self._support.T
        kernel = np.exp(-self._gamma * np.maximum(distance, 0.0))
        return np.asarray((self._weights @ kernel.T).T) + self._intercept

    def label(self, x: np.ndarray) -> np.ndarray:
        """Region of each row, shape (n,)."""
        width = self.n_regions * (self.n_regions - 1) // 2
        if self.kernel == "rbf":
            width = max(width, len(self._support))
        size = max(1, MAX_DECISIONS // width)
        parts = [self._label(x[first : first + size]) for first in range(0, max(len(x), 1), size)]
        return np.concatenate(parts)

    def _label(self, x: np.ndarray) -> np.ndarray:
        decisions = self.decisions(x)
        # Votes as in LIBSVM. Decision values, squashed below a third of a vote, break ties, so
        # that a label never depends on the order of the classes.
        support = np.where(decisions > 0, 1.0, -1.0) + decisions / (3 * (1 + np.abs(decisions)))
        return np.argmax(self._signs @ support.T, axis=0)

    @cached_property
    def _signs(self) -> sparse.csr_matrix:
        """Vote of each pair of regions for the first, and against the second: (K, pairs)."""
        i, j = np.triu_indices(self.n_regions, k=1)
        pair = np.arange(len(i))
        votes = np.concatenate([np.ones(len(i)), -np.ones(len(i))])
        place = np.concatenate([i, j]), np.concatenate([pair, pair])
        return sparse.csr_matrix((votes, place), shape=(self.n_regions, len(i)))


def _whitening(x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of all points, and a matrix that whitens the pooled within-region covariance.

    Each coordinate is scaled to unit variance first, so that the floor on the eigenvalues
    cannot hide a coordinate of small scale.
    """
    means = np.stack([x[labels == k].mean(axis=0) for k in range(labels.max() + 1)])
    centred = x - means[labels]
    unit = np.sqrt(np.maximum(np.mean(centred**2, axis=0), MIN_VARIANCE))
    values, vectors = np.linalg.eigh((centred / unit).T @ (centred / unit) / len(x))
    values = np.maximum(values, MIN_EIGENVALUE * values.max())
    return x.mean(axis=0), vectors / np.sqrt(values) / unit[:, None]


def _svc(kernel: str, penalty: float, features: np.ndarray) -> Any:
    from sklearn.svm import SVC

    # Whitened points are about sqrt(2 f) apart, with f features: gamma is 1 / (2 f).
    # The classifier uses no random numbers, but without a seed it takes one from NumPy's global
    # generator.
    gamma = 1.0 / (2.0 * features.shape[1])
    return SVC(kernel=kernel, C=penalty, gamma=gamma, random_state=0)


def _overlap_statuses(accuracy: float) -> tuple[Status, ...]:
    if accuracy >= MIN_ACCURACY:
        return ()
    return (
        Status("overlap", "regions",
               f"the regions overlap: {accuracy:.0%} of held-out points are labelled as their "
               "chains are.",
               "Weights of single regions depend on where the border is.", level="info"),
    )  # fmt: skip
