"""Affine coordinates, in which the diffusion runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

__all__ = ["AffineMap"]


@dataclass(frozen=True, eq=False)
class AffineMap:
    """Coordinates z of points ``x = origin + factor z``.

    Attributes
    ----------
    origin : array of shape (d,)
    factor : array of shape (d, d)
        Lower-triangular, with a positive diagonal.
    """

    origin: np.ndarray
    factor: np.ndarray

    def to_z(self, x: np.ndarray) -> np.ndarray:
        """Coordinates z of points x, both of shape (n, d)."""
        return solve_triangular(self.factor, (x - self.origin).T, lower=True).T

    def to_x(self, z: np.ndarray) -> np.ndarray:
        """Points x of coordinates z, both of shape (n, d)."""
        return self.origin + z @ self.factor.T

    @property
    def log_volume(self) -> float:
        """Log of the volume in x of a unit of volume in z."""
        return float(np.log(np.abs(np.diag(self.factor))).sum())
