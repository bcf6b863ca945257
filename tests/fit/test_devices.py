"""The report says on which GPU networks were trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from densities import two_modes

from pymc_multimodal.fit import FitConfig
from pymc_multimodal.fit.answer import device_statuses
from pymc_multimodal.fit.loop import run_step
from pymc_multimodal.fit.run import Run
from pymc_multimodal.fit.state import State
from pymc_multimodal.fit.steps import Step
from pymc_multimodal.proposals.noted import note_device
from pymc_multimodal.search import begin_search


class Trains(Step):
    """Trains a network on some device."""

    name, text = "trains", "training"

    def __init__(self, device):
        self.device = device

    def due(self, state, settings):
        return True

    def __call__(self, state, run):
        if self.device:
            note_device(self.device)
        return replace(state, explorations=state.explorations + 1)


def test_the_devices_of_all_steps_are_kept():
    density, settings = two_modes().density(), FitConfig()
    run = Run(density, settings, lambda stage, text: None)
    state = State.begun(begin_search(density, settings.modes, False, np.random.default_rng(0)))
    for device in (None, "cuda:1", "cuda:0", "cuda:1", None):
        state = run_step(Trains(device), state, run)
    assert state.explorations == 5
    assert state.devices == ("cuda:0", "cuda:1")
    [status] = device_statuses(state.devices)
    assert (status.code, status.level) == ("device", "info")
    assert "cuda:0 and cuda:1" in status.cause
    assert device_statuses(()) == ()
