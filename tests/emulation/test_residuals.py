"""What an emulator was not told is predicted by its processes, on the scale of the outputs."""

from __future__ import annotations

import numpy as np
import pytest
import simulators

from pymc_multimodal.emulation import left_out, unseen_log_ratios
from pymc_multimodal.emulation.features import Features
from pymc_multimodal.emulation.outputs import emulate_outputs

N = 40


def features_of(model, d):
    return Features(model.inputs, np.zeros(d), np.ones(d), np.full(d, np.inf))


@pytest.fixture(scope="module")
def split():
    """A simulator of two inputs and three outputs, and a log density of them."""
    return simulators.split(simulators.plain(simulators.Simulator()))


@pytest.fixture(scope="module")
def evaluated(split):
    """Points, their outputs and log densities; the last five are not told to the emulator."""
    x = np.random.default_rng(1).uniform(-1.0, 1.0, (N + 5, 2))
    y = split.outputs(x)
    return x, y, split.log_density(x, y)


@pytest.fixture(scope="module")
def emulator(split, evaluated):
    x, y, logp = (part[:N] for part in evaluated)
    return emulate_outputs(split, features_of(split, 2), x, y, logp)


def test_predictions_are_those_of_the_processes(emulator, evaluated):
    points = left_out(emulator)
    assert points.names == emulator.model.names
    np.testing.assert_array_equal(points.true, evaluated[1][:N])
    u, high = (emulator.scaling.forward(y) for y in (points.mean, points.high))
    for process, group in zip(emulator.processes, emulator.groups, strict=True):
        mean, variance = process.left_out()
        np.testing.assert_allclose(u[:, group], mean, rtol=1e-7, atol=1e-9)
        reach = 2.0 * np.sqrt(variance)
        np.testing.assert_allclose((high - u)[:, group], reach, rtol=1e-4, atol=1e-9)
    assert (points.low <= points.mean).all()
    assert (points.mean <= points.high).all()


def test_a_smooth_simulator_is_predicted(emulator):
    points = left_out(emulator)
    assert points.near.all()
    error = (points.true - points.mean).std(axis=0)
    assert (error < 0.05 * points.true.std(axis=0)).all()
    inside = (points.true >= points.low) & (points.true <= points.high)
    np.testing.assert_array_equal(points.share_inside, inside.mean(axis=0))


def test_log_ratios_are_those_of_points_that_were_not_told(emulator, evaluated):
    x, _, logp = evaluated
    found = unseen_log_ratios(emulator, x, logp)
    np.testing.assert_allclose(found, logp[N:] - emulator.log_density(x[N:]))
    assert not len(unseen_log_ratios(emulator, x[:N], logp[:N]))


def test_points_of_a_low_density_do_not_count(emulator, evaluated):
    x, _, logp = evaluated
    low = logp.copy()
    low[-1] = logp.max() - 50.0
    assert len(unseen_log_ratios(emulator, x, low)) == 4
    low[-1] = -np.inf
    assert len(unseen_log_ratios(emulator, x, low)) == 4
