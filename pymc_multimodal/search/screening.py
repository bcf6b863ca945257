"""A search by values: many points, ranked by what the known modes do not explain."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pymc_multimodal.search.batches import climb_from, find_more_modes
from pymc_multimodal.search.modes import modes_of
from pymc_multimodal.search.screening_points import (
    MOST_WIDTH,
    Described,
    PointSource,
    distance_of_pair,
    narrowest_width,
)
from pymc_multimodal.search.statuses import upper_share
from pymc_multimodal.search.stopping import RARE_MASS, has_rare_modes, rare_modes
from pymc_multimodal.search.surprise import FEW_DIMENSIONS, Candidates, surprises
from pymc_multimodal.status import LimitReached, ModelError, Status, counted

if TYPE_CHECKING:
    from pymc_multimodal.search.modes import Modes
    from pymc_multimodal.search.settings import ModeSearch
    from pymc_multimodal.search.state import Search
    from pymc_multimodal.target.density import Density

__all__ = ["Screening", "n_new_modes", "screen"]

# Share of the seconds that the points may take in more than 12 dimensions. There few basins grow
# with the number of points: what is found is found by thousands. Measured: 2^13 points enter the
# basin of a Student-t mode in 50 dimensions, a tenth as wide as the known one, 40 times; in 16
# dimensions none of the measured methods found a normal mode 0.3 times as wide as the known one.
MANY_DIMENSIONS_SHARE = 0.25
# Fewest and most points of a screening whose number is chosen by time. Conventional: with fewer, a
# basin that is entered has been entered by climbs; more take longer than two seconds.
MIN_POINTS, MAX_POINTS = 2**11, 2**20
# Points that are ranked together, and that are evaluated before limits are looked at again.
# Conventional: they bound the memory.
BLOCK, SLICE = 2**16, 2**13
# Numbers of points after which the price of a point is measured anew, and the share of the seconds
# after which it is measured no more. The first number tells whether points are dear. Conventional.
PRICED, PRICED_SHARE = (32, 512, 4096, BLOCK), 0.05
# Seconds of a point from which on climbs find more than values do: by 10,000 evaluations climbs
# find 0.54 of the modes that can be found, values 0.42. Then, and where the number of evaluations
# is limited, the share of the evaluations so far that may be used. Conventional: a fifth more.
DEAR_SECONDS, DEAR_SHARE = 1e-3, 0.2
# Share of what a limit on evaluations leaves that cheap points may use in any case. With a fifth of
# the evaluations so far, `two_widths_4` lost a mode of weight 0.6 under a limit of 4 million, which
# 200,000 points find. Conventional.
LIMITED_SHARE = 0.1
# Most of these climbs, and climbs of a batch. Measured with pairs of examples/benchmarks/narrow.py
# in 32 dimensions (ratio 0.8): 128 starts find both modes in 4 of 12 seeds, 384 further ones in 10,
# at 0.1 seconds; after 512 starts it is 7 and 10.
MAX_FURTHER, FURTHER_BATCH = 384, 64
# Most further starts where modes of some mass were found by few starts. Measured:
# examples/benchmarks/missed.py.
MAX_RARE = 4096
# Seconds of this package's work for each evaluation of a climb. Measured with a model of 0.2
# microseconds a value.
CLIMB_SECONDS = 3.3e-6
# Candidates that are kept, climbs from them, and climbs of one round: after each round, candidates
# that a new optimum explains are left out. Conventional; the first to find 64.
KEPT, MAX_CLIMBS, ROUND = 1024, 64, 16
# Least climbs where a climb costs as much as many values (optimisers without gradient).
# Conventional.
MIN_CLIMBS = 4
# A candidate is explained by a new optimum if the normal approximation there puts it lower than it
# is by at most this factor and these nats; by an optimum that was known, if the two differ by less
# than these nats, since another mode may be higher than its tail by less than the factor.
# Conventional.
EXPLAINED_FACTOR, EXPLAINED_NATS = 2.0, 3.0
# Share of what a limit leaves that the points may use; the rest is for climbs and later work.
# Conventional.
ROOM_SHARE = 0.5


@dataclass(frozen=True)
class Screening:
    """What a screening has seen.

    Attributes
    ----------
    n_points : int
        Points whose log density was ranked.
    n_climbs : int
        Climbs: from the points that were ranked first, or, without points, from further starts.
    n_evals : int
        Evaluations of the log density, those of the climbs included.
    seconds : float
        Wall-clock time.
    new_modes : int
        Modes that were not known before.
    entered_share : float
        A basin that holds this share of the screening's points, or more, was entered with a
        probability of 95 %: 3 / n for n points, or for n climbs from further starts. It is no
        share of posterior mass. NaN without points and climbs.
    narrowest_width : float
        What that means for two normals of equal mass, six standard deviations of the wider apart,
        under a prior five times as wide: ratio of their widths from which on the narrow one was
        entered (`narrowest_width`). In more than 12 dimensions the distance is six times the root
        of a twelfth of their number. NaN where not even a ratio of 0.9 was.
    dim : int
        Number of coordinates.
    cut_short : bool
        Whether a limit of the fit ended it.
    starts : int
        Starts of the search and further ones.
    rare : int
        Modes that one to three of these starts have led to; 0 where starts were given.
    rare_share : float
        Share of the mass that these modes hold, by Laplace's approximation.
    """

    n_points: int = 0
    n_climbs: int = 0
    n_evals: int = 0
    seconds: float = 0.0
    new_modes: int = 0
    entered_share: float = float("nan")
    narrowest_width: float = float("nan")
    dim: int = 0
    cut_short: bool = False
    starts: int = 0
    rare: int = 0
    rare_share: float = 0.0

    @property
    def statuses(self) -> tuple[Status, ...]:
        """What is said of it; nothing if nothing was screened."""
        if not np.isfinite(self.entered_share):
            return ()
        screened = Status(
            "screened", "search", self.sentence,
            "Raise ModeSearch.screening_seconds or ModeSearch.screening; or give known modes: "
            "ModeSearch(locations=...).", level="info",
        )  # fmt: skip
        if self.rare_share <= RARE_MASS:
            return (screened,)
        rare = Status(
            "rare", "search",
            f"{counted(self.rare, 'mode')} with {self.rare_share:.1%} of the mass, by Laplace's "
            f"approximation, {'was' if self.rare == 1 else 'were'} found by three or fewer of "
            f"{self.starts:,} starts: other modes that are as rare may be missing.",
            "Raise ModeSearch.starts, or give known modes: ModeSearch(locations=...).",
        )  # fmt: skip
        return (screened, rare)

    @property
    def sentence(self) -> str:
        """Say what was screened, and what it means."""
        share = f"{self.entered_share:.2g}"
        found = f"new modes: {self.new_modes}"
        if not self.n_points:
            return (
                f"{self.n_climbs} climbs from further starts ({found}). A basin that holds {share} "
                "or more of such starts was entered with a probability of 95 %. That is no share "
                "of posterior mass."
            )
        pair = (
            f" For two normals of equal mass in {self.dim} dimensions, "
            f"{distance_of_pair(self.dim):.2g} standard deviations apart under a prior five times "
            "as wide, "
        )
        if np.isfinite(self.narrowest_width):
            width = (
                f"{pair}such a basin is that of one {self.narrowest_width:.2g} times as wide as "
                "the other."
            )
        else:
            width = (
                f"{pair}even one {MOST_WIDTH:g} times as wide as the other has a smaller basin: "
                "narrower modes may be missing, whatever their posterior mass."
            )
        return (
            f"{self.n_points:,} points were ranked by their log density ({found}). A basin that "
            f"holds {share} or more of these points was entered with a probability of 95 %, and "
            "recognised if the known modes are described well. That is no share of posterior "
            f"mass.{width}"
        )


def screen(
    density: Density,
    search: Search,
    settings: ModeSearch,
    known: Described,
    rng: np.random.Generator,
) -> tuple[Search, Screening]:
    """Look for modes that climbs from starts have missed, by the values of many points.

    The points are ranked by the residual of ``log p - log q`` (`surprises`), where q describes the
    known modes, and climbs start from the first of them. Where a point costs more than a
    millisecond, there are none. Climbs from further starts follow.

    Parameters
    ----------
    density : Density
    search : Search
        It has an optimum; it stays valid if an exception is raised.
    settings : ModeSearch
        `ModeSearch.screening` is the number of points. By default it is a power of two that takes
        `ModeSearch.screening_seconds`, and a quarter of that in more than 12 dimensions; then no
        points are screened if starts were given.
    known : Described
        A density that describes the known modes. Where the density is symmetric, it is asked at
        the images nearest to the first optimum.
    rng : numpy.random.Generator

    Returns
    -------
    search : Search
        The search that was given, unless a new mode was found: what follows then does not depend
        on how many points were screened.
    screening : Screening

    Raises
    ------
    SymmetryBroken
        If an image of an optimum has another log density.
    """
    began, evals = time.monotonic(), density.n_logp_evals
    given, wanted, d = search.distribution.points is not None, settings.screening, density.dim
    if not len(search.optima) or wanted == 0 or (wanted is None and given):
        return search, Screening(dim=d)
    seen = _Seen(search)
    [each] = density.log.once(f"screening after {evals}", lambda: (_seconds_each(density),))
    if wanted is not None or each < DEAR_SECONDS:
        seen = _by_values(density, search, settings, known, rng)
    if wanted is None and not seen.cut_short:
        further = _by_further_starts(density, seen.search, settings, rng)
        seen = replace(further, n_points=seen.n_points, n_climbs=seen.n_climbs + further.n_climbs)
    new, share, width = 0, float("nan"), float("nan")
    rare, rare_share = (0, 0.0) if given else rare_modes(seen.search, settings)
    if seen.n_points or seen.n_climbs:
        new = n_new_modes(density, settings, search, seen.search)
        share = float(upper_share(0, seen.n_points or seen.n_climbs))
    if seen.n_points:
        width = narrowest_width(d, share, settings.stretch)
    return seen.search if new else search, Screening(
        n_points=seen.n_points,
        n_climbs=seen.n_climbs,
        n_evals=density.n_logp_evals - evals,
        seconds=time.monotonic() - began,
        new_modes=new,
        entered_share=share,
        narrowest_width=width,
        dim=d,
        cut_short=seen.cut_short,
        starts=seen.search.counts.starts,
        rare=rare,
        rare_share=rare_share,
    )


@dataclass(frozen=True)
class _Seen:
    """A search after some points and climbs, and whether a limit ended them."""

    search: Search
    n_points: int = 0
    n_climbs: int = 0
    cut_short: bool = False


def n_new_modes(density: Density, settings: ModeSearch, before: Search, after: Search) -> int:
    """Count the modes that were not known before."""
    if len(after.optima) == len(before.optima):
        return 0
    found: Modes = modes_of(density, after, settings)
    return int(np.sum(found.counterparts(modes_of(density, before, settings)) < 0))


# ---------------------------------------------------------- values


def _by_values(
    density: Density,
    search: Search,
    settings: ModeSearch,
    known: Described,
    rng: np.random.Generator,
) -> _Seen:
    """Rank points and climb from the first; nothing is done if points turn out to be dear.

    The points are drawn in parts of fixed sizes, and ranked in blocks: with one stream they are the
    same whether their number was given or came from the time that they take.
    """
    source = PointSource.of(density, search, known, settings, rng)
    modes = source.modes
    timed, seconds = settings.screening is None, settings.screening_seconds
    if density.dim > FEW_DIMENSIONS:
        seconds *= MANY_DIMENSIONS_SHARE
    most = int(min(settings.screening or MAX_POINTS, ROOM_SHARE * density.room()))
    if timed and np.isfinite(density.limits.last_evals):
        most = min(most, int(max(DEAR_SHARE * density.spent(), LIMITED_SHARE * density.room())))
    n, end, cut_short, began = 0, most, False, time.monotonic()
    evals = density.n_logp_evals
    candidates, parts = Candidates.empty(density.dim), []
    while n < end and not cut_short:
        since, size = _clocks(density), min(_next_part(n), end - n)
        points, cut_short = _evaluated(source, size, rng)
        n += len(points.x)
        parts.append(points)
        whole = n % BLOCK == 0 or n >= end or cut_short
        if whole:
            block, parts = _Points.joined(parts), []
            score = surprises(density, modes, *block)
            candidates = candidates.with_more(block.x, block.logp, score, KEPT)
        if timed and n in PRICED and (n < end or n == BLOCK):
            if not whole:
                surprises(density, modes, *points)
            clocks = float(max(np.subtract(_clocks(density), since))), time.monotonic() - began
            # A screening that is made again, after the fit was killed, has as many points.
            price, passed = density.log.once(
                f"screening after {evals}: {n} points", partial(tuple, clocks)
            )
            price /= size
            if price > DEAR_SECONDS:
                return _Seen(search)
            end = min(most, _affordable(seconds, price))
            timed = passed < PRICED_SHARE * seconds
    each = max(search.n_evals / max(search.counts.starts, 1), 1.0)
    n_climbs = int(min(MAX_CLIMBS, max(MIN_CLIMBS, n / each)))
    seen = _climbed(density, search, settings, candidates, n_climbs)
    return replace(seen, n_points=n, cut_short=cut_short or seen.cut_short)


class _Points(NamedTuple):
    """Points, shape (n, d), with their log densities and those of the known modes, shape (n,)."""

    x: np.ndarray
    logp: np.ndarray
    log_q: np.ndarray

    @classmethod
    def joined(cls, parts: list[_Points]) -> _Points:
        """Join several sets of points."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _evaluated(source: PointSource, n: int, rng: np.random.Generator) -> tuple[_Points, bool]:
    """Draw and evaluate n points, or as many as a limit allows; and tell whether it did not."""
    x = source.draw(n, rng)
    logp: list[np.ndarray] = [np.empty(0)]
    cut_short = False
    try:
        with source.density.limited():
            for i in range(0, n, SLICE):
                logp.append(source.density.values(x[i : i + SLICE]))
    except LimitReached:
        cut_short = True
    values = np.concatenate(logp)
    x = x[: len(values)]
    return _Points(x, values, source.known.log_density(x)), cut_short


