"""Settings of the challenge."""

from __future__ import annotations

from dataclasses import dataclass

from pymc_multimodal import checks

__all__ = ["Challenge"]

# Largest share: a challenge ten times as costly as the fit is a fit of its own. Conventional.
MAX_SHARE = 10.0


@dataclass(frozen=True)
class Challenge:
    """Settings of the challenge: what is spent on the attempt to prove a fit incomplete.

    Parameters
    ----------
    share : float
        Evaluations of the tempered search, as a share of the evaluations of the fit.
    min_evals : int
        Evaluations of the tempered search after the shortest fit.
    climbs : int
        Further climbs to modes in each round; fewer if they would take twice the evaluations of the
        tempered search.
    rounds : int
        How often a fit that was proved incomplete is done again from what the search found.

    Raises
    ------
    TypeError
        If a setting has the wrong type.
    ValueError
        If a setting is out of range.
    """

    share: float = 0.2
    min_evals: int = 20_000
    climbs: int = 1024
    rounds: int = 2

    def __post_init__(self) -> None:
        checks.positive("Challenge", "share", self.share, MAX_SHARE)
        for name in ("min_evals", "climbs", "rounds"):
            checks.count("Challenge", name, getattr(self, name), 0)
