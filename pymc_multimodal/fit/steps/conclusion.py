"""Steps that challenge the fit and prepare the draws."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pymc_multimodal.challenge import Challenge, FitCandidate, begin_challenge, challenge
from pymc_multimodal.fit.choose_kernel import choose_kernel
from pymc_multimodal.fit.state import known
from pymc_multimodal.fit.steps.base import Step
from pymc_multimodal.kernel import make_kernel
from pymc_multimodal.search import climb_from

if TYPE_CHECKING:
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.settings import FitConfig
    from pymc_multimodal.fit.state import State

__all__ = ["ChallengeFit", "ChooseKernel", "Learn"]


class ChallengeFit(Step):
    """Try to prove the fit incomplete; where that succeeds, begin again from what was found."""

    name = "challenge"
    text = "searching for what was missed"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Once for each fit."""
        asked = isinstance(settings.challenge, Challenge)
        return asked and state.cross_check is not None and state.challenge_result is None

    def __call__(self, state: State, run: Run) -> State:
        """Search by tempered particles and by further climbs."""
        assert isinstance(run.settings.challenge, Challenge)
        before = state.challenge or begin_challenge(run.settings.challenge, run.density.dim)
        candidate = FitCandidate(
            known=known(state.division).known,
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
        state = replace(state, search=search, challenge=after, challenge_result=result)
        if not after.repeat or run.closed:
            return state
        points = after.counterexamples
        search, _ = climb_from(run.density, search, run.settings.modes, points)
        return state.restarted(search, result.counterexamples)


class Learn(Step):
    """Learn the generator of the whole posterior."""

    name = "generator"
    text = "learning the generator"

    def due(self, state: State, settings: FitConfig) -> bool:
        """When nothing is missing any more."""
        return state.generator is None

    def __call__(self, state: State, run: Run) -> State:
        """Learn from the draws of the regions and their weights."""
        learner = run.settings.generator_for(run.density)
        weights = state.final_weights.weight
        generator = learner.build(
            known(state.samples).fitted,
            known(state.draws),
            weights,
            run.rng(self.name),
            state.target(run.density),
        )
        return replace(state, generator=generator)


class ChooseKernel(Step):
    """Choose how many jumps a draw needs."""

    name = "kernel"
    text = "choosing the kernel"

    def due(self, state: State, settings: FitConfig) -> bool:
        """When the generator is known."""
        return state.kernel is None

    def __call__(self, state: State, run: Run) -> State:
        """Measure how often jumps are accepted."""
        kernel = make_kernel(
            known(state.division).partition, known(state.chains).parameters, known(state.generator)
        )
        kernel, statuses = choose_kernel(
            state.target(run.density),
            kernel,
            known(state.draws),
            state.final_weights,
            run.rng(self.name),
        )
        return replace(state, kernel=kernel, kernel_statuses=tuple(statuses))
