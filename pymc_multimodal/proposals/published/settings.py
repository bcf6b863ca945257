"""Settings of the published recipe."""

from __future__ import annotations

from dataclasses import dataclass

from pymc_multimodal import checks
from pymc_multimodal.proposals.device import check_device
from pymc_multimodal.proposals.elliptical import DEFENSIVE_DF, DEFENSIVE_SHARE, DEFENSIVE_WIDTH

__all__ = ["PublishedSettings"]

# Least values of the whole numbers.
_LEAST_COUNTS = {
    "pairs": 10,
    "score_draws": 2,
    "neighbours": 1,
    "ode_steps": 2,
    "train_steps": 1,
    "batch": 1,
    "max_components": 2,
}


@dataclass(frozen=True)
class PublishedSettings:
    """Settings of `PublishedHybrid`, which has their description."""

    score: str = "empirical"
    pairs: int = 5000
    score_draws: int = 2000
    neighbours: int | None = None
    ode_steps: int = 100
    hidden: tuple[int, ...] = (100, 100)
    learning_rate: float = 1e-3
    train_steps: int = 2000
    batch: int | None = 512
    max_components: int = 16
    defensive: float = DEFENSIVE_SHARE
    defensive_df: float = DEFENSIVE_DF
    defensive_width: float = DEFENSIVE_WIDTH
    device: str = "auto"

    def __post_init__(self) -> None:
        owner = type(self).__name__
        checks.choice(owner, "score", self.score, ("empirical", "smoothed"))
        for name, least in _LEAST_COUNTS.items():
            value = getattr(self, name)
            if value is not None or name not in ("neighbours", "batch"):
                checks.count(owner, name, value, least)
        checks.counts(owner, "hidden", self.hidden)
        object.__setattr__(self, "hidden", tuple(self.hidden))
        checks.share(owner, "defensive", self.defensive)
        for name in ("learning_rate", "defensive_df", "defensive_width"):
            checks.positive(owner, name, getattr(self, name), finite=True)
        check_device(owner, "device", self.device)