def _next_part(n: int) -> int:
    """Return how many points are drawn after the first n."""
    return next((end for end in PRICED if end > n), (n // BLOCK + 1) * BLOCK) - n


def _clocks(density: Density) -> tuple[float, float]:
    """Return the CPU time of this process, and the wall-clock time of all evaluations.

    Other processes on the machine do not change the first; a model that waits for a program of its
    own shows in the second.
    """
    return time.process_time(), density.seconds


def _affordable(seconds: float, price: float) -> int:
    """Return the power of two of points that take some seconds, within bounds."""
    # A clock of low resolution may have measured nothing.
    n = max(min(seconds / max(price, 1e-300), float(MAX_POINTS)), 1.0)
    return int(np.clip(2 ** int(np.floor(np.log2(n))), MIN_POINTS, MAX_POINTS))


def _climbed(
    density: Density,
    search: Search,
    settings: ModeSearch,
    candidates: Candidates,
    n_climbs: int,
) -> _Seen:
    """Climb from the first candidates, in rounds."""
    done, candidates = 0, candidates.take(np.flatnonzero(~_on_peaks(density, search, candidates)))
    while done < n_climbs and len(candidates):
        size = min(ROUND, n_climbs - done)
        n_optima = len(search.optima)
        try:
            with density.limited():
                search, _ = climb_from(density, search, settings, candidates.x[:size])
        except LimitReached:
            return _Seen(search, n_climbs=done, cut_short=True)
        done += min(size, len(candidates))
        candidates = candidates.take(np.arange(size, len(candidates)))
        candidates = _unexplained(density, search, candidates, n_optima)
    return _Seen(search, n_climbs=done)


def _on_peaks(density: Density, search: Search, candidates: Candidates) -> np.ndarray:
    """Tell which candidates are as high as the normal approximation at an optimum says."""
    found = np.zeros(len(candidates), dtype=bool)
    for k in range(len(search.optima)):
        below, depth = _depths(density, search, candidates, k)
        found |= np.abs(depth - below) < EXPLAINED_NATS
    return found


def _unexplained(
    density: Density, search: Search, candidates: Candidates, n_optima: int
) -> Candidates:
    """Leave out the candidates that lie in a new optimum, one after the first `n_optima`."""
    kept = np.ones(len(candidates), dtype=bool)
    for k in range(n_optima, len(search.optima)):
        below, depth = _depths(density, search, candidates, k)
        kept &= depth > EXPLAINED_FACTOR * below + EXPLAINED_NATS
    return candidates.take(np.flatnonzero(kept))


def _depths(
    density: Density, search: Search, candidates: Candidates, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """How far (nats) candidates are below optimum k, and how far its normal approximation is."""
    optima = search.optima
    step = density.unroll(candidates.x, optima.x[k]) - optima.x[k]
    depth = 0.5 * np.einsum("ni,ni->n", step @ optima.curvature(k), step)
    return optima.logp[k] - candidates.logp, depth


# ---------------------------------------------------------- climbs


def _seconds_each(density: Density) -> float:
    """Return the seconds of an evaluation so far."""
    return density.seconds / density.n_logp_evals if density.n_logp_evals else 0.0


def _by_further_starts(
    density: Density, search: Search, settings: ModeSearch, rng: np.random.Generator
) -> _Seen:
    """Climb from as many further starts as the seconds, or a share of the evaluations, allow.

    Beyond `MAX_FURTHER` they go on as long as modes of some mass were found by few starts.
    """
    each = max(search.n_evals / max(search.counts.starts, 1), 1.0)
    name = f"screening after {density.n_logp_evals}: climbs"
    [seconds] = density.log.once(name, lambda: (_seconds_each(density),))
    evals = settings.screening_seconds / (seconds + CLIMB_SECONDS)
    if seconds > DEAR_SECONDS:
        evals = DEAR_SHARE * density.spent()
    n = int(min(MAX_RARE, min(evals, ROOM_SHARE * density.room()) / each))
    done, began = 0, search.counts
    while done < min(n, MAX_FURTHER) or (done < n and has_rare_modes(search, settings)):
        size = min(FURTHER_BATCH, n - done)
        try:
            with density.limited():
                search = find_more_modes(density, search, settings, size, rng)
        except LimitReached:
            return _Seen(search, n_climbs=done, cut_short=True)
        except ModelError:
            # There is no prior to draw from.
            break
        drawn = search.counts.starts - began.starts - done
        if not drawn:
            break
        done += drawn
        if search.counts.unfinished > began.unfinished:
            return _Seen(search, n_climbs=done, cut_short=True)
    return _Seen(search, n_climbs=done)
