"""Modes that are found when a limit leaves no room to approximate them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from densities import Mixture

from pymc_multimodal.fit import FitConfig
from pymc_multimodal.fit.loop import next_step, run_step
from pymc_multimodal.fit.run import Run
from pymc_multimodal.fit.state import State
from pymc_multimodal.search import begin_search

TARGET = Mixture([[-3.0, 0.0], [3.0, 0.0], [0.0, 4.0]], [0.2 * np.eye(2)] * 3, [0.5, 0.3, 0.2], 3.0)


def state_before(name, run):
    """The state of a fit before a step."""
    settings = run.settings
    search = begin_search(run.density, settings.modes, False, run.rng("begin"))
    state = State.begun(search)
    while (step := next_step(state, run)).name != name:
        state = run_step(step, state, run)
    return step, state


def test_an_answer_without_modes_that_were_found_since_is_refuted():
    run = Run(TARGET.density(), FitConfig(random_seed=3), lambda stage, text: None)
    step, state = state_before("approximate again", run)
    modes = state.exploration.modes
    few = replace(state.approximation, modes=modes.merged(np.array([0, 1, 1])))
    after = run_step(step, replace(state, approximation=few), run)
    assert not after.approximation.verdict.precise
    assert "modes were found after it" in after.approximation.verdict.reasons
    assert not after.ends_early
    # With the modes of the chains the same answer stands.
    assert run_step(step, state, run).ends_early
