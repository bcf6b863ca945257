"""The set of points that holds every orbit of a symmetric density equally often."""

from __future__ import annotations

import numpy as np

from pymc_multimodal.target.group import Orbit, Symmetry, averaged, generate

__all__ = ["Cells"]

# Images of a mode nearer than this, in its standard deviations, are one mode: no border is put
# between them.
SAME_MODE = 1.0


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
            precision = averaged(precision, orbit.fixing)
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
