"""Settings of the challenge."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Challenge"]


@dataclass(frozen=True)
class Challenge:
    """How hard a fit is challenged.

    Parameters
    ----------
    share : float
        Evaluations of the tempered search, as a share of those that the fit has spent.
    min_evals : int
        Evaluations that it gets after the shortest fit.
    climbs : int
        Climbs to modes that are made as well each time; fewer where they would take twice the
        evaluations of the tempered search.
    rounds : int
        How often a fit that was proved wrong is done again from what the search found.

    Raises
    ------
    ValueError
        If a setting is out of range.
    """

    share: float = 0.2
    min_evals: int = 20_000
    climbs: int = 1024
    rounds: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.share <= 10:
            raise ValueError(
                f"Challenge(share={self.share}) is a share of the fit's evaluations and must be "
                "positive, at most 10; challenge=False leaves the challenge out."
            )
        for name in ("min_evals", "climbs", "rounds"):
            if getattr(self, name) < 0:
                raise ValueError(f"Challenge({name}={getattr(self, name)}) must not be negative.")
