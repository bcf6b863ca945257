"""The attempt to prove a fit incomplete, by a search that does not depend on it."""

from pymc_multimodal.challenge.climbs import climb_starts, climb_within
from pymc_multimodal.challenge.reference import Reference
from pymc_multimodal.challenge.result import ChallengeResult, FitCandidate
from pymc_multimodal.challenge.rounds import (
    ChallengeState,
    begin_challenge,
    challenge,
    extend_particles,
)
from pymc_multimodal.challenge.settings import Challenge
from pymc_multimodal.challenge.tempered import (
    Particles,
    TemperedSettings,
    next_beta,
    tempered_smc,
)

__all__ = [
    "Challenge",
    "ChallengeResult",
    "ChallengeState",
    "FitCandidate",
    "Particles",
    "Reference",
    "TemperedSettings",
    "begin_challenge",
    "challenge",
    "climb_starts",
    "climb_within",
    "extend_particles",
    "next_beta",
    "tempered_smc",
]
