"""What a search may have missed that a limit ended, and what follows for errors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.status import RAISE_LIMIT, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.search.modes import Modes
    from pymc_multimodal.search.screening import Screening
    from pymc_multimodal.search.state import Search

__all__ = ["MAX_MISSING_SHARE", "missing_share", "missing_statuses"]

# Share of the starts that may lead to modes which a search that a limit ended has not found: beyond
# it errors of weights are not stated. Measured: examples/benchmarks/cut_short.py; 4 of 130 fits had
# lost a mode where it was below 0.05, and 28 of 141 where it was 0.05 to 0.2.
MAX_MISSING_SHARE = 0.05


def missing_share(search: Search, modes: Modes, screening: Screening | None) -> float:
    """Return the share of the starts whose modes a search may have missed that a limit ended.

    With a probability of 95 % it is no larger. It is 0 if the search has ended by its own rule:
    `searched` then says how small a basin may be missing. Where each mode was found by several
    climbs, points that were screened by their values count as climbs do.

    Parameters
    ----------
    search : Search
    modes : Modes
        That it has found.
    screening : Screening or None
        That of the search, if there was one.
    """
    entered = float("nan") if screening is None else screening.entered_share
    cut_short = not search.settled or search.counts.unfinished > 0
    if not cut_short and (screening is None or not screening.cut_short):
        return 0.0
    share = float(np.nanmax([modes.unseen_start_mass_upper, modes.seen_basin_mass, 0.0]))
    if np.isfinite(entered) and not modes.singletons.any():
        share = min(share, entered)
    return share


def missing_statuses(statuses: Sequence[Status], share: float) -> list[Status]:
    """Say that errors are not known because modes may be missing.

    Parameters
    ----------
    statuses : sequence of Status
        If one of them says that the search was cut off, it says so, too.
    share : float
        See `missing_share`.
    """
    why = (
        f"up to {share:.0%} of all starts may lead to modes that were not found, so that the "
        "errors of the weights and of the log evidence are not known."
    )
    known = [s for s in statuses if s.code == "unfinished"]
    if not known:
        cause = f"a limit of the fit ended the search for modes: {why}"
        return [*statuses, Status("unfinished", "search", cause, RAISE_LIMIT)]
    cause = f"{known[0].cause.rstrip('.')}; {why}"
    told = replace(known[0], cause=cause)
    return [told if s is known[0] else s for s in statuses]
