"""Settings of the search for modes, and the points it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from pymc_multimodal.status import ModelError

if TYPE_CHECKING:
    from pymc_multimodal.density import Density

__all__ = ["ModeSearch", "Starts"]

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


class Starts:
    """Draws starting points at which the density is finite."""

    def __init__(self, density: Density, config: ModeSearch, rng: np.random.Generator) -> None:
        self.density, self.config, self.rng = density, config, rng
        given = self._given()
        self.fixed = given is not None or isinstance(config.starts, Integral)
        self._points = given
        try:
            reference = density.prior_draws(256, rng)
        except ModelError:
            if given is None:
                raise
            reference = given
        self.centre = np.median(reference, axis=0)
        spread = np.percentile(reference, [16, 84], axis=0)
        spread = 0.5 * (spread[1] - spread[0])
        fallback = np.maximum(1e-3 * np.abs(self.centre), 1e-3) if given is None else 1.0
        self.spread = np.where(spread > 0, spread, fallback)
        self.spread = np.minimum(self.spread, density.period / 4)

    def _given(self) -> np.ndarray | None:
        config, dim = self.config, self.density.dim
        if config.locations is not None:
            where = config.locations
            if isinstance(where, Mapping):
                where = [where]
            if len(where) and isinstance(where[0], Mapping):
                where = self.density.to_unconstrained(where)
            where = _rows(where, dim, "locations")
            if config.radius:
                noise = config.radius * self.rng.standard_normal((8, *where.shape))
                where = (where + noise).reshape(-1, dim)
            return self.density.wrap(where)
        if config.starts is None or isinstance(config.starts, Integral):
            return None
        return self.density.wrap(_rows(config.starts, dim, "starts"))

    def first(self) -> np.ndarray:
        """Return the first batch: the points that were given, or drawn ones."""
        if self._points is not None:
            return self._finite(self._points, "the given points")
        size = self.config.starts if isinstance(self.config.starts, Integral) else self.config.batch
        return self.draw(min(size, self.config.max_starts) if not self.fixed else size)

    def draw(self, n: int, optima: np.ndarray | None = None) -> np.ndarray:
        """Draw n starts, a third of them in the box of known optima if there are several.

        Fewer, or none, where the density is hardly ever finite; none at all is an error as long
        as no optima are known (None).
        """
        kept: list[np.ndarray] = []
        for _ in range(10):
            x = self.density.prior_draws(n, self.rng)
            # In many dimensions all draws are far from the centre, and so is the mode of a
            # spike: every other one is drawn in, or out, by a factor of its own.
            scaled = np.arange(n) % 2 == 1
            factor = self.config.stretch * self.rng.random((int(scaled.sum()), 1))
            x[scaled] = self.centre + factor * (x[scaled] - self.centre)
            if optima is not None and len(optima) > 1:
                # A third of the starts fills the box of the optima known so far: modes
                # between others have basins that starts from far out do not reach.
                within = np.arange(n) % 3 == 2
                low, high = optima.min(axis=0), optima.max(axis=0)
                margin = 0.1 * (high - low) + 0.5 * self.spread
                size = (int(within.sum()), self.density.dim)
                x[within] = self.rng.uniform(low - margin, high + margin, size=size)
            x = self.density.wrap(x)
            kept.append(x[np.isfinite(self.density.logp(x))])
            if sum(map(len, kept)) >= n:
                break
        x = np.concatenate(kept)[:n]
        return x if optima is not None else self._finite(x, f"{10 * n} prior draws", checked=True)

    def _finite(self, x: np.ndarray, what: str, checked: bool = False) -> np.ndarray:
        if not checked:
            x = x[np.isfinite(self.density.logp(x))]
        if len(x):
            return x
        error = self.density.last_error
        raise ModelError(
            f"The log density is NaN or -inf at all of {what}. "
            + (f"The model raised {type(error).__name__}: {error}. " if error else "")
            + "Check the model with model.debug(), or give starting points where it is finite: "
            "modes=ModeSearch(starts=array of shape (n, d))."
        ) from error


def _check_whole(name: str, value: Any, instead: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name}={value!r} must be an integer of at least 1{instead}.")


def _rows(points: Any, dim: int, name: str) -> np.ndarray:
    points = np.atleast_2d(np.asarray(points, dtype=float))
    if points.ndim != 2 or points.shape[1] != dim:
        raise ValueError(
            f"{name} has shape {points.shape}, but the model has {dim} unconstrained "
            f"coordinates: shape (n, {dim}) is needed."
        )
    if not np.isfinite(points).all():
        raise ValueError(f"{name} holds NaN or infinite values; give finite points.")
    return points
