"""Functions of many symmetric matrices at once, each known by its products with vectors alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Krylov", "krylov"]

# Relative length of a new vector below which a Krylov space is complete. Conventional: rounding.
COMPLETE = 1e-10


@dataclass(frozen=True, eq=False)
class Krylov:
    r"""Krylov spaces of n matrices P, with the eigenvalues of each P inside of its space.

    Attributes
    ----------
    length : array of shape (n,)
        Of the vectors b that the spaces begin with.
    basis : array of shape (n, k, D)
        Orthonormal rows.
    values : array of shape (n, k)
        Eigenvalues of P in the space.
    first : array of shape (n, k)
        Square roots of their shares in b.
    vectors : array of shape (n, k, k)
        Eigenvectors in the basis.
    """

    length: np.ndarray
    basis: np.ndarray
    values: np.ndarray
    first: np.ndarray
    vectors: np.ndarray

    def times(self, f: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return f(P) b for each matrix, shape (n, D)."""
        at = np.einsum("nij,nj->ni", self.vectors, f(self.values) * self.first)
        out: np.ndarray = np.einsum("ni,nid->nd", at, self.basis) * self.length[:, None]
        return out

    def form(self, f: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return b' f(P) b for each matrix, shape (n,)."""
        out: np.ndarray = (f(self.values) * self.first**2).sum(axis=1) * self.length**2
        return out


def krylov(product: Callable[[np.ndarray], np.ndarray], b: np.ndarray, steps: int) -> Krylov:
    """Build Krylov spaces by Lanczos' method, with full orthogonalisation.

    Parameters
    ----------
    product : callable
        ``product(w)`` multiplies row i of w, shape (n, D), by matrix i.
    b : array of shape (n, D)
    steps : int
        Dimension of the spaces at most.

    Returns
    -------
    Krylov
    """
    n, d = b.shape
    k = min(steps, d)
    length = np.linalg.norm(b, axis=1)
    basis, t = np.zeros((n, k, d)), np.zeros((n, k, k))
    w = b / np.maximum(length, 1e-300)[:, None]
    size = np.where(length > 0, 1.0, 0.0)
    for j in range(k):
        basis[:, j] = w
        after = product(w)
        t[:, j, j] = np.einsum("nd,nd->n", w, after)
        if j + 1 == k:
            break
        for _ in range(2):
            along = np.einsum("nid,nd->ni", basis[:, : j + 1], after)
            after = after - np.einsum("ni,nid->nd", along, basis[:, : j + 1])
        rest = np.linalg.norm(after, axis=1)
        scale = np.abs(t[:, j, j]) + (t[:, j, j - 1] if j else 0.0)
        # A complete space is filled up with zeros, of which b has no part.
        size = np.where(rest > COMPLETE * scale, size, 0.0)
        t[:, j, j + 1] = t[:, j + 1, j] = rest * size
        w = after / np.maximum(rest, 1e-300)[:, None] * size[:, None]
    values, vectors = np.linalg.eigh(t)
    return Krylov(length, basis, values, vectors[:, 0], vectors)
