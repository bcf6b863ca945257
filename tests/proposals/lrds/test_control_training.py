"""Steps of a trainer of controls: what is not finite is left out, and no loss is looked at."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pymc_multimodal.proposals import ControlNetwork
from pymc_multimodal.proposals.lrds.control import Control
from pymc_multimodal.proposals.lrds.control_training import ControlTrainer
from pymc_multimodal.proposals.lrds.evaluated import EvaluatedPoints
from pymc_multimodal.proposals.lrds.noising import geometric
from pymc_multimodal.proposals.lrds.potential import Potential
from pymc_multimodal.proposals.torch_setup import seeded

CPU, STEPS = torch.device("cpu"), 6
LOSSES = ("stepwise", "log-variance", "kl")


def target(reference, z):
    """Log density of some target."""
    return reference.log_level(0, z) + np.sin(3.0 * z[:, 0])


@pytest.fixture
def made(make_reference, rng):
    """A reference, and a factory of trainers that have regressed on points."""
    reference = make_reference(geometric(3, 0.1, 3.0))
    maps = reference.control_maps()
    potential = Potential.random(2, maps.shape[1], 8, np.ones(4), rng)
    z = reference.sample(300, rng)
    points = EvaluatedPoints(z, target(reference, z))

    def trainer(loss, own=100):
        network = ControlNetwork(hidden=8, regression_batch=32)
        control = Control(potential, maps)
        new = ControlTrainer(reference, control, loss, network, STEPS, CPU)
        new.set_points(points, EvaluatedPoints(z[:own], points.logp[:own]))
        new.regress(5)
        return new

    return reference, trainer


def paths(reference, rng, n=30):
    """Noised paths with log densities of the target at their starts."""
    path = reference.noising.forward(reference.sample(n, rng), rng)
    return path, target(reference, path[0])


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_that_is_not_finite_changes_no_parameter(loss, made, rng):
    reference, trainer = made
    with seeded(rng, CPU):
        new = trainer(loss)
        controls = [new.control()]
        for step in range(STEPS):
            path, logp = paths(reference, rng)
            if step % 2:
                logp[3] = np.nan
            new.train_on_paths(path, logp)
            controls.append(new.control())
    assert np.array_equal(np.isnan(new.losses()), np.arange(STEPS) % 2 == 1)
    for step in range(STEPS):
        before, after = (vars(controls[step + i].potential) for i in (0, 1))
        same = [np.array_equal(before[name], after[name]) for name in before]
        assert all(same) if step % 2 else not any(same)
        assert all(np.isfinite(a).all() for a in after.values())


@pytest.mark.parametrize("loss", LOSSES)
def test_no_loss_is_looked_at_before_the_end(loss, made, looks, rng):
    reference, trainer = made
    with seeded(rng, CPU):
        new = trainer(loss)
        # The median of the first log ratios.
        assert looks == ["cpu", "numpy"]
        looks.clear()
        for step in range(STEPS):
            if step % 2:
                new.train_on_paths(*paths(reference, rng))
            else:
                new.train_on_batch(20)
        assert looks == []
    assert np.isfinite(new.losses()).all()
    assert looks == ["tolist"]


def test_without_steps_there_are_no_losses(made, rng):
    with seeded(rng, CPU):
        assert made[1]("stepwise").losses().shape == (0,)


@pytest.mark.parametrize("own", [0, 100])
@pytest.mark.parametrize("n", [1, 20])
def test_the_seed_says_what_batches_are_drawn(own, n, made):
    """With ends of the chain or without; without the seed of torch's global generator."""
    found = []
    for seed in (5, 5, 6):
        with seeded(np.random.default_rng(seed), CPU):
            new = made[1]("stepwise", own)
            new.train_on_batch(n)
        found.append(new.losses())
        torch.rand(3)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
