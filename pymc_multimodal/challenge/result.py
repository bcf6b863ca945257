"""What is challenged, and what the challenge says of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.challenge.statuses import inconclusive_status
from pymc_multimodal.status import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.evidence import Weights
    from pymc_multimodal.moves import MoveParameters
    from pymc_multimodal.proposals import RegionDensity
    from pymc_multimodal.regions import Partition, RegionDraws
    from pymc_multimodal.search import Modes
    from pymc_multimodal.status import Status
    from pymc_multimodal.target.target import Target

__all__ = ["ChallengeResult", "FitCandidate"]


@dataclass(frozen=True)
class FitCandidate:
    """A fit of K regions that is to be challenged.

    Attributes
    ----------
    known : Modes
        All modes that the fit knows, before some were joined to one region.
    partition : Partition
    densities : sequence of RegionDensity
        Fitted to each region.
    draws : RegionDraws
    parameters : MoveParameters
        Of the moves inside of the regions.
    weights : Weights
    target : Target
        What was sampled: the density, folded where it is symmetric.
    """

    known: Modes
    partition: Partition
    densities: Sequence[RegionDensity]
    draws: RegionDraws
    parameters: MoveParameters
    weights: Weights
    target: Target


@dataclass(frozen=True)
class ChallengeResult:
    """What a tempered search and further climbs say of a fit of K regions.

    Attributes
    ----------
    counterexamples : array of shape (n, d)
        Points that prove the fit incomplete; none if it stands.
    log_mass, log_mass_se : arrays of shape (K,)
        Log evidence of each region by the tempered search (nats), and its standard error; -inf and
        NaN for a region in which no particle ended. An estimate can be far too small, where the
        search missed a mode, and is hardly ever too large: it contradicts the bridge only if it is
        larger.
    gap : array of shape (K,)
        Error of each region's log evidence that the challenge found (nats), 0 for none. It is the
        largest of three: by how much `log_mass` exceeds the bridge's estimate, if that is more than
        4 joint standard errors; what the particles amount to that ended where the region's chains
        have not been; what the modes that climbs found would add, by Laplace's approximation.
    effective : float
        Number of independent particles that the masses are estimated from.
    missed_by_fit : float
        Share of the tempered search's mass in places that the first fit did not know.
    missed_by_search : float
        Weight of the regions in which no particle ended.
    inconclusive : str
        Why the tempered search cannot tell what was missed; empty if it can.
    n_climbs : int
        Further climbs to modes, in all rounds.
    statuses : tuple of Status

    Notes
    -----
    What both searches missed is not estimated. A capture-recapture estimate (Chapman 1951) assumes
    that the two miss independently of one another, but both miss the same spikes, those far
    narrower than the distances between particles: it was 4e-5 to 3e-3 where half of the posterior
    was missed.
    """

    counterexamples: np.ndarray
    log_mass: np.ndarray
    log_mass_se: np.ndarray
    gap: np.ndarray
    effective: float
    missed_by_fit: float
    missed_by_search: float
    inconclusive: str
    n_climbs: int
    statuses: tuple[Status, ...]

    def __repr__(self) -> str:
        """Say whether the fit stands; the arrays are in the attributes."""
        found = "no counterexample"
        if len(self.counterexamples):
            found = counted(len(self.counterexamples), "counterexample")
        particles = f"{self.effective:.0f} effective particles"
        if self.inconclusive:
            particles = f"tempered search inconclusive: {self.inconclusive.rstrip('.')}"
        return f"<ChallengeResult: {found}, {counted(self.n_climbs, 'climb')}, {particles}>"

    @classmethod
    def unknown(cls, n_regions: int, dim: int, cause: str) -> ChallengeResult:
        """Return the result of a tempered search that says nothing, and why it does not."""
        nan = float("nan")
        return cls(
            counterexamples=np.empty((0, dim)),
            log_mass=np.full(n_regions, -np.inf),
            log_mass_se=np.full(n_regions, nan),
            gap=np.zeros(n_regions),
            effective=0.0,
            missed_by_fit=nan,
            missed_by_search=nan,
            inconclusive=cause,
            n_climbs=0,
            statuses=(inconclusive_status(cause),),
        )

    def take(self, order: np.ndarray) -> ChallengeResult:
        """Renumber the regions: new region i is old region ``order[i]``; statuses stay."""
        names = ("log_mass", "log_mass_se", "gap")
        return replace(self, **{name: getattr(self, name)[order] for name in names})
