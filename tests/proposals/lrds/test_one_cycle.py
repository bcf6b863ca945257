"""Steps of AdamW that are made, or left out, on the device: those of torch, where they are made."""

from __future__ import annotations

import pytest
import torch

from pymc_multimodal.proposals.lrds.one_cycle import OneCycleAdamW

RATE, DECAY, NORM, STEPS = 0.05, 0.1, 0.7, 40


def start():
    """Parameters of two shapes, in double precision."""
    generator = torch.Generator().manual_seed(3)
    shapes = ((4, 3), (3,))
    return [
        torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True)
        for s in shapes
    ]  # fmt: skip


def loss_of(parameters, step):
    """A loss with steep and shallow gradients: some are cut at their norm, others are not."""
    matrix, vector = parameters
    steep = 5.0 if step % 3 else 0.1
    return steep * (torch.tanh(matrix @ vector) - 0.3).square().sum() + 0.1 * vector.square().sum()


def descent_of(parameters, steps=STEPS):
    return OneCycleAdamW(parameters, RATE, steps, DECAY, NORM)


@pytest.mark.parametrize("steps", [0, 1, 2, STEPS])
def test_steps_are_those_of_torch(steps):
    ours, theirs = start(), start()
    descent = descent_of(ours, steps)
    optimiser = torch.optim.AdamW(theirs, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps + 1)
    for step in range(steps):
        loss = loss_of(theirs, step)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs, NORM)
        optimiser.step()
        schedule.step()
        assert descent.step(loss_of(ours, step)).item() == pytest.approx(loss.item(), rel=1e-10)
    for a, b, first in zip(ours, theirs, start(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
        assert steps < STEPS or (a - first).abs().min() > 1e-3


@pytest.mark.parametrize(
    "spoil",
    [
        lambda loss, matrix: loss * torch.nan,
        lambda loss, matrix: loss + torch.inf,
        # The loss is finite here, and its gradient is not: the root of zero.
        lambda loss, matrix: loss + (0.0 * matrix).square().sum().sqrt(),
    ],
)
def test_a_step_that_is_not_finite_changes_nothing(spoil):
    plain, spoilt = start(), start()
    one, other = descent_of(plain), descent_of(spoilt)
    for step in range(STEPS):
        one.step(loss_of(plain, step))
        before = [p.detach().clone() for p in spoilt]
        assert torch.isnan(other.step(spoil(loss_of(spoilt, step), spoilt[0])))
        assert all(torch.equal(a, b) for a, b in zip(before, spoilt, strict=True))
        other.step(loss_of(spoilt, step))
    # Neither the moments nor the schedule know of the steps that were left out.
    assert all(torch.equal(a, b) for a, b in zip(plain, spoilt, strict=True))


def test_no_step_waits_for_the_device(looks):
    parameters = start()
    descent = descent_of(parameters)
    made = [descent.step(loss_of(parameters, step)) for step in range(STEPS)]
    assert looks == []
    assert torch.isfinite(torch.stack(made)).all()
    assert looks == ["__bool__"], "the fixture sees none of them"


def test_parameters_that_no_loss_depends_on_are_only_decayed():
    parameters = [*start(), torch.ones(2, dtype=torch.float64, requires_grad=True)]
    descent = descent_of(parameters)
    descent.step(loss_of(parameters[:2], 0))
    assert torch.equal(parameters[2][0], parameters[2][1])
    # The first rate of the schedule is a 25th of the largest.
    assert parameters[2][0].item() == pytest.approx(1.0 - RATE / 25.0 * DECAY, rel=1e-12)
