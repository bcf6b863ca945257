"""Score matching with torch: the network that is added to a mixture's score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from pymc_multimodal.proposals.score.score_function import LearnedScore, Perceptron
from pymc_multimodal.proposals.torch_mixture import TorchMixture
from pymc_multimodal.proposals.torch_setup import (
    FiniteLosses,
    one_thread,
    seeded_generator,
    step_work,
    trained_on,
)

if TYPE_CHECKING:
    from pymc_multimodal.proposals.score.settings import ScoreSettings

__all__ = ["TorchPerceptron", "train_score"]

# Checks on the held-out draws in the course of a training, and checks without a gain after which
# the training ends. Measured: examples/benchmarks/constants.py.
HELD_OUT_CHECKS, MAX_CHECKS_WITHOUT_GAIN = 25, 6
# Standard errors by which the first network that is kept has to gain. The best of many checks is
# likely to gain one by luck. Measured: the slow test of tests/proposals/score/test_generator.py on
# overlapping normals, where one standard error moved the shares by 0.05.
MIN_FIRST_GAIN_SE = 2.0
# Weight decay of AdamW, the default of torch, and the largest norm of a gradient. Conventional.
WEIGHT_DECAY, MAX_GRADIENT_NORM = 1e-2, 5.0
# Standard deviation of the first layer's output on whitened draws at the start. Conventional:
# tanh is neither linear nor saturated there.
FIRST_LAYER_SD = 1.5


def train_score(
    start: LearnedScore,
    z: np.ndarray,
    held_out: np.ndarray,
    settings: ScoreSettings,
    rng: np.random.Generator,
    gradient: np.ndarray | None = None,
) -> LearnedScore:
    r"""Learn a network g such that s = (score of the mixture) + g is the score of the draws.

    The implicit objective is ``E[tr grad s + |s|^2 / 2]`` (Hyvarinen 2005). The denoising one
    regresses s at ``z + sigma e`` on ``-e / sigma`` (Vincent 2011). The explicit one regresses s
    on given gradients. The network that is kept is the best one on held-out draws by the implicit
    objective, whatever it was trained by. None is kept that is not better than the mixture alone:
    on few draws the objective has no lower bound near the draws themselves.

    Parameters
    ----------
    start : LearnedScore
        The mixture, and a network to start from if there is one.
    z, held_out : arrays of shape (n, d) and (m, d)
    settings : ScoreSettings
    rng : numpy.random.Generator
        Draws the initial weights, and the seed of the batches, which are drawn on the device.
    gradient : array of shape (n, d), optional
        Gradients of the target's log density at z, for ``objective="exact"``.

    Returns
    -------
    LearnedScore

    Raises
    ------
    RuntimeError
        If torch refuses the device.
    """
    score, judge = start.mixture.score(z), _HeldOut(held_out, start.mixture.score(held_out))
    error = None if gradient is None else score - gradient

    def train(device: torch.device) -> Perceptron | None:
        network = TorchPerceptron(first, device)
        batches = _Batches(
            network.tensor(z),
            network.tensor(score),
            None if error is None else network.tensor(error),
            TorchMixture(start.mixture, device),
            seeded_generator(rng, device),
        )
        return _descend(network, batches, judge, settings)

    with one_thread(), torch.enable_grad():
        first = start.network or _initial_network(z, settings.width, rng)
        best = trained_on(
            settings.device,
            train,
            step_work(
                min(settings.batch_size, len(z)),
                (z.shape[1], settings.width, settings.width, z.shape[1]),
            ),
        )
    return LearnedScore(start.mixture, best)


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """Draws to judge by, with the mixture's score at each."""

    z: np.ndarray
    score: np.ndarray


@dataclass(frozen=True, eq=False)
class _Batches:
    """Draws to train on, on the device, and what draws batches of them there.

    `score` is the mixture's at each draw, `error` that minus the gradient of the target's log
    density; None where no gradients are given.
    """

    z: torch.Tensor
    score: torch.Tensor
    error: torch.Tensor | None
    mixture: TorchMixture
    generator: torch.Generator

    def rows(self, most: int) -> torch.Tensor:
        """Return the indices of a random batch of at most so many draws."""
        n = len(self.z)
        return torch.randint(
            n, (min(most, n),), generator=self.generator, device=self.generator.device
        )

    def normal(self, like: torch.Tensor) -> torch.Tensor:
        """Return standard normal numbers."""
        return torch.empty_like(like).normal_(generator=self.generator)

    def signs(self, like: torch.Tensor) -> torch.Tensor:
        """Return random signs, -1.0 or 1.0."""
        return torch.empty_like(like).random_(0, 2, generator=self.generator) * 2.0 - 1.0


@dataclass(frozen=True)
class _Best:
    """The best network on held-out draws so far, and the checks since then."""

    network: Perceptron | None = None
    objective_change: float = 0.0
    checks_without_gain: int = 0


