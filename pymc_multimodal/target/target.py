"""What is sampled: a density, or a symmetric density that is folded onto its cells."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.status import SymmetryBroken
from pymc_multimodal.target.errors import same_density

if TYPE_CHECKING:
    from pymc_multimodal.target.cells import Cells
    from pymc_multimodal.target.density import Density

__all__ = ["Target"]

# Points without density whose images are evaluated in one batch, at most. Conventional.
MAX_EMPTY = 64


@dataclass(frozen=True)
class Target:
    r"""A density gamma on R^d, or, where cells C are given, :math:`m(x) \gamma(x)` on C.

    m is the number of images of the cell's mode (`Cells`). The folded density is zero outside of C,
    and its integral is that of gamma. `logp_and_grad` gives the gradient of log gamma outside of C
    too, for trajectories that leave C and return.

    Parameters
    ----------
    density : Density
        It counts the evaluations.
    cells : Cells, optional
        The set C.
    gradient : bool
        Whether the density's gradient is used, if it has one.
    """

    density: Density
    cells: Cells | None = None
    gradient: bool = True

    @property
    def dim(self) -> int:
        """Number of coordinates, d."""
        return self.density.dim

    @property
    def has_gradient(self) -> bool:
        """Whether the density has a gradient that is used."""
        return self.gradient and self.density.has_gradient

    @property
    def period(self) -> np.ndarray:
        """Period of each coordinate, shape (d,)."""
        return self.density.period

    @property
    def unfolded(self) -> Density:
        """The density gamma: trajectories follow its gradient inside and outside of the cells."""
        return self.density

    def logp(self, x: np.ndarray) -> np.ndarray:
        """Log density of each row, shape (n,): -inf outside of the cells, without an evaluation."""
        if self.cells is None:
            return self.density.logp(x)
        logp = self.cells.log_multiplicity(x)
        inside = np.isfinite(logp)
        logp[inside] += self.density.logp(x[inside])
        return logp

    def logp_and_grad(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log density, shape (n,), and gradient, shape (n, d), of each row."""
        logp, grad = self.density.logp_and_grad(x)
        return logp + self.log_multiplicity(x), grad

    def wrap(self, x: np.ndarray) -> np.ndarray:
        """Bring circular coordinates into the period around zero."""
        return self.density.wrap(x)

    def unroll(self, x: np.ndarray, centre: np.ndarray | float) -> np.ndarray:
        """Choose for each circular coordinate the copy nearest to `centre`."""
        return self.density.unroll(x, centre)

    def spent(self) -> int:
        """Return how many points have been evaluated."""
        return self.density.spent()

    def exhausted(self) -> bool:
        """Tell whether a limit of the fit under way is reached."""
        return self.density.exhausted()

    def limited(self, refuse: bool = True) -> AbstractContextManager[None]:
        """Raise `LimitReached` inside of the context once a limit of the fit is reached."""
        return self.density.limited(refuse)

    def fold(self, x: np.ndarray) -> np.ndarray:
        """Bring rows of shape (n, d) into the cells; without cells, return them as they are."""
        return x if self.cells is None else self.cells.fold(x)

    def log_multiplicity(self, x: np.ndarray) -> np.ndarray:
        """``log m`` of each row, shape (n,): -inf outside of the cells, 0 without cells."""
        return np.zeros(len(x)) if self.cells is None else self.cells.log_multiplicity(x)

    def confirm(self, x: np.ndarray, logp: np.ndarray) -> None:
        """Compare the log densities of images with those of the points that they are images of.

        Parameters
        ----------
        x : array of shape (n, d)
            The images.
        logp : array of shape (n,)
            Log densities of the points.

        Raises
        ------
        SymmetryBroken
            If one differs.
        """
        if self.cells is None:
            return
        if not same_density(self.density.logp(x), logp, self.density.resolution):
            raise SymmetryBroken

    def confirm_empty(self, x: np.ndarray, lowest: float) -> None:
        """Check that images of points without density have none that counts.

        Parameters
        ----------
        x : array of shape (n, d)
            Points where the folded density is zero. Those outside of the cells are left out.
        lowest : float
            The lowest log density that counts: that of some draw.

        Raises
        ------
        SymmetryBroken
            If an image has a density that counts, while the point has none.
        """
        if self.cells is None or not len(x):
            return
        x = x[np.isfinite(self.cells.log_multiplicity(x))][:MAX_EMPTY]
        if not len(x):
            return
        x = x[np.isneginf(self.density.logp(x))]
        images = np.einsum("gij,nj->gni", np.stack(self.cells.symmetry.generators), x)
        if (self.density.logp(images.reshape(-1, self.dim)) >= lowest).any():
            raise SymmetryBroken
