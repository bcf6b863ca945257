"""Finite symmetry groups of a density, and the folded density that holds each orbit once."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.density import Density
from pymc_multimodal.soundness import same_density

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Cells", "FoldedDensity", "Symmetry"]

# Largest group whose elements are listed (six exchangeable components have 720), and most
# numbers that their matrices may take.
MAX_ELEMENTS, MAX_NUMBERS = 1024, 4e6
# Images of a mode nearer than this, in its standard deviations, are one mode: no border is put
# between them.
SAME_MODE = 1.0


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
    >>> from pymc_multimodal.symmetry import Symmetry
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
        return _averaged(precision, self.elements)


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


def _averaged(precision: np.ndarray, elements: np.ndarray) -> np.ndarray:
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


class Cells:
    r"""A set of points that holds every orbit of a group equally often: cells about given modes.

    For each mode, a point is brought to the copy nearest to it (nearest among the mode's
    images, by the mode's precision averaged over the group). Of the copies for the different
    modes, the one of largest Gaussian density is kept: that is `fold`, and C, the set of points
    which it leaves where they are. Both choices are the same for all points of an orbit, so that C
    holds exactly ``s(x)`` points of x's orbit, s being the number of elements that fix the mode
    chosen, and with ``m = |G| / s``

    .. math:: \int f(x) \gamma(x) dx
              = \int_C m(y) \gamma(y) \frac1{|G|} \sum_{g \in G} f(g y) \, dy

    for every f: a draw y from :math:`m \gamma` on C, moved by a group element drawn uniformly,
    is a draw from :math:`\gamma`, and both have the same normalising constant.

    A mode that some elements fix has one cell for all of them, so no border of C runs
    through it.

    Parameters
    ----------
    symmetry : Symmetry
    centres : array of shape (K, d)
        The modes, one of each orbit.
    scale : array of shape (K, d, d)
        Factors L of their covariances ``L @ L.T``.
    joined : sequence of arrays of shape (j, d, d), optional
        Elements whose images of the mode belong to it as well.

    Attributes
    ----------
    orbits : list of Orbit
    """

    def __init__(
        self,
        symmetry: Symmetry,
        centres: np.ndarray,
        scale: np.ndarray,
        joined: list[np.ndarray] | None = None,
    ) -> None:
        self.symmetry = symmetry
        self.orbits: list[Orbit] = []
        self._precision, self._log_det = [], []
        for k, (centre, factor) in enumerate(zip(centres, scale, strict=True)):
            root = np.linalg.inv(factor)
            precision = root.T @ root
            step = symmetry.elements @ centre - centre
            distance = np.sqrt(np.einsum("gi,ij,gj->g", step, precision, step))
            near = symmetry.elements[distance < SAME_MODE]
            if joined is not None:
                near = np.concatenate([near, joined[k]])
            # The elements that are to fix a centre have to be a group themselves.
            fixing = generate(tuple(near))
            middle = (fixing @ centre).mean(axis=0)
            orbit = Orbit(symmetry, middle, symmetry.metric(precision))
            precision = _averaged(precision, orbit.fixing)
            self.orbits.append(orbit)
            self._precision.append(precision)
            self._log_det.append(0.5 * np.linalg.slogdet(precision)[1])

    @property
    def images(self) -> np.ndarray:
        """Number of images of each mode, shape (K,)."""
        return np.array([len(orbit) for orbit in self.orbits])

    def fold(self, x: np.ndarray) -> np.ndarray:
        """Bring rows of shape (n, d) into C."""
        return self._fold(x)[0]

    def _fold(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the folded rows, the mode chosen for each, and which of its images it was at."""
        y, image = self.orbits[0].fold(x)
        mode = np.zeros(len(x), dtype=int)
        if len(self.orbits) == 1:
            return y, mode, image
        best = self._score(0, y)
        for k in range(1, len(self.orbits)):
            other, where = self.orbits[k].fold(x)
            score = self._score(k, other)
            better = score > best
            y = np.where(better[:, None], other, y)
            mode, image = np.where(better, k, mode), np.where(better, where, image)
            best = np.maximum(score, best)
        return y, mode, image

    def _score(self, k: int, y: np.ndarray) -> np.ndarray:
        step = y - self.orbits[k].points[0]
        with np.errstate(over="ignore", invalid="ignore"):
            distance = np.einsum("ni,ni->n", step @ self._precision[k], step)
        return self._log_det[k] - 0.5 * distance

    def mode_of(self, x: np.ndarray) -> np.ndarray:
        """Mode whose cell each row, brought into C, lies in, shape (n,)."""
        return self._fold(x)[1]

    def log_multiplicity(self, x: np.ndarray) -> np.ndarray:
        """``log m`` of rows in C and -inf outside, shape (n,)."""
        _, mode, image = self._fold(x)
        return np.where(image == 0, np.log(self.images)[mode], -np.inf)

    def scatter(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Move each row by an element of the group, drawn uniformly."""
        elements = self.symmetry.elements
        return np.einsum("nij,nj->ni", elements[rng.integers(len(elements), size=len(x))], x)


class FoldedDensity(Density):
    """A symmetric density on the cells C: m times as high there, and zero elsewhere.

    It has the evidence of the density it was made from. Gradients are given outside of C too, for
    trajectories that pass through and return.

    Parameters
    ----------
    base : Density
        Its evaluations are counted there as well.
    cells : Cells

    Attributes
    ----------
    broken : bool
        Whether a point was met whose image has another log density.
    """

    def __init__(self, base: Density, cells: Cells) -> None:
        super().__init__(
            base._function,
            base.dim,
            has_gradient=base.has_gradient,
            period=base.period,
            names=base.names,
        )
        self.base, self.cells = base, cells

    def confirm(self, x: np.ndarray, logp: np.ndarray) -> None:
        """Compare the log densities of images x, shape (n, d), with those of their originals."""
        self.broken |= not same_density(self.base.logp(x), logp)

    def fold(self, x: np.ndarray) -> np.ndarray:
        """Bring rows of shape (n, d) into the cells."""
        return self.cells.fold(x)

    def log_multiplicity(self, x: np.ndarray) -> np.ndarray:
        """By how much the log density is raised; -inf outside of the cells, shape (n,)."""
        return self.cells.log_multiplicity(x)

    def logp(self, x: np.ndarray) -> np.ndarray:
        """Log density of each row; rows outside of the cells cost no evaluation."""
        logp = self.cells.log_multiplicity(x)
        inside = np.isfinite(logp)
        logp[inside] += self.base.logp(x[inside])
        return logp

    def spent(self) -> int:
        """Return the evaluations of the density that this was made from."""
        return self.base.spent()

    def exhausted(self) -> bool:
        """Ask the density that this was made from, of which a fit sets the limits."""
        return self.base.exhausted()

    @contextmanager
    def limited(self, refuse: bool = True) -> Iterator[None]:
        """Refuse evaluations of the density that this was made from."""
        with self.base.limited(refuse):
            yield

    def _evaluate(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logp, grad = self.base._evaluate(x)
        return logp + self.cells.log_multiplicity(x), grad
