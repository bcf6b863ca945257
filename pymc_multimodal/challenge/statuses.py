"""What the statuses say of a challenge."""

from __future__ import annotations

import numpy as np

from pymc_multimodal.status import Status, counted

__all__ = ["inconclusive_status", "more_mass_status", "unknown_modes_status", "unvisited_status"]


def inconclusive_status(cause: str, n_climbs: int = 0) -> Status:
    """Report that the tempered search says nothing, and how many further climbs were made."""
    climbs = (
        f" {counted(n_climbs, 'more climb', ('was', 'were'))} made from other starts."
        if n_climbs
        else ""
    )
    return Status(
        "challenge",
        "challenge",
        f"the challenge by a tempered search was inconclusive: {cause}.{climbs}",
        "Raise Challenge.share for a better one, and Challenge.climbs for more climbs.",
        level="info",
    )


def unknown_modes_status() -> Status:
    """Report modes that the fit does not have."""
    return Status(
        "challenge",
        "challenge",
        "the challenge found modes that the fit does not have.",
        "Raise Challenge.rounds, or give more starts (ModeSearch.starts).",
    )


def unvisited_status(k: int, share: float) -> Status:
    """Report the share of the particles of region k where its chains have not been."""
    return Status(
        "challenge",
        "challenge",
        f"{share:.1%} of the particles of a tempered search in this region are where its chains "
        "have not been.",
        "Its weight is too small by at most that share, and the stated error includes this. Raise "
        "Challenge.rounds.",
        mode=k,
    )


def more_mass_status(k: int, gap: float) -> Status:
    """Report by how many nats a tempered search exceeds the log evidence of region k."""
    return Status(
        "challenge",
        "challenge",
        f"a tempered search gives an evidence that differs by {np.expm1(gap):+.0%} from the "
        "evidence by the region's own chains: the chains miss a piece of the region.",
        "Its weight and evidence are wrong by about as much; raise Challenge.rounds.",
        mode=k,
    )
