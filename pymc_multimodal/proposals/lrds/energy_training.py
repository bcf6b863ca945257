"""Maximum likelihood for energy-based references, with torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from pymc_multimodal.proposals.lrds.potential_training import PotentialNet

if TYPE_CHECKING:
    from pymc_multimodal.proposals.lrds.potential import Potential
    from pymc_multimodal.proposals.lrds.reference import MixtureReference
    from pymc_multimodal.proposals.lrds.settings import EnergyNetwork

__all__ = ["LangevinChains", "TiltedLevels", "train_energy"]

# Share of Langevin moves to be accepted: 0.574 is optimal in high dimension (Roberts and Rosenthal
# 1998, doi:10.1111/1467-9868.00123).
TARGET_ACCEPTANCE = 0.6
# Change of the log step size for each move, per unit by which the share of accepted moves is off.
# Measured: examples/benchmarks/constants.py
ADAPTATION_RATE = 0.05
# First step size, in units of the smallest standard deviation of a level: e^-0.7 = 0.5. It adapts.
# Conventional.
FIRST_LOG_STEP = -0.7
# Weight of the mean square of the tilts in the loss, by which they do not drift together: the
# likelihood does not depend on a constant of a tilt. As the energy regularisation of Du and
# Mordatch (2019), arXiv 1903.08689; value measured: examples/benchmarks/constants.py
SQUARE_WEIGHT = 1e-3
# Decay rates of the moments in Adam, shorter than usual because the negative draws move along.
# Measured: examples/benchmarks/constants.py
ADAM_BETAS = (0.5, 0.99)
# Largest norm of the gradient of one step. Source: the authors' code for arXiv 2410.19449.
MAX_GRADIENT_NORM = 1.0


class TiltedLevels:
    """Log densities of all noise levels: the noised mixture times its tilt.

    Parameters
    ----------
    mixture : MixtureReference
    net : PotentialNet
        The tilts, as functions of the place divided by ``(1 + c^2)^{1/2}``.
    device : torch.device
    """

    def __init__(self, mixture: MixtureReference, net: PotentialNet, device: torch.device) -> None:
        def tensor(a: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(a, dtype=torch.float32, device=device)

        self.net = net
        self.top = mixture.noising.steps
        self.noise_variance = tensor(mixture.noising.levels**2)
        self.log_weights = tensor(np.log(mixture.mixture.weights))
        self.means = tensor(mixture.mixture.means)
        self.variances, self.axes = (tensor(a) for a in mixture.mixture.spectrum)

    def start(self, n: int) -> torch.Tensor:
        """Draws of the highest level, whose tilt is zero, shape (n, d)."""
        shares = self.log_weights.exp().cumsum(dim=0)
        uniform = shares[-1] * torch.rand(n, dtype=shares.dtype, device=shares.device)
        component = torch.searchsorted(shares, uniform).clamp(max=len(shares) - 1)
        variances = self.variances[component] + self.noise_variance[self.top]
        noise = variances.sqrt() * torch.randn_like(variances)
        # Along the axes of all components: to pick the rows of one makes the CPU wait.
        rotated = noise @ self.axes.mT
        return self.means[component] + rotated[component, torch.arange(n, device=shares.device)]

    def tilt(self, x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """Tilts at points of shape (n, d) of levels k, shape (n,)."""
        ones = torch.ones(len(x), 1, dtype=x.dtype, device=x.device)
        return self.net(x / (1.0 + self.noise_variance[k]).sqrt()[:, None], ones, k)

    def log_density(self, x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """Log densities at points (n, d) of levels k, up to constants, shape (n,)."""
        parts, _ = self._parts(x, k)
        return torch.logsumexp(parts, dim=0) + self._below_top(self.tilt(x, k), k)

    def with_gradient(self, x: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log densities and their gradients; the mixture in closed form, which is quicker."""
        with torch.no_grad():
            parts, pull = self._parts(x, k)
            responsibility = torch.softmax(parts, dim=0)
            minus_score = (responsibility[:, :, None] * pull @ self.axes.mT).sum(dim=0)
        x = x.detach().requires_grad_(True)
        tilt = self._below_top(self.tilt(x, k), k)
        (gradient,) = torch.autograd.grad(tilt.sum(), x)
        return torch.logsumexp(parts, dim=0) + tilt.detach(), gradient - minus_score

    def _parts(self, x: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log of the part of each component (J, n), and minus its score along its axes."""
        along = (x - self.means[:, None]) @ self.axes
        variance = self.variances[:, None] + self.noise_variance[k][:, None]
        pull = along / variance
        parts = -0.5 * (along * pull + variance.log()).sum(dim=2)
        return self.log_weights[:, None] + parts, pull

    def _below_top(self, tilt: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return torch.where(k < self.top, tilt, 0.0)


class LangevinChains:
    """Persistent Langevin chains at every level, which exchange states with the next levels.

    Parameters
    ----------
    levels : TiltedLevels
    x : tensor of shape (K + 1, chains, d)
        First states.
    """

    def __init__(self, levels: TiltedLevels, x: torch.Tensor) -> None:
        self.levels, self.x = levels, x
        self._k = torch.arange(len(x), device=x.device).repeat_interleave(x.shape[1])
        smallest = levels.variances.min() + levels.noise_variance
        self._log_step = 0.5 * torch.log(smallest) + FIRST_LOG_STEP

    def move(self) -> None:
        """Move every chain once, Metropolis-corrected, and adapt the step sizes of the levels."""
        shape = self.x.shape
        x, step = self.x.reshape(-1, shape[2]), self._log_step.exp()[self._k][:, None]
        value, gradient = self.levels.with_gradient(x, self._k)
        noise = torch.randn_like(x)
        new = x + 0.5 * step**2 * gradient + step * noise
        new_value, new_gradient = self.levels.with_gradient(new, self._k)
        reverse_noise = (x - new - 0.5 * step**2 * new_gradient) / step
        log_ratio = new_value - value
        log_ratio = log_ratio + 0.5 * (noise.square() - reverse_noise.square()).sum(dim=1)
        accepted = torch.rand_like(log_ratio).log() < log_ratio
        self.x = torch.where(accepted[:, None], new, x).reshape(shape)
        share = accepted.float().reshape(shape[0], -1).mean(dim=1)
        self._log_step += ADAPTATION_RATE * (share - TARGET_ACCEPTANCE)

    def exchange(self, first: int) -> None:
        """Propose to swap the states of levels ``first, first + 1``, ``first + 2, first + 3``."""
        low = torch.arange(first, len(self.x) - 1, 2, device=self.x.device)
        if not len(low):
            return
        chains, d = self.x.shape[1:]
        below, above = self.x[low].reshape(-1, d), self.x[low + 1].reshape(-1, d)
        k = low.repeat_interleave(chains)
        with torch.no_grad():
            log = self.levels.log_density
            log_ratio = log(above, k) + log(below, k + 1) - log(below, k) - log(above, k + 1)
        swap = (torch.rand_like(log_ratio).log() < log_ratio).reshape(len(low), chains, 1)
        below, above = self.x[low], self.x[low + 1]
        self.x[low] = torch.where(swap, above, below)
        self.x[low + 1] = torch.where(swap, below, above)


def train_energy(
    mixture: MixtureReference,
    z: np.ndarray,
    initial: Potential,
    settings: EnergyNetwork,
    rng: np.random.Generator,
    device: torch.device,
) -> Potential:
    """Fit the tilts of all levels but the highest to draws.

    Parameters
    ----------
    mixture : MixtureReference
    z : array of shape (n, d)
        Draws in the coordinates of the mixture.
    initial : Potential
        Tilts that training starts from, close to zero.
    settings : EnergyNetwork
    rng : numpy.random.Generator
        For the first states of the chains; torch has been seeded by the caller.
    device : torch.device

    Returns
    -------
    Potential
    """

    def tensor(a: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(a, dtype=torch.float32, device=device)

    net = PotentialNet(initial, device)
    levels = TiltedLevels(mixture, net, device)
    data = tensor(z)
    # The tilts are close to zero at first, so that draws of the mixture are in equilibrium.
    starts = [
        mixture.at_level(k).sample(settings.chains, rng) for k in range(mixture.noising.steps + 1)
    ]
    chains = LangevinChains(levels, tensor(np.stack(starts)))
    optimiser = torch.optim.Adam(net.parameters(), lr=settings.learning_rate, betas=ADAM_BETAS)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    for step in range(settings.steps):
        chains.x[-1] = levels.start(settings.chains)
        for _ in range(settings.moves):
            chains.move()
        chains.exchange(step % 2)
        loss = _likelihood_loss(levels, _noised(data, levels, settings.batch), chains.x.detach())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), MAX_GRADIENT_NORM)
        optimiser.step()
        schedule.step()
    return net.to_numpy()


def _noised(data: torch.Tensor, levels: TiltedLevels, n: int) -> torch.Tensor:
    """Random draws noised to every level, shape (K + 1, n, d)."""
    sd = levels.noise_variance.sqrt()[:, None, None]
    rows = torch.randint(len(data), (len(sd), n), device=data.device)
    x = data[rows]
    return x + sd * torch.randn_like(x)


def _likelihood_loss(
    levels: TiltedLevels, positive: torch.Tensor, negative: torch.Tensor
) -> torch.Tensor:
    """Loss whose gradient is minus that of the mean log likelihood of all levels.

    Parameters
    ----------
    levels : TiltedLevels
    positive, negative : tensors of shape (K + 1, n, d) and (K + 1, m, d)
        Draws to fit, and draws of the present model.
    """
    tilts = []
    for x in (positive, negative):
        k = torch.arange(len(x), device=x.device).repeat_interleave(x.shape[1])
        tilts.append(levels.tilt(x.reshape(-1, x.shape[2]), k))
    up, down = tilts
    loss = down.mean() - up.mean()
    return loss + SQUARE_WEIGHT * (down.square().mean() + up.square().mean())
