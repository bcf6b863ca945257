"""The picture of an emulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import simulators
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

import pymc_multimodal as mm
from pymc_multimodal.emulation.features import Features
from pymc_multimodal.emulation.outputs import emulate_outputs

N = 40


@pytest.fixture
def figures():
    """Close what a test has drawn."""
    yield
    plt.close("all")


def with_emulator(fit, model, told):
    """Return the fit with an emulator of some of the points, and the evaluations of all."""
    split = simulators.split(model)
    x = np.random.default_rng(1).uniform(-1.0, 1.0, (N, 2))
    y = split.outputs(x)
    logp = split.log_density(x, y)
    features = Features(split.inputs, np.zeros(2), np.ones(2), np.full(2, np.inf))
    emulator = emulate_outputs(split, features, x[:told], y[:told], logp[:told])
    evaluations = mm.Evaluations(("a", "b"), x, logp, y)
    return replace(fit, emulator=emulator, evaluations=evaluations)


def test_each_output_has_a_panel_and_the_log_ratios_another(four_modes_fit, figures):
    fit = with_emulator(four_modes_fit, simulators.plain(simulators.Simulator()), N - 10)
    figure = mm.plot_emulator(fit)
    assert isinstance(figure, Figure)
    *outputs, ratios = figure.axes
    assert len(outputs) == 3
    for name, axis in zip(fit.emulator.model.names, outputs, strict=True):
        assert axis.get_title().startswith(f"{name}: ")
    assert ratios.get_title().startswith("10 test points")
    assert sum(bar.get_height() for bar in ratios.patches) == 10
    figure.canvas.draw()


def test_without_new_points_there_are_no_log_ratios(four_modes_fit, figures):
    fit = with_emulator(four_modes_fit, simulators.plain(simulators.Simulator()), N)
    assert len(mm.plot_emulator(fit).axes) == 3


def test_of_many_outputs_some_are_shown(four_modes_fit, figures):
    fit = with_emulator(four_modes_fit, simulators.series(20), N)
    names = {axis.get_title().partition(":")[0] for axis in mm.plot_emulator(fit).axes}
    assert len(names) == 11
    assert names < set(fit.emulator.model.names)


def test_a_fit_without_an_emulator_is_refused(four_modes_fit):
    with pytest.raises(ValueError, match=r"plot_emulator\(fit\).*no emulator.*Fit again"):
        mm.plot_emulator(four_modes_fit)
