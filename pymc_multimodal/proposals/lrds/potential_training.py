"""Training of potentials with torch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn.functional import huber_loss, silu

from pymc_multimodal.proposals.lrds.potential import Potential

if TYPE_CHECKING:
    from pymc_multimodal.proposals.lrds.control import Control, PathTerms

__all__ = ["PotentialNet", "Trainer"]

# Nats below the middle from which on the target's share of a point does not matter.
NEGLIGIBLE = 12.0

# Decay of weights in units of the learning rate: log ratios of some 10,000 draws in 20
# dimensions are learned by heart without it.
DECAY = 0.1


class PotentialNet(nn.Module):
    """A `Potential` as a torch module."""

    first: nn.Parameter
    gain: nn.Parameter
    level: nn.Parameter
    second: nn.Parameter
    by_group: nn.Parameter
    by_level: nn.Parameter
    last: nn.Parameter
    size: nn.Parameter

    def __init__(self, potential: Potential, device: torch.device) -> None:
        super().__init__()
        for name, value in vars(potential).items():
            tensor = torch.as_tensor(value, dtype=torch.float32, device=device)
            self.register_parameter(name, nn.Parameter(tensor))

    def forward(self, h: torch.Tensor, share: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """Values, shape (n,), at points (n, d) of shares (n, G) and levels k, shape (n,)."""
        groups, hidden, d = self.first.shape
        blend = (h @ self.first.reshape(-1, d).T).reshape(-1, groups, hidden)
        blend = self.gain[k][:, None] * blend + self.level[k]
        u = (blend * share[..., None]).sum(dim=1)
        v = silu(u) @ self.second.T + share @ self.by_group + self.by_level[k]
        return self.size[k] * (silu(v) @ self.last)

    def result(self) -> Potential:
        """Return the network as it stands, in NumPy."""
        arrays = {n: p.detach().cpu().double().numpy() for n, p in self.named_parameters()}
        return Potential(**arrays)


class Trainer:
    r"""Improves the potential of a control, on log ratios first and on paths then.

    With :math:`\ell_k` the log density of the controlled step from k + 1 to k over that of the
    reference's, a path has the log ratio

    .. math:: \log W = v(x_0) - \sum_k (\ell_k - f_k), \qquad
              v = \log \gamma - \log \pi_{ref},

    where f is zero for a reference that goes back exactly. Losses:

    "log-variance": the variance of log W over paths (arXiv 2410.19449, the log-variance loss;
    for any law of the paths it is least where the control is right).

    "stepwise": the same for every step alone, between the potentials at its two ends,
    :math:`\psi_{k+1} + \ell_k - f_k - \psi_k` with :math:`\psi_0 = v`. What a step has to
    explain is then not buried in the noise of the others.

    "kl": divergence of the controlled chain's own paths from the target's, by its
    score-function gradient, so that densities are enough.

    Parameters
    ----------
    control : Control
    loss : str
    learning_rate : float
    steps : int
        Steps on paths.
    batch : int
        Points of level 0 in one step.
    tame : float
        Nats beyond which deviations count linearly (Huber): rare huge ratios otherwise rule.
    device : torch.device
    """

    def __init__(
        self,
        control: Control,
        loss: str,
        learning_rate: float,
        steps: int,
        batch: int,
        tame: float,
        device: torch.device,
    ) -> None:
        self.control, self.loss, self.tame, self.device = control, loss, tame, device
        self.net = PotentialNet(control.potential, device)
        # Log ratios are known up to the evidence: the potentials are those of what is left.
        self.offset = 0.0
        self.batch = batch
        self._known: list[torch.Tensor] | None = None
        self.maps = self._tensor(control.maps)
        self.rate, self._optimiser = learning_rate, self._adam()
        self._schedule = self._cycle(steps)

    def _tensor(self, a: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(a, dtype=torch.float32, device=self.device)

    def _centred(self, value: np.ndarray) -> np.ndarray:
        return np.maximum(value - self.offset, -NEGLIGIBLE)

    def _adam(self) -> torch.optim.AdamW:
        return torch.optim.AdamW(self.net.parameters(), weight_decay=DECAY)

    def _cycle(self, steps: int) -> torch.optim.lr_scheduler.OneCycleLR:
        return torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, self.rate, total_steps=steps + 1
        )

    def know(self, h: np.ndarray, share: np.ndarray, value: np.ndarray) -> None:
        """Take features of points at level 0 and their log ratios, shape (n,)."""
        if self._known is None:
            self.offset = float(np.median(value))
        self._known = [self._tensor(a) for a in (h, share, self._centred(value))]

    def regress(self, steps: int) -> None:
        """Fit the potential of level 0 to the log ratios known.

        All levels share what is learned: this is a cheap start for the paths.
        """
        schedule = self._cycle(steps)
        for _ in range(steps):
            self._descend(self._misfit(), schedule)
        # What the paths find is not bound by the momentum of this descent.
        self._optimiser = self._adam()
        self._schedule = self._cycle(self._schedule.total_steps - 1)

    def _misfit(self) -> torch.Tensor:
        """Loss of the potential at points of level 0."""
        assert self._known is not None
        rows = torch.randint(len(self._known[0]), (self.batch,)).to(self.device)
        h, share, value = (column[rows] for column in self._known)
        psi = self.net(h, share, torch.zeros(self.batch, dtype=torch.long, device=self.device))
        return self._huber(psi - value)

    def step(self, terms: PathTerms, value: np.ndarray) -> float:
        """One step of Adam on paths whose ends have log ratios `value`; returns the loss."""
        h, share, residuals, constants, fixed = (self._tensor(a) for a in vars(terms).values())
        n, levels, d = h.shape
        k = torch.arange(levels, device=self.device).repeat(n)
        h = h.reshape(-1, d).requires_grad_(True)
        psi = self.net(h, share.reshape(n * levels, -1), k)
        (slope,) = torch.autograd.grad(psi.sum(), h, create_graph=True)
        slope = slope.reshape(n, levels, d)[:, 1:]
        # In this order: the other one makes a matrix for every point.
        slope = torch.einsum("kgij,nkj->nkgi", self.maps, slope)
        slope = torch.einsum("nkg,nkgi->nki", share[:, 1:], slope)
        limit = self.control.limit
        shift = limit * torch.tanh(slope / limit)
        gap = constants - 0.5 * (residuals - shift[:, :, None]).square().sum(dim=3)
        gain = torch.logsumexp(gap, dim=2) - 0.5 * d * np.log(2 * np.pi) - fixed
        loss = self._loss(psi.reshape(n, levels), gain, self._tensor(self._centred(value)))
        if self.loss == "stepwise":
            # All of a path rests on level 0, which costs little to train on.
            loss = loss + self._misfit()
        return self._descend(loss, self._schedule)

    def result(self) -> Control:
        """Return the control as it stands."""
        return replace(self.control, potential=self.net.result())

    def _loss(self, psi: torch.Tensor, gain: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        log_w = v - gain.sum(dim=1)
        if self.loss == "kl":
            known = log_w.detach()
            return -((known - known.mean()) * gain.sum(dim=1)).mean()
        if self.loss == "log-variance":
            # The variance is the mean square about the best constant; the median is the best
            # one where large deviations count linearly.
            return self._huber(log_w - log_w.detach().median())
        below = torch.cat([v[:, None], psi[:, 1:-1]], dim=1)
        steps = psi[:, 1:] + gain - below
        return self._huber(torch.cat([psi[:, :1] - v[:, None], steps], dim=1))

    def _huber(self, gap: torch.Tensor) -> torch.Tensor:
        return huber_loss(gap, torch.zeros_like(gap), delta=self.tame)

    def _descend(self, loss: torch.Tensor, schedule: torch.optim.lr_scheduler.OneCycleLR) -> float:
        if not torch.isfinite(loss):
            return float("nan")
        self._optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self._optimiser.step()
        schedule.step()
        return float(loss.detach())
