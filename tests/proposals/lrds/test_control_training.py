"""Steps of a trainer of controls: what is not finite is left out, and no loss is looked at."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pymc_multimodal.proposals import ControlNetwork
from pymc_multimodal.proposals.lrds.control import Control, PathTerms
from pymc_multimodal.proposals.lrds.control_training import ControlTrainer
from pymc_multimodal.proposals.lrds.noising import geometric
from pymc_multimodal.proposals.lrds.potential import Potential
from pymc_multimodal.proposals.torch_setup import seeded

CPU, STEPS = torch.device("cpu"), 6
LOSSES = ("stepwise", "log-variance", "kl")


@pytest.fixture
def made(make_reference, rng):
    """A reference, and a factory of trainers that have regressed on points."""
    reference = make_reference(geometric(3, 0.1, 3.0))
    maps = reference.control_maps()
    potential = Potential.random(2, maps.shape[1], 8, np.ones(4), rng)
    z = reference.sample(200, rng)

    def trainer(loss):
        network = ControlNetwork(hidden=8, regression_batch=32)
        new = ControlTrainer(Control(potential, maps), loss, network, STEPS, CPU)
        new.set_points(reference.features(0, z), np.sin(3.0 * z[:, 0]))
        new.regress(5)
        return new

    return reference, trainer


def paths(reference, rng, n=30):
    """Noised paths with the log ratios of some target."""
    path = reference.noising.forward(reference.sample(n, rng), rng)
    return PathTerms.of(reference, path), np.sin(3.0 * path[0][:, 0])


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_that_is_not_finite_changes_no_parameter(loss, made, rng):
    reference, trainer = made
    with seeded(rng, CPU):
        new = trainer(loss)
        controls = [new.control()]
        for step in range(STEPS):
            terms, log_ratio = paths(reference, rng)
            if step % 2:
                log_ratio[3] = np.nan
            new.train_on_paths(terms, log_ratio)
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
        for _ in range(STEPS):
            new.train_on_paths(*paths(reference, rng))
        assert looks == []
    assert np.isfinite(new.losses()).all()
    assert looks == ["tolist"]


def test_without_steps_there_are_no_losses(made, rng):
    with seeded(rng, CPU):
        assert made[1]("stepwise").losses().shape == (0,)
