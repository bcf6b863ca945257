"""Finite groups of linear maps under which a density is symmetric, and the orbits of points."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

__all__ = ["Orbit", "Symmetry", "averaged", "generate", "is_group"]

# Largest group whose elements are listed. The permutations of six exchangeable components are 720,
# those of seven 5040. The value is conventional.
MAX_ELEMENTS = 1024
# Matrix entries of all elements of a listed group together: 32 MB of float64. Conventional.
MAX_ENTRIES = 4e6
# Elements up to which it is looked first whether they are a group: a matrix of 2 MB. Conventional.
FEW_ELEMENTS = 512
# Decimals to which images of a point are compared. Entries of elements are small fractions, and
# products of at most MAX_ELEMENTS of them have rounding errors near 1e-13. Conventional.
ELEMENT_DECIMALS = 6
# Two images of a point are one if they differ by less than this share of the orbit's diameter along
# a generic direction. Rounding errors are near 1e-15 of it. Conventional.
EQUAL_IMAGE_TOLERANCE = 1e-8
# Points that are moved by one call of einsum: a matrix (d, d) is copied for each. Conventional.
MOVED_AT_ONCE = 4096


@dataclass(frozen=True)
class Symmetry:
    """A finite group of linear maps of the unconstrained space that leave a density unchanged.

    Parameters
    ----------
    generators : tuple of arrays of shape (d, d)
        Matrices A of maps ``x -> A @ x`` whose products are the group: permutations of coordinates,
        changes of sign, and the linear maps that permute a simplex in its unconstrained
        coordinates.
    descriptions : tuple of str, optional
        A line of text for each generator.

    Raises
    ------
    TypeError
        If the generators are no arrays of numbers.
    ValueError
        If a generator is not a square matrix, or the group has too many elements.

    Examples
    --------
    Coordinates 0 and 1 are exchanged together with coordinates 2 and 3:

    >>> import numpy as np
    >>> from pymc_multimodal import Symmetry
    >>> len(Symmetry((np.eye(4)[[1, 0, 3, 2]],)).elements)
    2
    """

    generators: tuple[np.ndarray, ...]
    descriptions: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        try:
            generators = tuple(np.asarray(g, dtype=float) for g in self.generators)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"Symmetry(generators={self.generators!r}) must be a tuple of arrays of numbers, "
                f"each of shape (d, d): {error}."
            ) from None
        if not generators or any(g.shape != (len(generators[0]),) * 2 for g in generators):
            raise ValueError(
                f"Symmetry(generators=...) has shapes {[g.shape for g in generators]}: give at "
                "least one array, all of shape (d, d) with d the number of unconstrained "
                "coordinates."
            )
        object.__setattr__(self, "generators", generators)
        if not len(self.elements):
            raise ValueError(
                "Symmetry(generators=...): these generators make a group of more "
                f"than {MAX_ELEMENTS} elements, or an infinite one, or one with more than "
                f"{MAX_ENTRIES:.0e} matrix entries. Give fewer generators, or order the components "
                "in the model."
            )

    @cached_property
    def elements(self) -> np.ndarray:
        """All elements, the identity first, shape (g, d, d)."""
        return generate(self.generators)

    @cached_property
    def inverses(self) -> np.ndarray:
        """Inverses of the elements, in the order of `elements`, shape (g, d, d)."""
        return np.linalg.inv(self.elements)

    def metric(self, precision: np.ndarray) -> np.ndarray:
        """Average precision matrices, shape (..., d, d), over the group.

        Every element of the group is an isometry of the average: it leaves the distances
        ``sqrt(step @ metric @ step)`` unchanged.
        """
        matrices = precision.reshape(-1, *precision.shape[-2:])
        n, d = matrices.shape[:2]
        if d**4 > MAX_ENTRIES or n * len(self.elements) < d**2:
            means = [averaged(p, self.elements) for p in matrices]
        else:
            means = matrices.reshape(n, -1) @ self._averaging
        return np.reshape(means, precision.shape)

    @cached_property
    def _averaging(self) -> np.ndarray:
        """The average of a matrix over the group as a linear map of its entries, (d^2, d^2)."""
        g, d, _ = self.elements.shape
        entries = self.elements.reshape(g, -1)
        products = (entries.T @ entries / g).reshape(d, d, d, d)
        # Entry (i, l) of the mean of g.T @ p @ g is the sum of g[j, i] p[j, k] g[k, l].
        return np.ascontiguousarray(products.transpose(0, 2, 1, 3)).reshape(d**2, d**2)


def generate(generators: tuple[np.ndarray, ...], limit: int = MAX_ELEMENTS) -> np.ndarray:
    """List the group that some matrices generate.

    Parameters
    ----------
    generators : tuple of arrays of shape (d, d)
    limit : int
        Largest number of elements; it is lower where their matrices have more than MAX_ENTRIES
        entries together.

    Returns
    -------
    array of shape (g, d, d)
        The elements, the identity first; g = 0 where the group has more than `limit`.
    """
    d = len(generators[0])
    limit = min(limit, int(MAX_ENTRIES / d**2))
    elements = np.array(generators)
    keys: dict[bytes, int] = {}
    for i, key in enumerate(_keys(elements @ _generic(d))):
        keys.setdefault(key, i)
    elements = elements[list(keys.values())]
    if len(elements) <= min(limit, FEW_ELEMENTS) and is_group(elements):
        first = int(np.abs(elements - np.eye(d)).max(axis=(1, 2)).argmin())
        return np.concatenate([elements[first : first + 1], np.delete(elements, first, axis=0)])
    # A whole group may be given as its own generators: |G| products of each element would be
    # formed. A generator that those before it make already is of no use, and each other one at
    # least doubles the group: log2 |G| are left at most.
    useful: list[np.ndarray] = []
    found = _closed((), d, limit)
    for key, i in keys.items():
        if key not in found and len(found) <= limit:
            useful.append(generators[i])
            found = _closed(tuple(useful), d, limit)
    return np.stack(list(found.values())) if len(found) <= limit else np.empty((0, d, d))


def is_group(elements: np.ndarray) -> bool:
    """Tell whether distinct matrices, shape (g, d, d), are a group, by g^2 products of numbers.

    An element s is known by ``w @ s @ v``, v and w in general position. The products s t are known
    by ``(w @ s) @ (t @ v)``.
    """
    d = elements.shape[1]
    v, w = _generic(2 * d).reshape(2, d)
    moved, left = elements @ v, w @ elements
    own = np.sort(moved @ w)
    size = EQUAL_IMAGE_TOLERANCE * max(float(np.abs(own).max()), 1.0)
    if (np.diff(own) <= size).any():
        return False
    products = left @ moved.T
    place = np.searchsorted(own, products)
    above, below = own[np.minimum(place, len(own) - 1)], own[np.maximum(place - 1, 0)]
    nearest = np.minimum(np.abs(products - above), np.abs(products - below))
    return bool((nearest <= size).all())


def _closed(generators: tuple[np.ndarray, ...], d: int, limit: int) -> dict[bytes, np.ndarray]:
    """Return the identity and its products with generators, by their keys, until `limit`."""
    new, moved = np.eye(d)[None], _generic(d)[None]
    found = {_keys(moved)[0]: new[0]}
    matrices = np.array(generators)
    while generators and len(new) and len(found) <= limit:
        # The products of one element follow one another. Each is known by where it moves a point,
        # so that only the matrices of new ones are multiplied.
        products = np.stack([moved @ g.T for g in generators], axis=1).reshape(-1, d)
        fresh: dict[bytes, int] = {}
        for row, key in enumerate(_keys(products)):
            if key not in found:
                fresh.setdefault(key, row)
        rows = np.array(list(fresh.values()), dtype=int)
        new, moved = matrices[rows % len(generators)] @ new[rows // len(generators)], products[rows]
        found.update(zip(fresh, new, strict=True))
    return found


def _keys(moved: np.ndarray) -> list[bytes]:
    """Keys of elements by the images of a point in general position, shape (n, d)."""
    # Adding zero turns -0.0 into 0.0, whose bytes differ.
    return [image.tobytes() for image in np.round(moved, ELEMENT_DECIMALS) + 0.0]


def averaged(precision: np.ndarray, elements: np.ndarray) -> np.ndarray:
    """Average ``g.T @ precision @ g`` over the elements g of a group.

    Parameters
    ----------
    precision : array of shape (d, d)
    elements : array of shape (g, d, d)

    Returns
    -------
    array of shape (d, d)
    """
    if len(elements) == 1:
        return np.asarray(elements[0].T @ precision @ elements[0])
    d = len(precision)
    moved = (precision @ elements).reshape(-1, d)
    return np.asarray(elements.reshape(-1, d).T @ moved) / len(elements)


class Orbit:
    """The images of one point, the centre, under a group.

    Parameters
    ----------
    symmetry : Symmetry
    centre : array of shape (d,)
    metric : array of shape (d, d)
        Precision matrix that measures distances; the group leaves it unchanged
        (`Symmetry.metric`).

    Attributes
    ----------
    points : array of shape (m, d)
        The distinct images, `centre` first.
    fixing : array of shape (g / m, d, d)
        Elements that map the centre onto itself.
    """

    def __init__(self, symmetry: Symmetry, centre: np.ndarray, metric: np.ndarray) -> None:
        elements = symmetry.elements
        images = elements @ centre
        # Coordinates along a generic direction differ for distinct images.
        step = images - centre
        size = np.sqrt(np.einsum("gi,gi->g", step @ metric, step).max())
        along = step @ (np.linalg.cholesky(metric) @ _generic(len(centre)))
        order = np.argsort(along, kind="stable")
        jump = np.diff(along[order]) > EQUAL_IMAGE_TOLERANCE * max(size, 1.0)
        group = np.empty(len(order), dtype=int)
        group[order] = np.concatenate([[0], np.cumsum(jump)])
        _, first = np.unique(group, return_index=True)
        self._symmetry, self._index = symmetry, np.sort(first)
        self.points = images[self._index]
        self.fixing = elements[group == group[0]]
        # The images have one length in the metric, so that the nearest image of x has the largest
        # inner product with x.
        self._dual = (metric @ self.points.T).copy()

    def __len__(self) -> int:
        return len(self.points)

    @property
    def maps(self) -> np.ndarray:
        """For each image an element that maps the centre onto it, shape (m, d, d)."""
        return self._symmetry.elements[self._index]

    @property
    def inverses(self) -> np.ndarray:
        """Inverses of the maps, shape (m, d, d)."""
        return self._symmetry.inverses[self._index]

    def nearest(self, x: np.ndarray) -> np.ndarray:
        """Index of the image nearest to each row of `x`, shape (n,)."""
        return np.argmax(x @ self._dual, axis=1)

    def fold(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Move each row by the element that maps its nearest image onto the centre.

        Parameters
        ----------
        x : array of shape (n, d)

        Returns
        -------
        y : array of shape (n, d)
            The points moved.
        image : array of int, shape (n,)
            Index of the nearest image in `points`.
        """
        image = self.nearest(x)
        y = np.array(x, dtype=float)
        away = np.flatnonzero(image)
        for rows in np.array_split(away, max(1, len(away) // MOVED_AT_ONCE)):
            inverses = self._symmetry.inverses[self._index[image[rows]]]
            y[rows] = np.einsum("nij,nj->ni", inverses, x[rows])
        return y, image


def _generic(d: int) -> np.ndarray:
    """Return a direction in general position: fixed, so that an orbit does not depend on a seed."""
    return np.random.default_rng(d).standard_normal(d)
