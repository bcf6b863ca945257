"""Settings of the search for modes, and the points it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from pymc_multimodal.status import ModelError

if TYPE_CHECKING:
    from pymc_multimodal.search.settings import ModeSearch
    from pymc_multimodal.target.density import Density

__all__ = ["Starts"]


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
