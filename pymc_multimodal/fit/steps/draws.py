"""Steps that prepare the draws: the generator and the kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.evidence import draw_ratios, replace_densities
from pymc_multimodal.fit.choose_kernel import MEASURED_DRAWS, MIN_ACCEPTANCE, choose_kernel
from pymc_multimodal.fit.state import known
from pymc_multimodal.fit.steps.base import Step
from pymc_multimodal.fit.steps.common import fit_regions
from pymc_multimodal.kernel import make_kernel
from pymc_multimodal.proposals import expected_acceptance
from pymc_multimodal.regions import draws_away

if TYPE_CHECKING:
    from pymc_multimodal.evidence import BridgeSamples
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.settings import FitConfig
    from pymc_multimodal.fit.state import State

__all__ = ["ChooseKernel", "LearnGenerator"]

# Weight of a region from which on its jumps matter for the draws. Conventional: one draw in a
# hundred.
MIN_WEIGHT = 0.01


class LearnGenerator(Step):
    """Learn the generator of the whole posterior."""

    name = "generator"
    text = "learning the generator"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True when nothing is missing any more."""
        return state.generator is None

    def __call__(self, state: State, run: Run) -> State:
        """Learn from the draws of the regions and their weights.

        Networks are trained where jumps would be accepted too rarely without them. After a precise
        first answer its mixture is the generator.
        """
        if state.ends_early:
            return replace(state, generator=known(state.approximation).generator)
        learner = run.settings.generator_for(run.density)
        weights, rng = state.final_weights.weight, run.rng(self.name)
        draws, samples = known(state.draws), known(state.samples)
        if learner.regional.without_network() is not learner.regional:
            samples = _with_networks(state, run, weights, rng)
        generator = learner.build(samples.fitted, draws, weights, rng, state.target(run.density))
        return replace(state, generator=generator)


class ChooseKernel(Step):
    """Choose how many jumps a draw needs."""

    name = "kernel"
    text = "choosing the kernel"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True when the generator is known."""
        return state.kernel is None

    def __call__(self, state: State, run: Run) -> State:
        """Measure how often jumps are accepted."""
        division, draws, rng = known(state.division), known(state.draws), run.rng(self.name)
        generator, target = known(state.generator), state.target(run.density)
        if state.ends_early:
            found = known(state.approximation)
            kernel = make_kernel(division.partition, division.pilot.parameters, generator)
            proposed = found.proposed_ratios(MEASURED_DRAWS, rng)
            kernel, statuses = choose_kernel(
                target, kernel, draws, state.final_weights, rng, proposed=proposed
            )
            return replace(state, kernel=kernel, kernel_statuses=tuple(statuses))
        kernel = make_kernel(division.partition, known(state.chains).parameters, generator)
        kernel, statuses = choose_kernel(target, kernel, draws, state.final_weights, rng)
        modes = division.modes
        if not modes.runaway:
            statuses += draws_away(run.density, modes.locations, modes.scale, draws)
        return replace(state, kernel=kernel, kernel_statuses=tuple(statuses))


def _with_networks(
    state: State, run: Run, weights: np.ndarray, rng: np.random.Generator
) -> BridgeSamples:
    """Train networks for regions whose jumps would hardly ever be accepted."""
    draws, samples = known(state.draws), known(state.samples)
    accepted = [
        expected_acceptance(draw_ratios(draws, k, q).ravel())
        for k, q in enumerate(samples.fitted.densities)
    ]
    rough = np.flatnonzero((np.array(accepted) < MIN_ACCEPTANCE) & (weights >= MIN_WEIGHT))
    if not len(rough):
        return samples
    previous = [samples.fitted.densities[k] for k in rough]
    division = known(state.division)
    better = fit_regions(run, division, draws.take(rough), rough, rng, previous, network=True)
    return replace_densities(samples, better, rough)
