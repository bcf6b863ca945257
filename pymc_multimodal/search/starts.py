"""The points that climbs start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from pymc_multimodal.status import LimitReached, ModelError, counted

if TYPE_CHECKING:
    from pymc_multimodal.search.settings import ModeSearch
    from pymc_multimodal.target.density import Density

__all__ = [
    "StartDistribution",
    "Starts",
    "check_points",
    "draw_starts",
    "first_size",
    "first_starts",
    "given_by_array",
    "given_by_name",
    "start_distribution",
]

# Prior draws whose median and percentiles are the centre and spread of the starts. Conventional:
# with 256 draws a median has an error of 0.08 standard deviations.
REFERENCE_DRAWS = 256
# Percentiles one standard deviation below and above the median of a normal. Conventional.
PERCENTILES = (16, 84)
# Spread of a coordinate that does not vary in the prior draws: relative to the centre, and at
# least. Measured: examples/benchmarks/constants.py
FALLBACK_SPREAD = 1e-3
# Spread of such a coordinate where points were given: they say nothing about its unit.
# Conventional.
GIVEN_SPREAD = 1.0
# Starts around each given location, if `ModeSearch.radius` is given. Documented there.
STARTS_PER_LOCATION = 8
# Attempts to draw starts at which the density is finite. Conventional.
ATTEMPTS = 10
# One start in two is scaled about the centre, one in three lies in the box of the optima.
# Measured: examples/benchmarks/constants.py
SCALED_EVERY, BOX_EVERY = 2, 3
# Margins of the box of the optima: in lengths of the box, and in spreads of the starts.
# Measured: examples/benchmarks/constants.py
BOX_MARGIN, SPREAD_MARGIN = 0.1, 0.5


@dataclass(frozen=True)
class StartDistribution:
    """What starts are drawn from.

    Attributes
    ----------
    centre : array of shape (d,)
        Median of prior draws, or of the given points.
    spread : array of shape (d,)
        Their robust standard deviation: half the distance between the 16th and 84th percentiles.
    points : array of shape (n, d) or None
        Starts that were given; None if starts are drawn from the prior.
    """

    centre: np.ndarray
    spread: np.ndarray
    points: np.ndarray | None = None


@dataclass(frozen=True)
class Starts:
    """Points that climbs start from.

    Attributes
    ----------
    x : array of shape (n, d)
    logp : array of shape (n,)
        Log densities, all finite.
    from_prior : array of bool, shape (n,)
        Prior draws that were not moved: they alone say which basins of the prior have been seen.
    at_random : array of bool, shape (n,)
        Points that were not selected by their log density: they alone say what share of the starts
        leads to modes that were not found.
    """

    x: np.ndarray
    logp: np.ndarray
    from_prior: np.ndarray
    at_random: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def empty(cls, d: int) -> Starts:
        """Return no points."""
        none = np.zeros(0, dtype=bool)
        return cls(np.empty((0, d)), np.empty(0), none, none)

    @classmethod
    def finite(cls, x: np.ndarray, logp: np.ndarray, from_prior: np.ndarray) -> Starts:
        """Return the points at which the log density is finite."""
        inside = np.isfinite(logp)
        return cls(x[inside], logp[inside], from_prior[inside], np.ones(inside.sum(), dtype=bool))

    @classmethod
    def joined(cls, parts: list[Starts], n: int) -> Starts:
        """Return the first n points of some parts."""
        arrays = zip(*((p.x, p.logp, p.from_prior, p.at_random) for p in parts), strict=True)
        return cls(*(np.concatenate(a)[:n] for a in arrays))

    def take(self, rows: np.ndarray) -> Starts:
        """Return some of the points."""
        return Starts(*(a[rows] for a in (self.x, self.logp, self.from_prior, self.at_random)))

    def selected(self) -> Starts:
        """Return points that were selected by their log density."""
        none = np.zeros(len(self), dtype=bool)
        return Starts(self.x, self.logp, none, none)


def start_distribution(
    density: Density, settings: ModeSearch, rng: np.random.Generator
) -> StartDistribution:
    """Find out what starts are drawn from; the density is not evaluated.

    Parameters
    ----------
    density : Density
    settings : ModeSearch
    rng : numpy.random.Generator

    Returns
    -------
    StartDistribution

    Raises
    ------
    ModelError
        If there is no prior to draw from, and no starts were given.
    ValueError
        If given points have the wrong shape, or are not finite.
    """
    points = _given_points(density, settings, rng)
    try:
        reference = density.prior_draws(REFERENCE_DRAWS, rng)
    except ModelError:
        if points is None:
            raise
        reference = points
    centre = np.median(reference, axis=0)
    low, high = np.percentile(reference, PERCENTILES, axis=0)
    spread = 0.5 * (high - low)
    fallback: np.ndarray | float = GIVEN_SPREAD
    if points is None:
        fallback = np.maximum(FALLBACK_SPREAD * np.abs(centre), FALLBACK_SPREAD)
    spread = np.where(spread > 0, spread, fallback)
    return StartDistribution(centre, np.minimum(spread, density.period / 4), points)


def given_by_array(settings: ModeSearch) -> bool:
    """Whether the settings give points as an array, in unconstrained coordinates."""
    if settings.locations is None:
        return settings.starts is not None and not isinstance(settings.starts, Integral)
    where = settings.locations
    return not isinstance(where, Mapping) and not isinstance(where[0], Mapping)


def given_by_name(settings: ModeSearch) -> list[Mapping[str, Any]]:
    """Return the locations that the settings give by the names of variables; none if by array."""
    where = settings.locations
    if where is None or given_by_array(settings):
        return []
    return [where] if isinstance(where, Mapping) else list(where)


def check_points(settings: ModeSearch, dim: int) -> None:
    """Raise ValueError if points that are given by an array do not fit a model, or are not finite.

    Parameters
    ----------
    settings : ModeSearch
    dim : int
        Unconstrained coordinates of the model.
    """
    if settings.locations is None:
        _rows(settings.starts, dim, "starts")
    else:
        _rows(settings.locations, dim, "locations")


def _given_points(
    density: Density, settings: ModeSearch, rng: np.random.Generator
) -> np.ndarray | None:
    """Return the starts that the settings give, shape (n, d), or None."""
    if settings.locations is None:
        if settings.starts is None or isinstance(settings.starts, Integral):
            return None
        return density.wrap(_rows(settings.starts, density.dim, "starts"))
    named = given_by_name(settings)
    where = density.to_unconstrained(named) if named else settings.locations
    where = _rows(where, density.dim, "locations")
    if settings.radius:
        noise = settings.radius * rng.standard_normal((STARTS_PER_LOCATION, *where.shape))
        where = (where + noise).reshape(-1, density.dim)
    return density.wrap(where)


def first_size(distribution: StartDistribution, settings: ModeSearch) -> int:
    """Return how many starts the first batch has."""
    if distribution.points is not None:
        return len(distribution.points)
    if isinstance(settings.starts, Integral):
        return int(settings.starts)
    most = settings.max_starts
    return settings.batch if most is None else min(settings.batch, most)


def first_starts(
    density: Density,
    distribution: StartDistribution,
    settings: ModeSearch,
    rng: np.random.Generator,
    part: slice,
) -> Starts:
    """Return some starts of the first batch: points that were given, or drawn ones.

    Parameters
    ----------
    density : Density
    distribution : StartDistribution
    settings : ModeSearch
    rng : numpy.random.Generator
    part : slice
        Rows of the batch.

    Returns
    -------
    Starts
        No point that was given is known to be a prior draw.

    Raises
    ------
    ModelError
        If the log density is finite at none of them, and these are the first ones.
    """
    if distribution.points is not None:
        what, x = "the given points", distribution.points[part]
        starts = Starts.finite(x, density.logp(x), np.zeros(len(x), dtype=bool))
    else:
        size = part.stop - part.start
        # The first starts are few; their search is not given up sooner.
        attempts = ATTEMPTS * max(1, settings.batch // size) if not part.start else ATTEMPTS
        what = f"{attempts * size} prior draws"
        starts = draw_starts(density, distribution, settings, size, rng, attempts=attempts)
    if len(starts) or part.start:
        return starts
    error = density.last_error
    raise ModelError(
        f"The log density is NaN or -inf at all of {what}. "
        + (f"The model raised {type(error).__name__}: {error}. " if error else "")
        + "Check the model with model.debug(), or give starting points where it is finite: "
        "modes=ModeSearch(starts=array of shape (n, d))."
    ) from error


def draw_starts(
    density: Density,
    distribution: StartDistribution,
    settings: ModeSearch,
    n: int,
    rng: np.random.Generator,
    optima: np.ndarray | None = None,
    *,
    attempts: int = ATTEMPTS,
) -> Starts:
    """Draw starts at which the log density is finite.

    Every other start is a prior draw scaled about the centre by a random factor: in many
    dimensions all prior draws are far from the centre, but the mode of a spike may be near it. If
    there are several optima, every third start is uniform in their bounding box: climbs that
    begin far out do not reach the basin of a mode between others.

    Parameters
    ----------
    density : Density
    distribution : StartDistribution
    settings : ModeSearch
    n : int
    rng : numpy.random.Generator
    optima : array of shape (p, d), optional
        The optima that are known.
    attempts : int
        Most batches of n draws.

    Returns
    -------
    Starts
        Fewer than n, or none, where the density is finite at few prior draws.
    """
    kept: list[Starts] = []
    for _ in range(attempts):
        x = density.prior_draws(n, rng)
        scaled = np.arange(n) % SCALED_EVERY == SCALED_EVERY - 1
        factor = settings.stretch * rng.random((int(scaled.sum()), 1))
        x[scaled] = distribution.centre + factor * (x[scaled] - distribution.centre)
        moved = scaled
        if optima is not None and len(optima) > 1:
            in_box = np.arange(n) % BOX_EVERY == BOX_EVERY - 1
            low, high = optima.min(axis=0), optima.max(axis=0)
            margin = BOX_MARGIN * (high - low) + SPREAD_MARGIN * distribution.spread
            size = (int(in_box.sum()), density.dim)
            x[in_box] = rng.uniform(low - margin, high + margin, size=size)
            moved = scaled | in_box
        x = density.wrap(x)
        try:
            kept.append(Starts.finite(x, density.logp(x), ~moved))
        except LimitReached:
            if not kept:
                raise
            break
        if sum(map(len, kept)) >= n:
            break
    return Starts.joined(kept, n)


def _rows(points: Any, dim: int, name: str) -> np.ndarray:
    """Return given points as an array of shape (n, dim)."""
    points = np.atleast_2d(np.asarray(points, dtype=float))
    if points.ndim != 2 or points.shape[1] != dim:
        raise ValueError(
            f"ModeSearch({name}=...) has shape {points.shape}, but the model has "
            f"{counted(dim, 'unconstrained coordinate')}: shape (n, {dim}) is needed."
        )
    if not np.isfinite(points).all():
        raise ValueError(
            f"ModeSearch({name}=...) holds NaN or infinite values; give finite points."
        )
    return points
