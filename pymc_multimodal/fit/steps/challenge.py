"""Steps that try to prove the fit incomplete."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pymc_multimodal.challenge import Challenge, FitCandidate, begin_challenge, challenge
from pymc_multimodal.fit.state import known
from pymc_multimodal.fit.steps.base import Step
from pymc_multimodal.search import climb_from

if TYPE_CHECKING:
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.settings import FitConfig
    from pymc_multimodal.fit.state import State

__all__ = ["BeginAgain", "ChallengeFit"]


class ChallengeFit(Step):
    """Try to prove the fit incomplete."""

    name = "challenge"
    text = "searching for what was missed"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True once for each fit."""
        asked = isinstance(settings.challenge, Challenge)
        return asked and state.cross_check is not None and state.challenge_result is None

    def __call__(self, state: State, run: Run) -> State:
        """Search by tempered particles and by further climbs."""
        assert isinstance(run.settings.challenge, Challenge)
        before = state.challenge or begin_challenge(run.settings.challenge, run.density.dim)
        candidate = FitCandidate(
            known=known(state.division).all_modes,
            partition=known(state.division).partition,
            densities=known(state.samples).fitted.densities,
            draws=known(state.draws),
            parameters=known(state.chains).parameters,
            weights=state.final_weights,
            target=state.target(run.density),
        )
        after, search, result = challenge(
            candidate,
            state.search,
            before,
            run.settings.challenge,
            run.settings.modes,
            run.evals,
            run.rng(self.name),
        )
        return replace(state, search=search, challenge=after, challenge_result=result)


class BeginAgain(Step):
    """Begin the fit again from the modes that a challenge has found."""

    name = "begin again"
    text = "beginning again with more modes"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True when a challenge has proved the fit incomplete, and rounds were left."""
        if state.challenge is None or state.challenge_result is None:
            return False
        return state.challenge.repeat

    def __call__(self, state: State, run: Run) -> State:
        """Climb from the counterexamples of all rounds. Chains start from those of this round."""
        points = known(state.challenge).counterexamples
        search, _ = climb_from(run.density, state.search, run.settings.modes, points)
        return state.restarted(search, known(state.challenge_result).counterexamples)
