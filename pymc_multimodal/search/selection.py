"""Starts of dear climbs: the highest points of a sample of the prior that lie far apart."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.search.optimise import optimiser_for
from pymc_multimodal.search.starts import Starts, first_starts

if TYPE_CHECKING:
    from pymc_multimodal.search.settings import ModeSearch
    from pymc_multimodal.search.starts import StartDistribution
    from pymc_multimodal.search.state import Search
    from pymc_multimodal.target.density import Density

__all__ = ["are_selected", "first_sample", "select_starts"]

# Points of the sample for each start that is selected from it. Measured on prototypes.
POINTS_PER_START = 8
# Part of what a limit leaves for the search that the sample may use. Conventional.
SAMPLE_SHARE = 0.25
# Least distance of two starts, in spreads and in units of ``sqrt(2 d)``, the distance of two draws
# of a normal. Measured on prototypes. It is halved so often at most if there are too few.
LEAST_DISTANCE, HALVINGS = 0.5, 3
# A known optimum explains a point if its normal approximation falls to there by no more than so
# many times what the log density falls, and some nats. Conventional: see `screening._unexplained`.
EXPLAINED_FACTOR, EXPLAINED_NATS = 2.0, 2.0


def are_selected(density: Density, settings: ModeSearch, distribution: StartDistribution) -> bool:
    """Tell whether starts are selected: climbs are dear, and neither points nor a number given."""
    given = distribution.points is not None or isinstance(settings.starts, Integral)
    return optimiser_for(density, settings) == "cobyqa" and not given


def first_sample(
    density: Density,
    distribution: StartDistribution,
    settings: ModeSearch,
    n: int,
    rng: np.random.Generator,
) -> Starts:
    """Draw the sample that the first n starts are selected from, or as much as a limit allows.

    Parameters
    ----------
    density : Density
    distribution : StartDistribution
    settings : ModeSearch
    n : int
    rng : numpy.random.Generator

    Raises
    ------
    ModelError
        If the log density is finite at none of its points.
    """
    size = min(POINTS_PER_START * n, 1.0 + SAMPLE_SHARE * density.room())
    return first_starts(density, distribution, settings, rng, slice(0, int(size)))


def select_starts(
    density: Density, search: Search, sample: Starts, n: int
) -> tuple[Starts, Starts]:
    """Select starts from a sample.

    Points that no known optimum explains come first, the highest of these before others; each is
    some distance apart from the starts so far.

    Parameters
    ----------
    density : Density
        Its periods are used; it is not evaluated.
    search : Search
    sample : Starts
    n : int

    Returns
    -------
    starts : Starts
        At most n; none of them counts as a prior draw, or as drawn at random.
    left : Starts
        The rest of the sample.
    """
    rows = _far_apart(density, search, sample, n)
    left = np.setdiff1d(np.arange(len(sample)), rows)
    return sample.take(rows).selected(), sample.take(left)


def _far_apart(density: Density, search: Search, sample: Starts, n: int) -> np.ndarray:
    """Return at most n rows, by rank, that lie far from each other and from earlier starts."""
    order = np.lexsort((-sample.logp, _explained(density, search, sample)))
    distance = LEAST_DISTANCE * np.sqrt(2.0 * density.dim)
    rows: list[int] = []
    for _ in range(HALVINGS + 1):
        for i in order:
            if len(rows) == n:
                break
            others = np.concatenate([search.starts, sample.x[rows]])
            step = density.unroll(others, sample.x[i]) - sample.x[i]
            squared = np.sum((step / search.spread) ** 2, axis=1)
            if i not in rows and squared.min(initial=np.inf) >= distance**2:
                rows.append(int(i))
        distance /= 2
    return np.array(rows, dtype=int)


def _explained(density: Density, search: Search, sample: Starts) -> np.ndarray:
    """Tell which points the normal approximation of some optimum explains, shape (n,)."""
    optima = search.optima
    out = np.zeros(len(sample), dtype=bool)
    for k in range(len(optima)):
        here = optima.orbits[k].fold(sample.x)[0] if optima.orbits else sample.x
        step = density.unroll(here, optima.x[k]) - optima.x[k]
        depth = 0.5 * np.einsum("ni,ni->n", step @ optima.curvature(k), step)
        fall = optima.logp[k] - sample.logp
        out |= depth <= EXPLAINED_FACTOR * fall + EXPLAINED_NATS
    return out
