"""What is said when the search ends is what the search knows."""

from __future__ import annotations

import numpy as np
import pytest
from densities import Mixture, two_modes

from pymc_multimodal.fit import FitConfig
from pymc_multimodal.fit.forecast import forecast, preview
from pymc_multimodal.fit.loop import next_step, run_step
from pymc_multimodal.fit.run import Run
from pymc_multimodal.fit.state import State
from pymc_multimodal.search import begin_search
from pymc_multimodal.target.group import Symmetry

TARGET = two_modes(dim=2, distance=8.0, weights=(0.3, 0.7), log_z=1.3)


@pytest.fixture
def searched():
    """The state after the search for two modes, and the run."""
    return after_search(TARGET)


def after_search(target, symmetry=False):
    density, settings = target.density(), FitConfig()
    run = Run(density, settings, lambda stage, text: None)
    search = begin_search(density, settings.modes, symmetry, np.random.default_rng(0))
    state = State.begun(search)
    while not state.search.settled:
        state = run_step(next_step(state, run), state, run)
    return state, run


def test_the_preview_has_the_modes_with_weights_by_laplace(searched):
    before = searched[1].density.n_logp_evals
    said = preview(*searched)
    climbs = searched[0].search.counts.starts
    # Both modes are normal, so that Laplace's approximation is exact.
    assert said.startswith(f"the search has found 2 modes by {climbs} climbs, with weights near")
    assert "0.7, 0.3 by Laplace's approximation" in said
    assert searched[1].density.n_logp_evals == before


def test_the_preview_weighs_a_mode_with_its_images():
    """Two normals that are images of each other, and one that is its own image."""
    places = [[-6.0, 0.0], [0.0, 0.0], [6.0, 0.0]]
    target = Mixture(places, [0.5 * np.eye(2)] * 3, [0.4, 0.2, 0.4])
    said = preview(*after_search(target, Symmetry((-np.eye(2),))))
    assert "found 2 modes (symmetric ones counted once)" in said
    assert "weights near 0.8, 0.2 by Laplace's approximation" in said


def test_a_forecast_is_given_where_evaluations_are_slow(searched):
    state, run = searched
    # The clock of a machine that does much else says nothing of the density.
    run.density.value_seconds = run.density.seconds = 0.0
    assert forecast(state, run) == ""
    run.density.seconds = 0.01 * run.density.n_logp_evals
    least = 2 * 5_400 + 20_000
    in_all = round(least + run.evals, -3)
    assert forecast(state, run) == (
        f"2 regions: at least {in_all:,} evaluations in all, the rest in 5 min, "
        "if the first answer is not precise"
    )


def test_nothing_is_said_before_a_climb_has_ended():
    density, settings = TARGET.density(), FitConfig()
    run = Run(density, settings, lambda stage, text: None)
    state = State.begun(begin_search(density, settings.modes, False, np.random.default_rng(0)))
    assert (preview(state, run), forecast(state, run)) == ("", "")
