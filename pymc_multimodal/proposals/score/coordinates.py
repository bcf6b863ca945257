"""Affine coordinates in which a typical mode of the draws has unit spread."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["AffineCoordinates"]


@dataclass(frozen=True)
class AffineCoordinates:
    """Coordinates z of points ``x = centre + basis z``.

    Attributes
    ----------
    centre : array of shape (d,)
    basis : array of shape (d, r)
        The columns span the directions in which the draws vary, r <= d.
    """

    centre: np.ndarray
    basis: np.ndarray

    @cached_property
    def inverse(self) -> np.ndarray:
        """Pseudo-inverse of the basis, shape (r, d)."""
        return np.linalg.pinv(self.basis)

    def to_z(self, x: np.ndarray) -> np.ndarray:
        """Coordinates z, shape (n, r), of points x, shape (n, d)."""
        return (x - self.centre) @ self.inverse.T

    def to_x(self, z: np.ndarray) -> np.ndarray:
        """Points x, shape (n, d), of coordinates z, shape (n, r)."""
        return self.centre + z @ self.basis.T

    def moved(self, mean: np.ndarray, factor: np.ndarray) -> AffineCoordinates:
        """Return the coordinates y with ``z = mean + factor y``."""
        return AffineCoordinates(self.centre + self.basis @ mean, self.basis @ factor)
