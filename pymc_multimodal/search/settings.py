"""Settings of the search for modes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from pymc_multimodal import checks

__all__ = ["ModeSearch"]

Optimiser = Literal["lbfgs", "gradient_descent", "cobyqa", "differences", "powell", "nelder_mead"]
OPTIMISERS = get_args(Optimiser)


@dataclass(frozen=True)
class ModeSearch:
    """How modes are searched for.

    Parameters
    ----------
    starts : int or array of shape (n, d), optional
        Number of starting points, or the points themselves (unconstrained space). By default
        batches are drawn from three sources: the prior; the prior scaled about its median by
        factors up to `stretch`; and, once there are several optima, their bounding box. The
        search ends when a batch brings no new mode and every mode was found by ten starts (by
        two, of 1,024 starts and more, and by "cobyqa"). There are at least two batches, and 512
        starts as long as "lbfgs" needs no more than 20,000 evaluations for them.
    locations : array of shape (k, d), dict or list of dict, optional
        Known mode locations, unconstrained or as points in the model's variables. The search
        then starts from them alone.
    radius : float, optional
        How far each coordinate of `locations` may be off. Eight starts are drawn around each
        location with this standard deviation (unconstrained space).
    optimiser : str, optional
        "lbfgs", "gradient_descent", "cobyqa", "differences", "powell" or "nelder_mead".
        By default "lbfgs" (all starts in one batch) if there is a gradient. Without a gradient
        "cobyqa" up to ten dimensions, a trust-region method on quadratic models (all starts side
        by side), and "differences" beyond, which is "lbfgs" on forward differences. "powell" and
        "nelder_mead" climb from one start after the other.
    batch : int
        Size of the first batch of starts; each later one doubles their number. By "cobyqa" a fifth
        of it: starts selected from a sample of the prior, high and far apart, of eight times as
        many points.
    max_starts : int, optional
        Most starting points to use. By default 4,096; if fewer than one in ten of these led to a
        mode that no other led to, up to 16 for each mode.
    max_iter : int
        Most iterations of one climb.
    stretch : float
        Largest factor by which starts are scaled about the prior median. The factors are uniform
        between 0 and this, for narrow modes near the middle and for modes far out.
    barrier : float
        Two optima are one mode if a path joins them on which the log density stays within
        this many nats of the optimum of less mass (by Laplace's approximation).
    negligible : float
        A mode is left out if its mass (by Laplace's approximation) is below the largest by this
        many nats and half a nat for each dimension.
    screening : int, optional
        Points whose log density is compared with the known modes, to find modes that no climb has
        led to; 0 for none. By default as many as `screening_seconds` allow, which depends on the
        machine: the number matters to the draws only if a new mode is found. Where starts or
        locations were given there are none by default.
    screening_seconds : float
        Seconds that these points may take; in more than 12 dimensions a quarter of them.

    Raises
    ------
    TypeError
        If a setting has the wrong type.
    ValueError
        If a setting is out of range, there are no points in an array, or `radius` is given
        without `locations`.

    Notes
    -----
    Gradient descent from 2,000 uniform starts is step 1 of the hybrid method (arXiv 2505.07825):
    ``ModeSearch(starts=points, optimiser="gradient_descent")`` with uniform `points`.
    """

    starts: int | np.ndarray | None = None
    locations: Any = None
    radius: float | None = None
    optimiser: Optimiser | None = None
    # Conventional: two chunks of evaluations (`target.density.CHUNK`).
    batch: int = 64
    max_starts: int | None = None
    # Conventional: a bound that climbs which converge do not reach.
    max_iter: int = 300
    # Measured: examples/benchmarks/constants.py (stretch, barrier, negligible)
    stretch: float = 2.0
    barrier: float = 1.0
    negligible: float = 12.0
    screening: int | None = None
    # Measured: examples/benchmarks/screening.py
    screening_seconds: float = 2.0

    def __post_init__(self) -> None:
        owner = type(self).__name__
        if self.starts is not None:
            _check_starts(owner, self.starts)
        if self.locations is not None:
            _check_locations(owner, self.locations)
        if self.radius is not None:
            checks.number(owner, "radius", self.radius, least=0)
            if self.locations is None:
                raise ValueError(
                    f"{owner}(radius={self.radius}) says how far modes may be from `locations`, "
                    "and there are no `locations`. Give them, or leave `radius` out."
                )
        if self.optimiser is not None:
            checks.choice(owner, "optimiser", self.optimiser, OPTIMISERS)
        for name in ("batch", "max_iter"):
            checks.count(owner, name, getattr(self, name))
        if self.max_starts is not None:
            checks.count(owner, "max_starts", self.max_starts)
        if self.screening is not None:
            checks.count(owner, "screening", self.screening, 0)
        for name in ("stretch", "barrier", "negligible", "screening_seconds"):
            checks.positive(owner, name, getattr(self, name))


def _check_starts(owner: str, starts: Any) -> None:
    """Raise unless starts are a number of starts, or an array of numbers."""
    if not isinstance(starts, Mapping) and np.ndim(starts):
        _check_points(owner, "starts", starts)
        return
    try:
        checks.count(owner, "starts", starts)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} Or give points, an array of shape (n, d).") from None


def _check_locations(owner: str, locations: Any) -> None:
    """Raise unless locations are points by variable name, or an array of numbers."""
    points = [locations] if isinstance(locations, Mapping) else locations
    named = isinstance(points, list | tuple) and any(isinstance(p, Mapping) for p in points)
    if not named:
        _check_points(owner, "locations", locations)
    elif not all(isinstance(p, Mapping) for p in points):
        raise TypeError(
            f"{owner}(locations=...) has some points that are dicts and others that are not. Give "
            "all of them by name, such as {'x': 1.0}, or all in one array of shape (n, d)."
        )


def _check_points(owner: str, name: str, points: Any) -> None:
    """Raise unless points are one or more rows of numbers; `check_points` checks the columns."""
    try:
        given = np.asarray(points, dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{owner}({name}=...) must be an array of numbers of shape (n, d): {error}."
        ) from None
    if given.ndim and not given.size:
        raise ValueError(
            f"{owner}({name}=...) holds no points: give at least one, or leave `{name}` out."
        )
    if not given.ndim:
        raise TypeError(
            f"{owner}({name}={points!r}) must be an array of shape (n, d), or points by the names "
            "of the model's variables, such as {'x': 1.0}."
        )
