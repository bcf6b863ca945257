"""Score matching with torch: the network that is added to a mixture's score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from pymc_multimodal.proposals.score.score_function import GaussianParts, LearnedScore, Perceptron
from pymc_multimodal.proposals.torch_setup import device_of, one_thread

if TYPE_CHECKING:
    from pymc_multimodal.proposals.score.score import ScoreLangevin

__all__ = ["train_score"]

# Looks at the held-out draws in the course of one training.
CHECKS = 25
# Checks without a gain after which training ends.
PATIENCE = 6


def train_score(
    parts: GaussianParts,
    z: np.ndarray,
    held_out: np.ndarray,
    config: ScoreLangevin,
    rng: np.random.Generator,
    gradient: np.ndarray | None = None,
    first: Perceptron | None = None,
) -> LearnedScore:
    r"""Learn a network g such that s = (score of the parts) + g is the score of the draws.

    The implicit objective is ``E[tr grad s + |s|^2 / 2]``; the denoising one regresses s at
    ``z + sigma e`` on ``-e / sigma``; the explicit one regresses s on given gradients. The
    network that is kept is the best one on held-out draws by the implicit objective, whatever
    it was trained by, and none is kept that is not better than the parts alone: on few draws
    the objective has no lower bound near the draws themselves.

    Parameters
    ----------
    parts : GaussianParts
    z, held_out : arrays of shape (n, d) and (m, d)
    config : ScoreLangevin
        Its `objective`, `trace`, `noise`, `width`, `steps`, `batch`, `learning_rate` and
        `device` are used.
    rng : numpy.random.Generator
        Draws initial weights and batches, so that torch needs no seed.
    gradient : array of shape (n, d), optional
        Gradients of the target's log density at z, for ``objective="exact"``.
    first : Perceptron, optional
        Network to start from.

    Raises
    ------
    RuntimeError
        If torch refuses the device.
    """
    with one_thread(), torch.enable_grad():
        start = first or _initial(z, config.width, rng)
        network = _Network(start, device_of(config.device))
        best = _descend(network, parts, z, held_out, config, rng, gradient)
    return LearnedScore(parts, best)


def _initial(z: np.ndarray, width: int, rng: np.random.Generator) -> Perceptron:
    """Random hidden layers whose units turn where draws are; an output of zero."""
    d = z.shape[1]
    first = rng.standard_normal((width, d)) * 1.5 / np.sqrt(d)
    at = z[rng.integers(len(z), size=width)]
    second = rng.standard_normal((width, width)) / np.sqrt(width)
    return Perceptron(
        (first, second, np.zeros((d, width))),
        (-np.einsum("hd,hd->h", first, at), np.zeros(width), np.zeros(d)),
    )


class _Network:
    """The perceptron's arrays as torch parameters."""

    def __init__(self, start: Perceptron, device: torch.device | str) -> None:
        self.weights, self.biases = (
            [torch.tensor(a, dtype=torch.float32, device=device, requires_grad=True) for a in part]
            for part in (start.weights, start.biases)
        )
        self.device = device

    def tensor(self, a: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(a, dtype=torch.float32, device=self.device)

    def __call__(self, z: torch.Tensor, probe: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        """Output and divergence; the latter by Hutchinson's estimate if there is a probe."""
        w1, w2, w3 = self.weights
        b1, b2, b3 = self.biases
        first = torch.tanh(z @ w1.T + b1)
        second = torch.tanh(first @ w2.T + b2)
        slope1, slope2 = 1 - first**2, 1 - second**2
        if probe is None:
            divergence = (slope2 * (slope1 @ (w2 * (w1 @ w3).T).T)).sum(dim=1)
        else:
            push = ((probe @ w1.T * slope1) @ w2.T * slope2) @ w3.T
            divergence = (probe * push).sum(dim=1)
        return second @ w3.T + b3, divergence

    def export(self) -> Perceptron:
        weights, biases = (
            tuple(p.detach().cpu().double().numpy() for p in part)
            for part in (self.weights, self.biases)
        )
        return Perceptron(weights, biases)


def _descend(
    network: _Network,
    parts: GaussianParts,
    z: np.ndarray,
    held_out: np.ndarray,
    config: ScoreLangevin,
    rng: np.random.Generator,
    gradient: np.ndarray | None,
) -> Perceptron | None:
    optimiser = torch.optim.AdamW(
        [*network.weights, *network.biases], lr=config.learning_rate, weight_decay=1e-2
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=config.steps + 1
    )
    base, base_held_out = parts.score(z), parts.score(held_out)
    best: Perceptron | None = None
    best_value, since = 0.0, 0
    every = max(1, config.steps // CHECKS)
    for step in range(config.steps + 1):
        if step % every == 0 or step == config.steps:
            trial = network.export()
            gain = _excess(trial, held_out, base_held_out)
            # The best of many looks is likely to gain a standard error by luck: the first network
            # that is kept has to gain two.
            value = gain.mean() + 2.0 * gain.std() / np.sqrt(len(gain)) * (best is None)
            if value < best_value:
                best, best_value, since = trial, gain.mean(), 0
            else:
                since += 1
            if since > PATIENCE:
                break
        rows = rng.integers(len(z), size=min(config.batch, len(z)))
        loss = _loss(network, parts, z[rows], base[rows], config, rng, gradient, rows)
        if not torch.isfinite(loss):
            break
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*network.weights, *network.biases], 5.0)
        optimiser.step()
        schedule.step()
    return best


def _excess(network: Perceptron, z: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Terms whose mean is the gain in squared score error by the network, negative if it helps."""
    out = network(z)
    return 2 * network.divergence(z) + np.sum(out * (out + 2 * base), axis=1)


def _loss(
    network: _Network,
    parts: GaussianParts,
    z: np.ndarray,
    base: np.ndarray,
    config: ScoreLangevin,
    rng: np.random.Generator,
    gradient: np.ndarray | None,
    rows: np.ndarray,
) -> torch.Tensor:
    if config.objective == "implicit":
        probe = None
        if config.trace == "hutchinson":
            probe = network.tensor(2.0 * rng.integers(0, 2, z.shape) - 1.0)
        out, divergence = network(network.tensor(z), probe)
        pull = network.tensor(base)
        return (divergence + (out * (0.5 * out + pull)).sum(dim=1)).mean()
    if config.objective == "denoising":
        noise = rng.standard_normal(z.shape)
        z = z + config.noise * noise
        miss = parts.score(z) + noise / config.noise
    else:
        assert gradient is not None
        miss = base - gradient[rows]
    out, _ = network(network.tensor(z), None)
    return 0.5 * (out + network.tensor(miss)).square().sum(dim=1).mean()
