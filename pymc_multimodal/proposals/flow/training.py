"""Training of a masked autoregressive flow with torch; the only file of the room that needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import zuko
from torch import nn

from pymc_multimodal.proposals.flow.density import AutoregressiveLayer, FlowError
from pymc_multimodal.proposals.torch_setup import FiniteLosses, seeded, step_work, trained_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymc_multimodal.proposals.flow.settings import Network

__all__ = ["layers_of", "make_flow", "train"]

# Evaluations of the held-out draws in one training, and draws that each looks at: a mean over 2000
# draws has an error of 0.02 standard deviations. Measured: examples/benchmarks/constants.py
HELD_OUT_CHECKS, MAX_HELD_OUT = 12, 2000
# Nats of mean held-out log density below the baseline from which on training is given up half-way.
# Measured: examples/benchmarks/constants.py
GIVE_UP_MARGIN = 1.0
# Largest term of one draw in the score matching (in units of the mean squared gradient): far out in
# a tail, gradients of a density that is not yet fitted are huge and carry no information.
# Measured: examples/benchmarks/constants.py
MAX_SCORE_TERM = 1e4
# Least mean squared gradient that terms are divided by (the draws have unit spread); far below
# that of any coordinate that varies, and above the smallest single-precision number.
LEAST_MEAN_SQUARE = 1e-12
# Factor of the last layer's initial weights: training starts close to the Gaussian that the draws
# were whitened by. Measured: examples/benchmarks/constants.py
INITIAL_SCALE = 0.1
# Factor of the learning rate for training that goes on from an earlier one.
# Measured: examples/benchmarks/constants.py
WARM_START_RATE = 0.5
# Dimensions from which on the learning rate falls like their inverse root.
# Measured: examples/benchmarks/constants.py
FULL_RATE_DIMS = 20.0
# Largest norm of a gradient step's gradient; conventional.
MAX_GRADIENT_NORM = 5.0
# Held-out log densities are clipped at this many nats and the dimension below their median.
# Measured: examples/benchmarks/constants.py
CLIP_BELOW_MEDIAN = 20.0


def train(
    z: np.ndarray,
    score: np.ndarray | None,
    held_out: np.ndarray,
    settings: Network,
    rng: np.random.Generator,
    start: tuple[AutoregressiveLayer, ...] | None = None,
    baseline: float = -np.inf,
) -> tuple[AutoregressiveLayer, ...]:
    r"""Fit a masked autoregressive flow q to whitened draws z with scores s.

    .. math:: \min_q \; E[-\log q(z)] +
        \lambda E \sum_i (\partial_i \log q(z) - s_i)^2 / E[s_i^2]

    The likelihood finds the shape; the scores reduce the error from few draws. The division by the
    mean square gives all directions the same weight, however narrow they are.

    Parameters
    ----------
    z, score : arrays of shape (n, d)
    held_out : array of shape (m, d)
        Other draws; the weights that fit them best are kept.
    settings : Network
    rng : numpy.random.Generator
    start : tuple of AutoregressiveLayer, optional
        Weights to start from.
    baseline : float
        Mean log density of the held-out draws that is to be beaten. Training that is
        `GIVE_UP_MARGIN` below it half-way is given up.

    Returns
    -------
    tuple of AutoregressiveLayer

    Raises
    ------
    FlowError
        If the loss was not finite before anything was learned.
    """

    def train(device: torch.device) -> tuple[AutoregressiveLayer, ...]:
        with seeded(rng, device):
            flow = make_flow(z.shape[1], settings, start).to(device)
            data = _TrainingData.of(z, score, held_out, settings, device)
            rate = settings.learning_rate * (1.0 if start is None else WARM_START_RATE)
            rate *= min(1.0, np.sqrt(FULL_RATE_DIMS / z.shape[1]))
            best = _minimise(flow, data, settings, rate, baseline)
        if best is None:
            raise FlowError("the loss was not finite before anything was learned")
        flow.load_state_dict(best)
        return layers_of(flow)

    d = z.shape[1]
    transforms, hidden = _shape_of(d, settings, start)
    work = step_work(min(settings.batch, len(z)), (d, *hidden, 2 * d), transforms)
    return trained_on(settings.device, train, work)


def make_flow(
    d: int, settings: Network, start: tuple[AutoregressiveLayer, ...] | None
) -> zuko.flows.MAF:
    """Flow close to the identity, or with the weights of `start`."""
    n, hidden = _shape_of(d, settings, start)
    flow = zuko.flows.MAF(d, transforms=n, hidden_features=hidden, activation=nn.SiLU)
    with torch.no_grad():
        for i, linears in enumerate(_linears(flow)):
            if start is None:
                linears[-1].weight.mul_(INITIAL_SCALE)
                linears[-1].bias.zero_()
                continue
            for linear, w, b in zip(linears, start[i].weights, start[i].biases, strict=True):
                linear.weight.copy_(torch.as_tensor(w))
                linear.bias.copy_(torch.as_tensor(b))
    return flow


def _shape_of(
    d: int, settings: Network, start: tuple[AutoregressiveLayer, ...] | None
) -> tuple[int, tuple[int, ...]]:
    """Return the number of transforms, and the widths of their hidden layers."""
    if start is None:
        return settings.transforms, tuple(max(width, 2 * d) for width in settings.hidden)
    return len(start), tuple(len(b) for b in start[0].biases[:-1])


def layers_of(flow: zuko.flows.MAF) -> tuple[AutoregressiveLayer, ...]:
    """Layers of a flow as NumPy arrays, in double precision."""
    layers = []
    for transform, linears in zip(flow.transform.transforms, _linears(flow), strict=True):
        weights = [
            (torch.as_tensor(m.mask) * m.weight).detach().cpu().double().numpy() for m in linears
        ]
        biases = [m.bias.detach().cpu().double().numpy() for m in linears]
        layers.append(AutoregressiveLayer(transform.order.cpu().numpy(), weights, biases))
    return tuple(layers)


@dataclass(frozen=True, eq=False)
class _TrainingData:
    """Draws, scores and held-out draws as tensors.

    `score` is None where the score-matching term is not used; `inverse_size` is the inverse root
    mean square of each coordinate's score.
    """

    z: torch.Tensor
    score: torch.Tensor | None
    inverse_size: torch.Tensor | None
    held_out: torch.Tensor

    @classmethod
    def of(
        cls,
        z: np.ndarray,
        score: np.ndarray | None,
        held_out: np.ndarray,
        settings: Network,
        device: torch.device,
    ) -> _TrainingData:
        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(array, dtype=torch.float32, device=device)

        target = inverse_size = None
        if score is not None and settings.score_weight > 0 and np.isfinite(score).all():
            target = tensor(score)
            inverse_size = target.square().mean(dim=0).clamp(min=LEAST_MEAN_SQUARE).rsqrt()
        thinned = held_out[:: max(1, len(held_out) // MAX_HELD_OUT)]
        return cls(tensor(z), target, inverse_size, tensor(thinned))


def _minimise(
    flow: zuko.flows.MAF, data: _TrainingData, settings: Network, rate: float, baseline: float
) -> dict[str, torch.Tensor] | None:
    """Minimise the loss; return the best weights on held-out draws, None if none is finite."""
    optimiser = torch.optim.Adam(flow.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=settings.steps + 1)
    best, best_value, finite = None, -np.inf, FiniteLosses()
    every = max(1, settings.steps // HELD_OUT_CHECKS)
    for step in range(settings.steps + 1):
        if step % every == 0 or step == settings.steps:
            if not finite.so_far():
                break
            value = _mean_log_density(flow, data.held_out)
            if value > best_value:
                best_value = value
                best = {k: v.clone() for k, v in flow.state_dict().items()}
        given_up = 2 * step >= settings.steps and best_value < baseline - GIVE_UP_MARGIN
        if step == settings.steps or given_up:
            break
        loss = _loss(flow, data, settings)
        finite.add(loss)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), MAX_GRADIENT_NORM)
        optimiser.step()
        schedule.step()
    return best


def _loss(flow: zuko.flows.MAF, data: _TrainingData, settings: Network) -> torch.Tensor:
    """Loss on a random batch of the draws."""
    n = len(data.z)
    rows = torch.randint(n, (min(settings.batch, n),), device=data.z.device)
    z = data.z[rows]
    if data.score is None or data.inverse_size is None:
        return -flow().log_prob(z).mean()
    z = z.requires_grad_(True)
    log_q = flow().log_prob(z)
    (gradient,) = torch.autograd.grad(log_q.sum(), z, create_graph=True)
    error = ((gradient - data.score[rows]) * data.inverse_size).square().sum(dim=1)
    return -log_q.mean() + settings.score_weight * error.clamp(max=MAX_SCORE_TERM).mean()


def _mean_log_density(flow: zuko.flows.MAF, z: torch.Tensor) -> float:
    """Mean log density in which no single far draw decides: the defensive component covers it."""
    with torch.no_grad():
        log_q = flow().log_prob(z)
    floor = log_q.median() - CLIP_BELOW_MEDIAN - z.shape[1]
    return float(torch.where(torch.isnan(log_q), floor, log_q.clamp(min=floor)).mean())


def _linears(flow: zuko.flows.MAF) -> Iterator[list[nn.Linear]]:
    for transform in flow.transform.transforms:
        yield [m for m in transform.hyper if isinstance(m, nn.Linear)]
