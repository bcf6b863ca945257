"""A part of R^d that represents all orbits of a symmetric density."""

from __future__ import annotations

import numpy as np

from pymc_multimodal.target.group import Orbit, Symmetry, averaged, generate

__all__ = ["Cells"]

# Images of a mode that are nearer to it than this, in standard deviations of the mode, are one mode
# with it: no border of the cells runs between them.
# Measured: examples/benchmarks/constants.py
SAME_MODE_DISTANCE = 1.0


class Cells:
    r"""A subset C of R^d, made of cells around modes, that represents the orbits of a group G.

    The map `fold` brings a point x into C in two steps. First, for each mode k, it moves x by the
    group element that maps the image of mode k nearest to x onto mode k; distances are measured by
    the mode's precision, averaged over the group. Then it keeps, of these K copies of x, the one
    with the largest Gaussian density of its mode. C is the set of points that `fold` leaves
    unchanged.

    Both steps choose the same mode for all points of an orbit. The orbit of x therefore has exactly
    s(x) points in C, where s is the number of group elements that fix the chosen mode. With
    ``m = |G| / s``, the number of images of that mode,

    .. math:: \int f(x) \gamma(x) dx
              = \int_C m(y) \gamma(y) \frac1{|G|} \sum_{g \in G} f(g y) \, dy

    for every f. So a draw y from :math:`m \gamma` on C, moved by a uniformly drawn group element,
    is a draw from :math:`\gamma`, and both densities have one normalising constant.

    A mode that some elements fix has one cell for all of them: no border of C runs through it.

    Parameters
    ----------
    symmetry : Symmetry
    centres : array of shape (K, d)
        The modes, one of each orbit.
    scale : array of shape (K, d, d)
        Factors L of the modes' covariances ``L @ L.T``.
    joined : sequence of K arrays of shape (j, d, d), optional
        For each mode, elements that map it onto images which count as the mode itself.

    Attributes
    ----------
    orbits : list of Orbit
        The orbit of each mode.
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
        roots = np.linalg.inv(scale)
        precisions = roots.swapaxes(1, 2) @ roots
        metrics = symmetry.metric(precisions)
        for k, (centre, precision) in enumerate(zip(centres, precisions, strict=True)):
            step = symmetry.elements @ centre - centre
            distance = np.sqrt(np.einsum("gi,gi->g", step @ precision, step))
            near = symmetry.elements[distance < SAME_MODE_DISTANCE]
            if joined is not None:
                near = np.concatenate([near, joined[k]])
            # The elements that fix a point are a group: complete the set.
            fixing = generate(tuple(near))
            middle = (fixing @ centre).mean(axis=0)
            orbit = Orbit(symmetry, middle, metrics[k])
            self.orbits.append(orbit)
            self._precision.append(averaged(precision, orbit.fixing))
            self._log_det.append(0.5 * np.linalg.slogdet(self._precision[k])[1])

    @property
    def images(self) -> np.ndarray:
        """Number of images of each mode, shape (K,)."""
        return np.array([len(orbit) for orbit in self.orbits])

    def fold(self, x: np.ndarray) -> np.ndarray:
        """Bring rows of shape (n, d) into C."""
        return self._fold(x)[0]

    def _fold(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the folded rows, the mode of each, and its image that was nearest to the row."""
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
        """Log Gaussian density of mode k, without the constant -d/2 log(2 pi), shape (n,)."""
        step = y - self.orbits[k].points[0]
        with np.errstate(over="ignore", invalid="ignore"):
            distance = np.einsum("ni,ni->n", step @ self._precision[k], step)
        return self._log_det[k] - 0.5 * distance

    def mode_of(self, x: np.ndarray) -> np.ndarray:
        """Return the mode whose cell holds the image of each row in C, shape (n,)."""
        return self._fold(x)[1]

    def log_multiplicity(self, x: np.ndarray) -> np.ndarray:
        """Compute ``log m`` of rows in C; -inf for rows outside of C; shape (n,)."""
        _, mode, image = self._fold(x)
        return np.where(image == 0, np.log(self.images)[mode], -np.inf)

    def move(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Move each row, shape (n, d), by a uniformly drawn element other than the identity."""
        return _moved(x, self.symmetry.elements[1:], rng)

    def scatter(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Move each row, shape (n, d), by a uniformly drawn element of the group."""
        return _moved(x, self.symmetry.elements, rng)


def _moved(x: np.ndarray, elements: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.einsum("nij,nj->ni", elements[rng.integers(len(elements), size=len(x))], x)
