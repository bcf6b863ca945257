"""Finite groups of linear maps under which a density is symmetric, and the orbits of points."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

__all__ = ["Orbit", "Symmetry", "averaged", "generate"]

# Largest group whose elements are listed (six exchangeable components have 720), and most
# numbers that their matrices may take.
MAX_ELEMENTS, MAX_NUMBERS = 1024, 4e6


@dataclass(frozen=True)
class Symmetry:
    """A finite group of linear maps of the unconstrained space that leave the density unchanged.

    Parameters
    ----------
    generators : tuple of arrays of shape (d, d)
        Maps ``x -> A @ x`` whose products are the group: permutations of coordinates, changes
        of sign, and what permuting a simplex does to its unconstrained coordinates.
    descriptions : tuple of str
        A line for each generator.

    Raises
    ------
    ValueError
        If a generator is not a square matrix, or the group has too many elements.

    Examples
    --------
    Coordinates 0 and 1 may be exchanged, together with coordinates 2 and 3:

    >>> import numpy as np
    >>> from pymc_multimodal import Symmetry
    >>> len(Symmetry((np.eye(4)[[1, 0, 3, 2]],)).elements)
    2
    """

    generators: tuple[np.ndarray, ...]
    descriptions: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        generators = tuple(np.asarray(g, dtype=float) for g in self.generators)
        if not generators or any(g.shape != (len(generators[0]),) * 2 for g in generators):
            raise ValueError(
                f"generators has shapes {[g.shape for g in generators]}; at least one is needed, "
                "all of shape (d, d) with d the number of unconstrained coordinates."
            )
        object.__setattr__(self, "generators", generators)
        if not len(self.elements):
            raise ValueError(
                f"generators make a group of more than {MAX_ELEMENTS} elements, or an infinite "
                "one: give fewer, or order the components in the model."
            )

    @cached_property
    def elements(self) -> np.ndarray:
        """All elements, the identity first, shape (size, d, d)."""
        return generate(self.generators)

    @cached_property
    def inverses(self) -> np.ndarray:
        """Inverses of the elements, in their order."""
        return np.linalg.inv(self.elements)

    def metric(self, precision: np.ndarray) -> np.ndarray:
        """Average a precision matrix, shape (d, d), over the group: distances by it are unchanged.

        Every element is an isometry of the average.
        """
        return averaged(precision, self.elements)


def generate(generators: tuple[np.ndarray, ...], limit: int = MAX_ELEMENTS) -> np.ndarray:
    """List the group of some generators, identity first; empty if it is larger than `limit`."""
    d = len(generators[0])
    limit = min(limit, int(MAX_NUMBERS / d**2))
    found = {_key(np.eye(d)): np.eye(d)}
    new = list(found.values())
    while new and len(found) <= limit:
        fresh = []
        for element in new:
            for g in generators:
                product = g @ element
                key = _key(product)
                if key not in found:
                    found[key] = product
                    fresh.append(product)
        new = fresh
    return np.stack(list(found.values())) if len(found) <= limit else np.empty((0, d, d))


def _key(element: np.ndarray) -> bytes:
    # The zero added turns -0.0 into 0.0; entries are small fractions, far from the rounding.
    return (np.round(element, 6) + 0.0).tobytes()


def averaged(precision: np.ndarray, elements: np.ndarray) -> np.ndarray:
    """Average a precision matrix, shape (d, d), over group elements, shape (g, d, d)."""
    return np.einsum("gji,jk,gkl->il", elements, precision, elements, optimize=True) / len(elements)


class Orbit:
    """The images of one point, and which of them another point is nearest to.

    Parameters
    ----------
    symmetry : Symmetry
    centre : array of shape (d,)
    metric : array of shape (d, d)
        Measures distances; the group leaves it unchanged (`Symmetry.metric`).

    Attributes
    ----------
    points : array of shape (m, d)
        The distinct images, `centre` first.
    """

    def __init__(self, symmetry: Symmetry, centre: np.ndarray, metric: np.ndarray) -> None:
        elements = symmetry.elements
        images = elements @ centre
        # Along a fixed generic direction distinct images differ, equal ones by rounding only.
        step = images - centre
        size = np.sqrt(np.einsum("gi,ij,gj->g", step, metric, step).max())
        along = step @ (np.linalg.cholesky(metric) @ _generic(len(centre)))
        order = np.argsort(along, kind="stable")
        jump = np.diff(along[order]) > 1e-8 * max(size, 1.0)
        group = np.empty(len(order), dtype=int)
        group[order] = np.concatenate([[0], np.cumsum(jump)])
        _, first = np.unique(group, return_index=True)
        self._symmetry, self._index = symmetry, np.sort(first)
        self.points = images[self._index]
        self.fixing = elements[group == group[0]]
        # All images are as long as one another: the nearest has the largest product.
        self._dual = (metric @ self.points.T).copy()

    def __len__(self) -> int:
        return len(self.points)

    @property
    def maps(self) -> np.ndarray:
        """An element that takes the centre to each image, shape (m, d, d)."""
        return self._symmetry.elements[self._index]

    @property
    def inverses(self) -> np.ndarray:
        """Inverses of the maps, shape (m, d, d)."""
        return self._symmetry.inverses[self._index]

    def nearest(self, x: np.ndarray) -> np.ndarray:
        """Index of the image that each row is nearest to, shape (n,)."""
        return np.argmax(x @ self._dual, axis=1)

    def fold(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Move each row by the element that takes its nearest image to the centre.

        Returns the points, shape (n, d), and the index of that image, shape (n,).
        """
        image = self.nearest(x)
        y = np.array(x, dtype=float)
        away = np.flatnonzero(image)
        # In slices: a matrix for every row takes memory.
        for rows in np.array_split(away, max(1, len(away) // 4096)):
            inverses = self._symmetry.inverses[self._index[image[rows]]]
            y[rows] = np.einsum("nij,nj->ni", inverses, x[rows])
        return y, image


def _generic(d: int) -> np.ndarray:
    return np.random.default_rng(d).standard_normal(d)
