"""Langevin dynamics of a learned score with torch, on any device, in double precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from pymc_multimodal.proposals.torch_mixture import TorchMixture

if TYPE_CHECKING:
    from pymc_multimodal.proposals.score.score_function import LearnedScore

__all__ = ["TorchScore", "langevin_with_torch"]


class TorchScore:
    """A `LearnedScore` on a device.

    Parameters
    ----------
    learned : LearnedScore
    device : torch.device
    """

    def __init__(self, learned: LearnedScore, device: torch.device) -> None:
        self.device = device
        self.mixture = TorchMixture(learned.mixture, device)
        self.layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        if learned.network is not None:
            parts = zip(learned.network.weights, learned.network.biases, strict=True)
            self.layers = [(self.tensor(w), self.tensor(b)) for w, b in parts]

    def tensor(self, a: np.ndarray) -> torch.Tensor:
        """Return an array as a tensor on the device, in double precision."""
        return torch.as_tensor(a, dtype=torch.float64, device=self.device)

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        """Score at each row, shape (n, d)."""
        score = self.mixture.score(z)
        if not self.layers:
            return score
        h = z
        for w, b in self.layers[:-1]:
            h = torch.tanh(h @ w.T + b)
        w, b = self.layers[-1]
        return score + h @ w.T + b


def langevin_with_torch(
    score: TorchScore,
    z: np.ndarray,
    factor: np.ndarray,
    step: float,
    steps: int,
    rng: np.random.Generator,
    *,
    averaged: bool,
) -> np.ndarray:
    """Run `run_langevin` for some steps on the device of a score; the noise is drawn on the CPU.

    Parameters
    ----------
    score : TorchScore
    z : array of shape (n, d)
    factor : array of shape (d, d)
    step : float
    steps : int
    rng : numpy.random.Generator
    averaged : bool

    Returns
    -------
    array of shape (n, d)
        Not finite where the run diverged.
    """
    at, root = score.tensor(z), score.tensor(factor)
    previous = score.tensor(rng.standard_normal(z.shape))
    for _ in range(steps):
        new = score.tensor(rng.standard_normal(z.shape))
        noise = 0.5 * (previous + new) if averaged else new
        drift = score(at) @ root
        at = at + (step * drift + np.sqrt(2 * step) * noise) @ root.T
        previous = new
    out: np.ndarray = at.cpu().numpy()
    return out
