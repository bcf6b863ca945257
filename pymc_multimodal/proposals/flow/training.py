"""Training of the network rung with torch; nothing else imports torch for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import zuko
from torch import nn

from pymc_multimodal.proposals.flow.density import AutoregressiveLayer, FlowError, Network
from pymc_multimodal.proposals.torch_setup import device_of, seeded

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["train"]

# Evaluations of the held-out draws in the course of one training.
CHECKS = 12
# Held-out draws looked at by each.
MAX_HELD_OUT = 2000
# Nats below the rung that is to be beaten from which on the second half is not worth its time.
HOPELESS = 1.0
# Largest share of one draw in the score-matching term: far out in a tail, gradients of a
# density that is not yet fitted are huge, and say nothing.
MAX_SCORE = 1e4


def train(
    z: np.ndarray,
    score: np.ndarray | None,
    held_out: np.ndarray,
    settings: Network,
    steps: int,
    rng: np.random.Generator,
    first: tuple[AutoregressiveLayer, ...] | None,
    bar: float = -np.inf,
) -> tuple[AutoregressiveLayer, ...]:
    r"""Fit a masked autoregressive flow q to whitened draws z with scores s.

    .. math:: \min_q \; E[-\log q(z)] +
        \lambda E \sum_i (\partial_i \log q(z) - s_i)^2 / E[s_i^2]

    The likelihood finds the shape, the scores make few draws go a long way. Dividing by the
    mean square keeps thin directions from drowning the rest.

    Parameters
    ----------
    z, score : arrays of shape (n, d)
    held_out : array of shape (m, d)
        Other draws; the weights that fit them best are kept.
    settings : Network
    steps : int
    rng : numpy.random.Generator
    first : tuple of AutoregressiveLayer, optional
        Weights to start from.
    bar : float
        Mean log density of the held-out draws that is to be beaten: training that is far below
        it half-way is given up.

    Raises
    ------
    FlowError
        If the loss was not finite before anything was learned.
    """
    device = device_of(settings.device)
    with seeded(rng, device):
        flow = _make(z.shape[1], settings, first).to(device)
        best = _descend(flow, z, score, held_out, settings, steps, first is not None, bar)
    if best is None:
        raise FlowError("the loss was not finite before anything was learned")
    flow.load_state_dict(best)
    return tuple(_layers(flow))


def _make(
    d: int, settings: Network, first: tuple[AutoregressiveLayer, ...] | None
) -> zuko.flows.MAF:
    if first is None:
        hidden = tuple(max(width, 2 * d) for width in settings.hidden)
        n = settings.transforms
    else:
        hidden = tuple(len(b) for b in first[0].biases[:-1])
        n = len(first)
    flow = zuko.flows.MAF(d, transforms=n, hidden_features=hidden, activation=nn.SiLU)
    with torch.no_grad():
        for i, linears in enumerate(_linears(flow)):
            if first is None:
                # Begin at the Gaussian that the draws were whitened by.
                linears[-1].weight.mul_(0.1)
                linears[-1].bias.zero_()
                continue
            for linear, w, b in zip(linears, first[i].weights, first[i].biases, strict=True):
                linear.weight.copy_(torch.as_tensor(w))
                linear.bias.copy_(torch.as_tensor(b))
    return flow


def _descend(
    flow: zuko.flows.MAF,
    z: np.ndarray,
    score: np.ndarray | None,
    held_out: np.ndarray,
    settings: Network,
    steps: int,
    again: bool,
    bar: float,
) -> dict[str, torch.Tensor] | None:
    """Run the descent; return the state that was best on held-out draws, if any was finite."""
    device = next(flow.parameters()).device
    data, other = (
        torch.as_tensor(a, dtype=torch.float32, device=device)
        for a in (z, held_out[:: max(1, len(held_out) // MAX_HELD_OUT)])
    )
    target = unit = None
    if score is not None and settings.score_weight > 0 and np.isfinite(score).all():
        target = torch.as_tensor(score, dtype=torch.float32, device=device)
        unit = target.square().mean(dim=0).clamp(min=1e-12).rsqrt()
    rate = settings.learning_rate * (0.5 if again else 1.0)
    rate *= min(1.0, np.sqrt(20.0 / z.shape[1]))
    optimiser = torch.optim.Adam(flow.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps + 1)
    best, best_value = None, -np.inf
    every = max(1, steps // CHECKS)
    for step in range(steps + 1):
        if step % every == 0 or step == steps:
            value = _mean_log_density(flow, other)
            if value > best_value:
                best_value = value
                best = {k: v.clone() for k, v in flow.state_dict().items()}
        if step == steps or (2 * step >= steps and best_value < bar - HOPELESS):
            break
        rows = torch.randint(len(data), (min(settings.batch, len(data)),)).to(device)
        loss = _loss(flow, data[rows], target[rows] if target is not None else None, unit, settings)
        if not torch.isfinite(loss):
            break
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
        optimiser.step()
        schedule.step()
    return best


def _loss(
    flow: zuko.flows.MAF,
    z: torch.Tensor,
    score: torch.Tensor | None,
    unit: torch.Tensor | None,
    settings: Network,
) -> torch.Tensor:
    if score is None or unit is None:
        return -flow().log_prob(z).mean()
    z = z.requires_grad_(True)
    log_q = flow().log_prob(z)
    (gradient,) = torch.autograd.grad(log_q.sum(), z, create_graph=True)
    miss = ((gradient - score) * unit).square().sum(dim=1).clamp(max=MAX_SCORE)
    return -log_q.mean() + settings.score_weight * miss.mean()


def _mean_log_density(flow: zuko.flows.MAF, z: torch.Tensor) -> float:
    with torch.no_grad():
        log_q = flow().log_prob(z)
    # One far draw shall not decide: what the flow forgets is what the defence is for.
    floor = log_q.median() - 20.0 - z.shape[1]
    return float(torch.where(torch.isnan(log_q), floor, log_q.clamp(min=floor)).mean())


def _linears(flow: zuko.flows.MAF) -> Iterator[list[nn.Linear]]:
    for transform in flow.transform.transforms:
        yield [m for m in transform.hyper if isinstance(m, nn.Linear)]


def _layers(flow: zuko.flows.MAF) -> Iterator[AutoregressiveLayer]:
    for transform, linears in zip(flow.transform.transforms, _linears(flow), strict=True):
        weights = [
            (torch.as_tensor(m.mask) * m.weight).detach().cpu().double().numpy() for m in linears
        ]
        biases = [m.bias.detach().cpu().double().numpy() for m in linears]
        yield AutoregressiveLayer(transform.order.cpu().numpy(), weights, biases)