def _initial_network(z: np.ndarray, width: int, rng: np.random.Generator) -> Perceptron:
    """Return random hidden layers whose units change sign at draws, and an output of zero."""
    d = z.shape[1]
    first = rng.standard_normal((width, d)) * FIRST_LAYER_SD / np.sqrt(d)
    at = z[rng.integers(len(z), size=width)]
    second = rng.standard_normal((width, width)) / np.sqrt(width)
    return Perceptron(
        (first, second, np.zeros((d, width))),
        (-np.einsum("hd,hd->h", first, at), np.zeros(width), np.zeros(d)),
    )


class TorchPerceptron:
    """The arrays of a `Perceptron` as torch parameters.

    Parameters
    ----------
    start : Perceptron
    device : torch.device or str
    """

    def __init__(self, start: Perceptron, device: torch.device | str) -> None:
        self.weights, self.biases = (
            [torch.tensor(a, dtype=torch.float32, device=device, requires_grad=True) for a in part]
            for part in (start.weights, start.biases)
        )
        self.device = device

    @property
    def parameters(self) -> list[torch.Tensor]:
        """All weights and biases."""
        return [*self.weights, *self.biases]

    def tensor(self, a: np.ndarray) -> torch.Tensor:
        """Return an array as a tensor on the network's device, in single precision."""
        return torch.as_tensor(a, dtype=torch.float32, device=self.device)

    def __call__(
        self, z: torch.Tensor, probe: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Output and its divergence, the latter by Hutchinson's estimate if there is a probe.

        Parameters
        ----------
        z : tensor of shape (n, d)
        probe : tensor of shape (n, d), optional
            Random signs (Hutchinson 1990).

        Returns
        -------
        output, divergence : tensors of shape (n, d) and (n,)
        """
        w1, w2, w3 = self.weights
        b1, b2, b3 = self.biases
        first = torch.tanh(z @ w1.T + b1)
        second = torch.tanh(first @ w2.T + b2)
        slope1, slope2 = 1 - first**2, 1 - second**2
        if probe is None:
            divergence = (slope2 * (slope1 @ (w2 * (w1 @ w3).T).T)).sum(dim=1)
        else:
            along_probe = ((probe @ w1.T * slope1) @ w2.T * slope2) @ w3.T
            divergence = (probe * along_probe).sum(dim=1)
        return second @ w3.T + b3, divergence

    def to_numpy(self) -> Perceptron:
        """Return the network as arrays, in double precision."""
        weights, biases = (
            tuple(p.detach().cpu().double().numpy() for p in part)
            for part in (self.weights, self.biases)
        )
        return Perceptron(weights, biases)


def _descend(
    network: TorchPerceptron, batches: _Batches, judge: _HeldOut, settings: ScoreSettings
) -> Perceptron | None:
    """Train by AdamW until held-out draws gain nothing; None if they never gained anything."""
    steps = settings.training_steps
    optimiser = torch.optim.AdamW(
        network.parameters, lr=settings.learning_rate, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=steps + 1
    )
    best, finite = _Best(), FiniteLosses()
    every = max(1, steps // HELD_OUT_CHECKS)
    for step in range(steps + 1):
        if step % every == 0 or step == steps:
            if not finite.so_far():
                break
            best = _better(best, network.to_numpy(), judge)
            if best.checks_without_gain > MAX_CHECKS_WITHOUT_GAIN:
                break
        loss = _batch_loss(network, batches, settings)
        finite.add(loss)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters, MAX_GRADIENT_NORM)
        optimiser.step()
        schedule.step()
    return best.network


def _better(best: _Best, trial: Perceptron, judge: _HeldOut) -> _Best:
    """Return the trial network if held-out draws prefer it, and the best so far otherwise."""
    change = _objective_change(trial, judge.z, judge.score)
    value = change.mean()
    if best.network is None:
        value += MIN_FIRST_GAIN_SE * change.std() / np.sqrt(len(change))
    if value < best.objective_change:
        return _Best(trial, change.mean())
    return _Best(best.network, best.objective_change, best.checks_without_gain + 1)


def _objective_change(network: Perceptron, z: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Change of the objective's terms by a network that is added to a score; shape (n,).

    The mean is the change of the squared score error, negative if the network helps.
    """
    output = network(z)
    return 2 * network.divergence(z) + np.sum(output * (output + 2 * score), axis=1)


def _batch_loss(
    network: TorchPerceptron, batches: _Batches, settings: ScoreSettings
) -> torch.Tensor:
    """Loss of a random batch by the objective of the settings."""
    rows = batches.rows(settings.batch_size)
    z = batches.z[rows]
    if settings.objective == "implicit":
        probe = batches.signs(z) if settings.trace == "hutchinson" else None
        output, divergence = network(z, probe)
        return (divergence + (output * (0.5 * output + batches.score[rows])).sum(dim=1)).mean()
    if settings.objective == "denoising":
        noise = batches.normal(z)
        z = z + settings.noise_sd * noise
        error = batches.mixture.score(z.double()).float() + noise / settings.noise_sd
    else:
        assert batches.error is not None
        error = batches.error[rows]
    output, _ = network(z)
    return 0.5 * (output + error).square().sum(dim=1).mean()
