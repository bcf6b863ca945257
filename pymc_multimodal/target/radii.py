"""Lower bounds of the distances of points from many normal densities, in one matrix product."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

__all__ = ["RadiusBounds"]

# Relative rounding error of a squared distance that the bounds allow for: 10^5 times that of one
# operation. Conventional.
ROUNDING = 1e-11


class RadiusBounds:
    """Bounds of squared Mahalanobis distances from K centres.

    In coordinates y in which the mean of the covariances is the identity, the squared distance is
    at least the Euclidean one times the smallest squared singular value of ``inverse[k]`` in these
    coordinates, and at most that times the largest.

    Parameters
    ----------
    centres : array of shape (K, d)
        Of coordinates that are not circular.
    scale, inverse : arrays of shape (K, d, d)
        Lower-triangular factors of the covariances, and their inverses.

    Attributes
    ----------
    y : array of shape (K, d)
        The centres in the common coordinates.
    least, most : arrays of shape (K,)
        Smallest and largest squared singular values.
    """

    def __init__(self, centres: np.ndarray, scale: np.ndarray, inverse: np.ndarray) -> None:
        # The sum of the products is not formed, because that squares the condition number.
        root = np.asarray(np.linalg.qr(np.concatenate(scale.swapaxes(1, 2)), mode="r")).T
        root = root / np.sqrt(len(scale))
        self._middle = centres.mean(axis=0)
        self._whiten = solve_triangular(root, np.eye(len(root)), lower=True).T
        singular = np.linalg.svd(inverse @ root, compute_uv=False) ** 2
        self.least, self.most = singular[:, -1], singular[:, 0]
        self.y = self.coordinates(centres)
        constant = self.least * np.einsum("ki,ki->k", self.y, self.y)
        self._weights = np.concatenate(
            [(-2.0 * self.least[:, None] * self.y).T, [self.least, constant]]
        )
        self._largest = float(constant.max()), float(self.least.max())

    def coordinates(self, x: np.ndarray) -> np.ndarray:
        """Bring points of shape (n, d) into the common coordinates."""
        return (x - self._middle) @ self._whiten

    def squared(self, x: np.ndarray) -> np.ndarray:
        """Return lower bounds of the squared distances of points, shape (n, K)."""
        y = self.coordinates(x)
        square = np.einsum("ni,ni->n", y, y)
        out = np.column_stack([y, square, np.ones(len(x))]) @ self._weights
        constant, steepest = self._largest
        out -= (ROUNDING * (constant + steepest * square))[:, None]
        return np.maximum(out, 0.0, out=out)
