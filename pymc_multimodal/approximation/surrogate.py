"""A fitted mixture in place of the density: what is asked of it costs no evaluation."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.approximation.mixture import ModeMixture
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["Surrogate"]


@dataclass(frozen=True, eq=False)
class Surrogate:
    """The log density of a mixture, as a `LogDensity`.

    Parameters
    ----------
    mixture : ModeMixture
    target : LogDensity
        The density that the mixture stands for: its coordinates and periods are used.
    """

    mixture: ModeMixture
    target: LogDensity

    @property
    def dim(self) -> int:
        """Number of coordinates, d."""
        return self.target.dim

    @property
    def has_gradient(self) -> bool:
        """True: the gradient of a mixture is known."""
        return True

    @property
    def period(self) -> np.ndarray:
        """Period of each coordinate, shape (d,)."""
        return self.target.period

    def logp(self, x: np.ndarray) -> np.ndarray:
        """Log density of the mixture at each row, shape (n,)."""
        return self.mixture.log_density(x)

    def logp_and_grad(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log density of the mixture, shape (n,), and its gradient, shape (n, d)."""
        return self.mixture.logp_and_grad(x)

    def wrap(self, x: np.ndarray) -> np.ndarray:
        """Bring circular coordinates into the period around zero."""
        return self.target.wrap(x)

    def unroll(self, x: np.ndarray, centre: np.ndarray | float) -> np.ndarray:
        """Choose for each circular coordinate the copy nearest to `centre`."""
        return self.target.unroll(x, centre)

    def spent(self) -> int:
        """Return 0: nothing is evaluated."""
        return 0

    def exhausted(self) -> bool:
        """Return whether a limit of the fit under way is reached."""
        return self.target.exhausted()

    def limited(self, refuse: bool = True) -> AbstractContextManager[None]:
        """Return the limits of the density that is replaced."""
        return self.target.limited(refuse)
