"""Settings of the search for modes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, get_args

import numpy as np

__all__ = ["ModeSearch"]

Optimiser = Literal["lbfgs", "gradient_descent", "differences", "powell", "nelder_mead"]
OPTIMISERS = get_args(Optimiser)


@dataclass(frozen=True)
class ModeSearch:
    """How modes are searched for.

    Parameters
    ----------
    starts : int or array of shape (n, d), optional
        Number of starting points, or the points themselves (unconstrained space). By default
        batches are drawn, from the prior, from the prior scaled about its median by factors up
        to `stretch` and, once there are several optima, from their bounding box, until a batch
        brings no new mode and every mode was found by ten starts (by two, of 1,024 and more):
        at least two batches, and 512 starts as long as "lbfgs" needs no more than 20,000
        evaluations for them.
    locations : array of shape (k, d), dict or list of dict, optional
        Known mode locations, unconstrained or as points in the model's variables. The search
        then starts from them alone.
    radius : float, optional
        How far each coordinate of `locations` may be off: eight starts are drawn around each
        location with this standard deviation (unconstrained space).
    optimiser : {"lbfgs", "gradient_descent", "differences", "powell", "nelder_mead"}, optional
        By default "lbfgs" (all starts in one batch) where there is a gradient; without one
        "powell" up to ten dimensions, which stands noise in the density better, and beyond
        "differences", which is "lbfgs" on forward differences.
    batch : int
        Size of the first batch of starts; each later one doubles their number.
    max_starts : int
        Most starting points to use.
    max_iter : int
        Most iterations of one optimisation.
    stretch : float
        Largest factor by which starts are scaled about the prior median; the factors are
        uniform between 0 and this, for narrow modes near the middle and modes far out.
    barrier : float
        Two optima are one mode if a path joins them on which the log density stays within
        this many nats of the one with less mass (by Laplace's estimate).
    negligible : float
        A mode is left out if Laplace's estimate of its mass is below that of the largest by
        this many nats and half a nat for each dimension.

    Raises
    ------
    TypeError, ValueError
        If a setting has the wrong type, or is out of range.

    Notes
    -----
    Gradient descent from 2,000 uniform starts is step 1 of the hybrid method (arXiv 2505.07825):
    ``ModeSearch(starts=points, optimiser="gradient_descent")`` with uniform `points`.
    """

    starts: int | np.ndarray | None = None
    locations: Any = None
    radius: float | None = None
    optimiser: Optimiser | None = None
    batch: int = 64
    max_starts: int = 4096
    max_iter: int = 300
    stretch: float = 2.0
    barrier: float = 1.0
    negligible: float = 12.0

    def __post_init__(self) -> None:
        if self.optimiser is not None and self.optimiser not in OPTIMISERS:
            raise ValueError(
                f"optimiser={self.optimiser!r} is not known; choose one of {OPTIMISERS}, or leave "
                "it out."
            )
        if isinstance(self.starts, Mapping) or (
            self.starts is not None and np.ndim(self.starts) == 0
        ):
            _check_whole("starts", self.starts, "; or give an array of shape (n, d)")
        for name in ("batch", "max_starts", "max_iter"):
            _check_whole(name, getattr(self, name))
        for name in ("stretch", "barrier", "negligible"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real) or not float(value) > 0:
                raise ValueError(f"{name}={value!r} must be a positive number.")
        if self.radius is not None and not self.radius >= 0:
            raise ValueError(f"radius={self.radius} is a distance and cannot be negative.")
        if self.radius is not None and self.locations is None:
            raise ValueError("radius says how far `locations` may be off, but none were given.")


def _check_whole(name: str, value: Any, instead: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name}={value!r} must be an integer of at least 1{instead}.")
