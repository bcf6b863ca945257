"""Maximum likelihood for energy-based references, with torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from pymc_multimodal.proposals.lrds.potential_training import PotentialNet

if TYPE_CHECKING:
    from pymc_multimodal.proposals.lrds.energy import EnergyNetwork
    from pymc_multimodal.proposals.lrds.potential import Potential
    from pymc_multimodal.proposals.lrds.reference import MixtureReference

__all__ = ["train_energy"]

# Share of Langevin moves to be accepted.
ACCEPT = 0.6
# Weight of the mean square of the tilts, which only keeps them from drifting together.
DRIFT = 1e-3


class _Levels:
    """Log densities of all noise levels: the noised mixture and its tilt."""

    def __init__(self, mixture: MixtureReference, net: PotentialNet, device: torch.device) -> None:
        def tensor(a: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(a, dtype=torch.float32, device=device)

        self.net = net
        self.top = mixture.noising.steps
        self.square = tensor(mixture.noising.levels**2)
        self.log_weights, self.means = tensor(mixture.log_weights), tensor(mixture.means)
        self.turns, self.variances = tensor(mixture.turns), tensor(mixture.variances)

    def tilt(self, x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """Tilts at points of shape (n, d) of levels k, shape (n,)."""
        ones = torch.ones(len(x), 1, dtype=x.dtype, device=x.device)
        return self.net(x / (1.0 + self.square[k]).sqrt()[:, None], ones, k)

    def log_density(self, x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """Log densities up to constants, shape (n,)."""
        parts, _ = self._parts(x, k)
        return torch.logsumexp(parts, dim=0) + self._below_top(self.tilt(x, k), k)

    def with_gradient(self, x: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log densities and their gradients; those of the mixture in closed form, for speed."""
        with torch.no_grad():
            parts, pull = self._parts(x, k)
            share = torch.softmax(parts, dim=0)
            score = (share[:, :, None] * pull @ self.turns.mT).sum(dim=0)
        x = x.detach().requires_grad_(True)
        tilt = self._below_top(self.tilt(x, k), k)
        (gradient,) = torch.autograd.grad(tilt.sum(), x)
        return torch.logsumexp(parts, dim=0) + tilt.detach(), gradient - score

    def _parts(self, x: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log of each component's part, (J, n), and whitened distances along its axes."""
        turned = (x - self.means[:, None]) @ self.turns
        variance = self.variances[:, None] + self.square[k][:, None]
        pull = turned / variance
        parts = -0.5 * (turned * pull + variance.log()).sum(dim=2)
        return self.log_weights[:, None] + parts, pull

    def _below_top(self, tilt: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return torch.where(k < self.top, tilt, 0.0)


class _Chains:
    """Persistent Langevin chains at every level, which exchange places with their neighbours."""

    def __init__(self, levels: _Levels, x: torch.Tensor) -> None:
        # x has the shape (levels, chains, d).
        self.levels, self.x = levels, x
        self.k = torch.arange(len(x), device=x.device).repeat_interleave(x.shape[1])
        self.log_step = 0.5 * torch.log(levels.variances.min() + levels.square) - 0.7

    def move(self) -> None:
        """One Langevin move of every chain, Metropolis-corrected, its step size adapted."""
        shape = self.x.shape
        x, step = self.x.reshape(-1, shape[2]), self.log_step.exp()[self.k][:, None]
        value, grad = self.levels.with_gradient(x, self.k)
        noise = torch.randn_like(x)
        new = x + 0.5 * step**2 * grad + step * noise
        new_value, new_grad = self.levels.with_gradient(new, self.k)
        back = (x - new - 0.5 * step**2 * new_grad) / step
        gain = new_value - value + 0.5 * (noise.square() - back.square()).sum(dim=1)
        accepted = torch.rand_like(gain).log() < gain
        self.x = torch.where(accepted[:, None], new, x).reshape(shape)
        share = accepted.float().reshape(shape[0], -1).mean(dim=1)
        self.log_step += 0.05 * (share - ACCEPT)

    def exchange(self, first: int) -> None:
        """Offer every second pair of neighbouring levels, from `first` on, to swap places."""
        low = torch.arange(first, len(self.x) - 1, 2, device=self.x.device)
        if not len(low):
            return
        chains, d = self.x.shape[1:]
        below, above = self.x[low].reshape(-1, d), self.x[low + 1].reshape(-1, d)
        k = low.repeat_interleave(chains)
        with torch.no_grad():
            log = self.levels.log_density
            gain = log(above, k) + log(below, k + 1) - log(below, k) - log(above, k + 1)
        swap = (torch.rand_like(gain).log() < gain).reshape(len(low), chains, 1)
        below, above = self.x[low], self.x[low + 1]
        self.x[low] = torch.where(swap, above, below)
        self.x[low + 1] = torch.where(swap, below, above)


def train_energy(
    mixture: MixtureReference,
    z: np.ndarray,
    first: Potential,
    settings: EnergyNetwork,
    rng: np.random.Generator,
    device: torch.device,
) -> Potential:
    """Fit the tilts of all levels below the highest to draws z, shape (n, d)."""
    net = PotentialNet(first, device)
    levels = _Levels(mixture, net, device)
    data = torch.as_tensor(z, dtype=torch.float32, device=device)
    sd = levels.square.sqrt()[:, None, None]
    count = len(sd)

    def noised(n: int) -> torch.Tensor:
        rows = torch.randint(len(data), (count, n)).to(device)
        x = data[rows]
        return x + sd * torch.randn_like(x)

    # The tilts begin near zero, and the mixture can be drawn from: chains begin in equilibrium.
    starts = [mixture.sample(settings.chains, rng, level) for level in mixture.noising.levels]
    chains = _Chains(levels, torch.as_tensor(np.stack(starts), dtype=torch.float32, device=device))
    optimiser = torch.optim.Adam(net.parameters(), lr=settings.learning_rate, betas=(0.5, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    k = torch.arange(count, device=device)
    known, drawn = k.repeat_interleave(settings.batch), k.repeat_interleave(settings.chains)
    for step in range(settings.steps):
        top = torch.as_tensor(
            mixture.start(settings.chains, rng), dtype=torch.float32, device=device
        )
        chains.x[-1] = top
        for _ in range(settings.moves):
            chains.move()
        chains.exchange(step % 2)
        d = data.shape[1]
        positive = levels.tilt(noised(settings.batch).reshape(-1, d), known)
        negative = levels.tilt(chains.x.detach().reshape(-1, d), drawn)
        loss = negative.mean() - positive.mean()
        loss = loss + DRIFT * (negative.square().mean() + positive.square().mean())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return net.result()
