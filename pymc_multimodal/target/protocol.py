"""What moves, regions, evidence and proposals need of a density."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np

from pymc_multimodal.target.units import Place

__all__ = ["LogDensity", "OutputModel", "SumOfTerms", "TermModel"]


class LogDensity(Protocol):
    """A log density on R^d, evaluated in batches: a `Density`, or a `Target` made of one."""

    @property
    def dim(self) -> int:
        """Number of coordinates, d."""
        ...

    @property
    def has_gradient(self) -> bool:
        """Whether `logp_and_grad` can be called."""
        ...

    @property
    def period(self) -> np.ndarray:
        """Period of each coordinate, shape (d,); ``inf`` for a coordinate that does not wrap."""
        ...

    def logp(self, x: np.ndarray) -> np.ndarray:
        """Log density of each row: (n, d) -> (n,)."""
        ...

    def logp_and_grad(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log density and gradient of each row: (n, d) -> (n,) and (n, d)."""
        ...

    def wrap(self, x: np.ndarray) -> np.ndarray:
        """Bring circular coordinates into the period around zero."""
        ...

    def unroll(self, x: np.ndarray, centre: np.ndarray | float) -> np.ndarray:
        """Choose for each circular coordinate the copy nearest to `centre`."""
        ...

    def spent(self) -> int:
        """Return how many points have been evaluated."""
        ...

    def exhausted(self) -> bool:
        """Tell whether a limit of the fit under way is reached."""
        ...

    def limited(self, refuse: bool = True) -> AbstractContextManager[None]:
        """Raise `LimitReached` inside of the context once a limit of the fit is reached."""
        ...


class SumOfTerms(Protocol):
    """A log density that is a sum of T terms."""

    def terms(self, x: np.ndarray) -> np.ndarray:
        """Terms at points: (n, d) -> (n, T)."""
        ...


class OutputModel(Protocol):
    """A log density that is split at the outputs y of a simulator: log p(x) = l(x, y(x))."""

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each output."""
        ...

    @property
    def inputs(self) -> np.ndarray:
        """Coordinates that the outputs depend on, integers."""
        ...

    @property
    def n_outputs(self) -> int:
        """Number of outputs, m."""
        ...

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """Run the simulator at points (n, d): outputs (n, m), NaN where it raises."""
        ...

    def log_density(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Log density (n,) for given outputs (n, m); the simulator is not run."""
        ...

    def log_density_and_grad(
        self, x: np.ndarray, y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Log density (n,) with its gradients by x, (n, d), and by the outputs, (n, m)."""
        ...


class TermModel(Protocol):
    """A log density as a sum of T terms."""

    @property
    def depends(self) -> np.ndarray:
        """Which coordinates each term may depend on, bool (T, d)."""
        ...

    @property
    def places(self) -> tuple[Place, ...]:
        """Where each coordinate stands in the model."""
        ...

    def prepare(self) -> None:
        """Compile what evaluates the terms, if that has not happened yet."""
        ...

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Evaluate the terms at points: (n, d) to (n, T), -inf where they are not finite."""
        ...
