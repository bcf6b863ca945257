"""The distribution that a tempered search begins from, and the way from it to the posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from pymc_multimodal.moves import MoveState
from pymc_multimodal.target.circle import is_circular

if TYPE_CHECKING:
    from pymc_multimodal.target.density import Density

__all__ = ["Reference", "TemperedDensity"]


class Reference:
    """Independent Student-t distributions on the line, and uniform ones on circles.

    Parameters
    ----------
    centre, scale, period : arrays of shape (d,)
        Median and robust spread of the starts of the search for modes; period of circular
        coordinates, ``inf`` elsewhere.
    """

    # Degrees of freedom: heavier tails than a normal, with a finite variance. Conventional.
    DF = 5.0

    def __init__(self, centre: np.ndarray, scale: np.ndarray, period: np.ndarray) -> None:
        self.centre, self.scale, self.period = centre, scale, period
        self._is_line = ~is_circular(period)
        df = self.DF
        one = gammaln((df + 1) / 2) - gammaln(df / 2) - 0.5 * np.log(df * np.pi)
        self._constant = np.sum(one - np.log(scale[self._is_line])) - np.sum(
            np.log(period[~self._is_line])
        )

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return draws of shape (n, d)."""
        x = self.centre + self.scale * rng.standard_t(self.DF, (n, len(self.centre)))
        circle = ~self._is_line
        half = self.period[circle] / 2
        x[:, circle] = rng.uniform(-half, half, (n, int(circle.sum())))
        return x

    def log_density(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the log density, shape (n,), and its gradient, shape (n, d)."""
        z = np.where(self._is_line, (x - self.centre) / self.scale, 0.0)
        logp = self._constant - 0.5 * (self.DF + 1) * np.log1p(z**2 / self.DF).sum(axis=1)
        return logp, -(self.DF + 1) * z / (self.DF + z**2) / self.scale


@dataclass(frozen=True)
class TemperedDensity:
    r"""The density :math:`r^{1-\beta} \gamma^\beta` between a reference r and the posterior.

    It has what a move needs of a density.

    Attributes
    ----------
    density : Density
        The posterior :math:`\gamma`.
    reference : Reference
    beta : float
        Inverse temperature, in (0, 1].
    """

    density: Density
    reference: Reference
    beta: float

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return self.density.dim

    @property
    def has_gradient(self) -> bool:
        """Whether the posterior has a gradient."""
        return self.density.has_gradient

    def wrap(self, x: np.ndarray) -> np.ndarray:
        """Bring circular coordinates into one period around zero."""
        return self.density.wrap(x)

    def logp(self, x: np.ndarray) -> np.ndarray:
        """Return the log density, shape (n,)."""
        return self._between(self.reference.log_density(x)[0], self.density.logp(x))

    def logp_and_grad(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the log density, shape (n,), and its gradient, shape (n, d)."""
        logp, grad = self.density.logp_and_grad(x)
        log_r, grad_r = self.reference.log_density(x)
        return self._between(log_r, logp), self._between(grad_r, grad)

    def state(self, x: np.ndarray, logp: np.ndarray, grad: np.ndarray) -> MoveState:
        """Return the state of a move, from the posterior's log density and gradient."""
        log_r, grad_r = self.reference.log_density(x)
        grad = self._between(grad_r, grad) if self.has_gradient else grad
        return MoveState(x, self._between(log_r, logp), grad, np.zeros(len(x), dtype=int))

    def posterior(self, state: MoveState) -> tuple[np.ndarray, np.ndarray]:
        """Return the posterior's log density and gradient, without an evaluation."""
        log_r, grad_r = self.reference.log_density(state.x)
        logp = (state.logp - (1 - self.beta) * log_r) / self.beta
        if not self.has_gradient:
            return logp, state.grad
        return logp, (state.grad - (1 - self.beta) * grad_r) / self.beta

    def _between(self, reference: np.ndarray, posterior: np.ndarray) -> np.ndarray:
        return (1 - self.beta) * reference + self.beta * posterior
