"""What a search says of itself: what it has seen, and the climbs that ended at no optimum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.status import RAISE_LIMIT, Status, counted

if TYPE_CHECKING:
    from pymc_multimodal.search.state import Search

__all__ = [
    "cut_short_statuses",
    "search_statuses",
    "seen_basin_mass",
    "step_status",
    "upper_share",
]

# Share of the starts whose climbs may end at a saddle before that is a warning. Conventional.
MAX_SADDLE_SHARE = 0.05


def upper_share(count: int, n: int) -> float:
    """Return an upper 95 % bound of a probability, from a count among n; 1 at most.

    It bounds the mean of a Poisson count. For a count of 0 it is the rule of three,
    ``-log(0.05)``; otherwise the mean m for which the count is two standard deviations,
    ``2 sqrt(m)``, too low.
    """
    return min(1.0, (count + 2 * np.sqrt(count) + 3.0) / max(n, 1))


def seen_basin_mass(search: Search) -> float:
    """Return the share of the prior from which on a basin has been seen (see `Modes`)."""
    if not search.start_from_prior.any():
        return float("nan")
    return upper_share(0, int(np.sum(search.start_from_prior & search.start_tells)))


def search_statuses(search: Search, hits: np.ndarray, unseen: float) -> tuple[Status, ...]:
    """Describe what the search has met.

    Parameters
    ----------
    search : Search
    hits : array of int, shape (K,)
        Starts that have found each mode that is not negligible.
    unseen : float
        `Modes.unseen_start_mass_upper`.
    """
    counts = search.counts
    n, once = counts.starts, int(np.sum(hits == 1))
    statuses = cut_short_statuses(search)
    n_negligible = len(np.unique(search.optima.group)) - len(hits)
    if n_negligible:
        statuses.append(
            Status("negligible", "search",
                   f"{counted(n_negligible, 'further mode', ('has', 'have'))} negligible mass and "
                   f"{'was' if n_negligible == 1 else 'were'} left out.",
                   "ModeSearch(negligible=...) sets how little mass that is.", level="info")
        )  # fmt: skip
    if counts.runaway:
        statuses.append(
            Status("runaway", "search",
                   f"{counts.runaway} of {counted(n, 'climb')} ended where the density still "
                   "grows.",
                   "Write a hierarchical model in its non-centred form.")
        )  # fmt: skip
    if counts.steps:
        statuses.append(step_status(counts.steps, n))
    if once and np.isfinite(unseen):
        found = f"{once} of {len(hits)} modes {'was' if once == 1 else 'were'}"
        found = "the only mode was" if len(hits) == 1 else found
        statuses.append(
            Status("singletons", "search",
                   f"{found} found by one start of {n} only, so up to "
                   f"{unseen:.1%} of all starts may lead to modes that were not found.",
                   "Raise ModeSearch.max_starts or give more starts.")
        )  # fmt: skip
    return (*statuses, _searched(search))


def _searched(search: Search) -> Status:
    """Say what the search has seen, and what it may have missed."""
    n, seen = int(np.sum(search.start_from_prior & search.start_tells)), seen_basin_mass(search)
    if np.isnan(seen):
        cause = "no start was drawn from the prior, so that nothing is known of modes elsewhere."
    elif seen >= 1.0:
        cause = (
            f"{counted(n, 'climb')} from prior draws ended at an optimum, too few to tell "
            "anything: any mode may be missing."
        )
    else:
        cause = (
            f"climbs from {counted(n, 'prior draw')} ended at an optimum: a mode whose basin holds "
            f"{seen:.2%} or more of the prior has been seen with a probability of 95 %. "
            "Modes with smaller basins may be missing, whatever their posterior mass."
        )
    remedy = "Raise ModeSearch.starts, or give known modes: ModeSearch(locations=...)."
    return Status("searched", "search", cause, remedy, level="info")


def cut_short_statuses(search: Search) -> list[Status]:
    """Describe the climbs that ended at no optimum."""
    counts, statuses = search.counts, []
    if counts.flat:
        statuses.append(
            Status("flat", "search",
                   f"{counted(counts.flat, 'climb')} ended where the density is flat.",
                   "Such points are not counted as modes.", level="info")
        )  # fmt: skip
    if counts.saddles:
        statuses.append(
            Status("saddles", "search",
                   f"{counted(counts.saddles, 'climb')} ended at a saddle and went no further: "
                   "only a few of each batch are continued. Modes may be missing.",
                   "Raise ModeSearch.starts. Where the density is rough or has steps, every place "
                   "looks like a saddle: write a smooth density.",
                   level="warning" if counts.saddles > MAX_SADDLE_SHARE * counts.starts else "info")
        )  # fmt: skip
    if counts.unfinished:
        statuses.append(
            Status("unfinished", "search",
                   f"a limit of the fit cut off {counts.unfinished} of "
                   f"{counted(counts.starts, 'climb')}: modes may be missing.", RAISE_LIMIT)
        )  # fmt: skip
    return statuses


def dropped_gradient_status() -> Status:
    """Describe a density with steps, whose gradient was not used."""
    return Status(
        "step",
        "search",
        "climbs end at steps of the log density, where it falls at once although its gradient "
        "points on: the gradient was not used.",
        "A smooth function in place of the step (pm.math.switch, comparisons, rounding), such as "
        "pm.math.sigmoid, or a sum over the cases, makes the fit faster.",
        level="info",
    )


def step_status(steps: int, n: int) -> Status:
    """Describe climbs that ended at a step of the log density."""
    return Status(
        "step",
        "search",
        f"{steps} of {counted(n, 'climb')} ended at a step of the log density: it falls there at "
        "once, although its gradient points on.",
        "Gradients do not see steps (pm.math.switch, comparisons, rounding): write a "
        "smooth function in their place, such as pm.math.sigmoid, or sum over the cases.",
    )
