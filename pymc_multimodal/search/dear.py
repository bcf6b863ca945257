"""A screening by few points, where each evaluation is dear."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.search.batches import climb_from
from pymc_multimodal.search.screening import Screening, n_new_modes
from pymc_multimodal.search.selection import are_selected
from pymc_multimodal.search.starts import Starts, draw_starts
from pymc_multimodal.search.statuses import upper_share
from pymc_multimodal.search.surprise import KnownModes, surprises
from pymc_multimodal.status import LimitReached

if TYPE_CHECKING:
    from pymc_multimodal.search.settings import ModeSearch
    from pymc_multimodal.search.state import Search
    from pymc_multimodal.target.density import Density

__all__ = ["screen_dear"]

# Points at least, and for each dimension: a basin that holds 2 % of 150 points is entered with a
# probability of 95 %, one of 1.2 % of 240 in six dimensions. More where more has been spent, or
# where a limit leaves much, as a share of each; less where a limit leaves little. Measured with
# four normals and four Student-t modes in 4, 6 and 8 dimensions, of which one basin holds 2 % of
# the prior in 6: the climbs of the search had found all in 30 of 48 searches, and with 150 points
# in 48; of ten further ones in 6 dimensions one missed a mode with 150 points, none with 240.
LEAST_POINTS, POINTS_PER_DIM, SPENT_SHARE, ROOM_SHARE, MOST_OF_ROOM = 150, 40, 0.1, 0.02, 0.25
# Climbs begin at points whose score (`surprises`) is larger than this, so many in a round: as long
# as a round finds a new optimum, and after so many climbs as long as it finds a new mode; so many
# at most. Conventional: a score of 4 is that of one in 150 normal residuals, whose median absolute
# deviation is 0.67 standard deviations. On a curved ridge each round finds some optimum, and the
# emulator needs the evaluations more.
LEAST_SCORE, ROUND, CLIMBS_FOR_OPTIMA, MAX_CLIMBS = 4.0, 4, 16, 32


def screen_dear(
    density: Density, search: Search, settings: ModeSearch, rng: np.random.Generator
) -> tuple[Search, Screening]:
    """Look for modes that climbs from starts have missed, by the values of some points.

    A climb without gradient costs tens of evaluations, the value of a point one. The points are
    drawn as starts are, and ranked by how far their log density lies above what the normal
    approximations of the known modes predict (`surprises`). Climbs begin at the first of them, and
    those that are left are ranked anew when a climb has found a mode.

    Parameters
    ----------
    density : Density
    search : Search
        It has an optimum; it stays valid if an exception is raised.
    settings : ModeSearch
        `ModeSearch.screening` is the number of points. By default it depends on what was spent and
        on what a limit leaves; then no points are screened if starts were given.
    rng : numpy.random.Generator

    Returns
    -------
    search : Search
    screening : Screening

    Raises
    ------
    SymmetryBroken
        If an image of an optimum has another log density.
    """
    began, evals = time.monotonic(), density.n_logp_evals
    n = _n_points(density, search, settings)
    if not n or not len(search.optima):
        return search, Screening(dim=density.dim)
    points = _points(density, search, settings, n, rng)
    found, done, cut_short = _climbed(density, search, settings, points)
    # So is one for which a limit left too few points.
    cut_short |= settings.screening is None and n < _least_points(density)
    return found, Screening(
        n_points=len(points),
        n_climbs=done,
        n_evals=density.n_logp_evals - evals,
        seconds=time.monotonic() - began,
        new_modes=n_new_modes(density, settings, search, found),
        entered_share=upper_share(0, len(points)) if len(points) else float("nan"),
        dim=density.dim,
        cut_short=cut_short,
    )


def _least_points(density: Density) -> int:
    """Return how many points are screened at least."""
    return max(LEAST_POINTS, POINTS_PER_DIM * density.dim)


def _n_points(density: Density, search: Search, settings: ModeSearch) -> int:
    """Return how many points are screened."""
    if settings.screening is not None:
        return settings.screening
    if not are_selected(density, settings, search.distribution):
        return 0
    n, room = max(_least_points(density), SPENT_SHARE * density.spent()), density.room()
    if np.isfinite(room):
        n = min(max(n, ROOM_SHARE * room), MOST_OF_ROOM * room)
    # A limit in seconds leaves another number when a fit that was killed goes on.
    [kept] = density.log.once(f"screening after {density.n_logp_evals}", lambda: (float(n),))
    return int(kept)


def _points(
    density: Density, search: Search, settings: ModeSearch, n: int, rng: np.random.Generator
) -> Starts:
    """Draw points and evaluate them: those at which the log density is finite."""
    distribution, images = search.distribution, search.optima.images()
    try:
        return draw_starts(density, distribution, settings, n, rng, images, attempts=1)
    except LimitReached:
        return Starts.empty(density.dim)


def _climbed(
    density: Density, search: Search, settings: ModeSearch, points: Starts
) -> tuple[Search, int, bool]:
    """Climb from the points that are explained least, as long as that finds optima, then modes.

    Returns the search, the number of climbs, and whether a limit ended them.
    """
    left, done, goes_on = np.ones(len(points), dtype=bool), 0, True
    while goes_on and done < MAX_CLIMBS:
        score = np.where(left, _scores(density, search, settings, points), -np.inf)
        rows = np.argsort(-score, kind="stable")[:ROUND]
        rows = rows[score[rows] > LEAST_SCORE]
        if not len(rows):
            break
        n_optima, n_modes, left[rows] = len(search.optima), _n_modes(search, settings), False
        try:
            with density.limited():
                search, _ = climb_from(density, search, settings, points.x[rows])
        except LimitReached:
            return search, done, True
        done += len(rows)
        goes_on = len(search.optima) > n_optima
        if done >= CLIMBS_FOR_OPTIMA:
            goes_on = _n_modes(search, settings) > n_modes
    return search, done, False


def _n_modes(search: Search, settings: ModeSearch) -> int:
    return len(search.optima.summits(settings.negligible))


def _scores(density: Density, search: Search, settings: ModeSearch, points: Starts) -> np.ndarray:
    """Score points by what the highest of the normal approximations does not explain."""
    optima = search.optima
    known = KnownModes.of(optima, settings.negligible)
    x = optima.orbits[0].fold(points.x)[0] if optima.orbits else points.x
    return surprises(density, known, x, points.logp, known.height(density, x))
