"""Training of the potential of a control, with torch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import huber_loss

from pymc_multimodal.proposals.lrds.one_cycle import OneCycleAdamW
from pymc_multimodal.proposals.lrds.potential_training import PotentialNet
from pymc_multimodal.proposals.lrds.torch_paths import path_terms
from pymc_multimodal.proposals.lrds.torch_reference import TorchReference

if TYPE_CHECKING:
    from pymc_multimodal.proposals.lrds.control import Control
    from pymc_multimodal.proposals.lrds.evaluated import EvaluatedPoints
    from pymc_multimodal.proposals.lrds.reference import ReferenceChain
    from pymc_multimodal.proposals.lrds.settings import ControlNetwork

__all__ = ["ControlTrainer"]

# Nats below the median log ratio at which log ratios are cut off: e^-12 of the typical share of
# the target does not matter. Measured: examples/benchmarks/constants.py
MIN_LOG_RATIO = -12.0
# Weight decay of AdamW, in units of the learning rate. Without it, the network reproduces the log
# ratios of about 10,000 training draws in 20 dimensions and not those of other draws.
# Measured: examples/benchmarks/constants.py
WEIGHT_DECAY = 0.1
# Largest norm of the gradient of one step; conventional.
MAX_GRADIENT_NORM = 5.0


class ControlTrainer:
    r"""Improves the potential of a control, on log ratios of points first and on paths then.

    A path has the log ratio

    .. math:: \log W = v(x_0) - \sum_k g_k, \qquad v = \log \gamma - \log \pi_{ref},

    where :math:`g_k` is the log density of the controlled step from level k + 1 to k minus
    `PathTerms.log_bayes_step`. It is zero for an exact reference without control. Losses:

    "log-variance": the variance of log W over paths (the log-variance loss of arXiv 2410.19449).
    For any law of the paths, it is least where the control is right.

    "stepwise": the same for every step alone, between the potentials :math:`\psi` at its two ends,
    :math:`\psi_{k+1} + g_k - \psi_k` with :math:`\psi_0 = v`. The noise of one step is then not
    added to that of the others.

    "kl": divergence of the paths of the controlled chain from those of the target, by its
    score-function gradient, so that densities are enough.

    Parameters
    ----------
    reference : MixtureReference or SteppedReference
    control : Control
        What training starts from.
    loss : {"stepwise", "log-variance", "kl"}
    network : ControlNetwork
    steps : int
        Steps on paths, at most.
    device : torch.device
    """

    def __init__(
        self,
        reference: ReferenceChain,
        control: Control,
        loss: str,
        network: ControlNetwork,
        steps: int,
        device: torch.device,
    ) -> None:
        self._initial, self._loss_name, self._network = control, loss, network
        self._device, self._steps = device, steps
        self._reference = TorchReference(reference, device)
        self._step_sd = self._reference.tensor(np.sqrt(reference.noising.added))[:, None, None]
        self._net = PotentialNet(control.potential, device)
        self._maps = self._reference.tensor(control.maps).float()
        # Log ratios are known up to the evidence; the potentials are those minus this constant.
        self._offset: float | None = None
        self._points: list[torch.Tensor] = []
        self._starts: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._descent = self._new_descent(steps)
        self._losses: list[torch.Tensor] = []

    def set_points(self, posterior: EvaluatedPoints, own: EvaluatedPoints) -> None:
        """Set the points of level 0 whose log ratios are regressed on, and that paths start from.

        Parameters
        ----------
        posterior : EvaluatedPoints
            Draws of the target.
        own : EvaluatedPoints
            Ends of the chain, or none.
        """
        self._starts = [
            (self._reference.tensor(points.z), self._reference.tensor(points.logp))
            for points in (posterior, own)
            if len(points.z)
        ]
        z, logp = (torch.cat(column) for column in zip(*self._starts, strict=True))
        level = self._reference.level(0, z)
        log_ratio = logp - level.log_density
        if self._offset is None:
            self._offset = float(np.median(log_ratio.cpu().numpy()))
        columns = (*self._reference.features(level), self._centred(log_ratio))
        self._points = [column.float() for column in columns]

    def regress(self, steps: int) -> None:
        """Fit the potential of level 0 to the log ratios of the points.

        All levels share what is learned. No path is needed, so that this start costs little.
        """
        descent = self._new_descent(steps)
        for _ in range(steps):
            descent.step(self._regression_loss())
        # The momentum of this descent must not act on the paths.
        self._descent = self._new_descent(self._steps)

    def train_on_batch(self, n: int) -> None:
        """Make one step on n paths noised from random points, half of them ends of the chain.

        Parameters
        ----------
        n : int
        """
        most = n - n // 2 if len(self._starts) > 1 else n
        parts = []
        for (z, logp), size in zip(self._starts, (most, n - most), strict=False):
            rows = torch.randint(len(z), (size,), device=self._device)
            parts.append((z[rows], logp[rows]))
        z, logp = (torch.cat(column) for column in zip(*parts, strict=True))
        shape = (len(self._step_sd), *z.shape)
        noise = self._step_sd * torch.randn(shape, dtype=z.dtype, device=self._device)
        self._train(torch.cat([z[None], z + noise.cumsum(dim=0)]), logp)

    def train_on_paths(self, path: np.ndarray, logp: np.ndarray) -> None:
        """Make one step on given paths.

        Parameters
        ----------
        path : array of shape (K + 1, n, d)
        logp : array of shape (n,)
            Log density of the target at level 0 of the paths, per unit of volume in z.
        """
        self._train(self._reference.tensor(path), self._reference.tensor(logp))

    def _train(self, path: torch.Tensor, logp: torch.Tensor) -> None:
        """Make one step of AdamW on paths, unless its loss is not finite."""
        terms = path_terms(self._reference, path)
        value = self._centred(logp - terms.log_reference).float()
        whitened, responsibility, residuals, log_constants, log_bayes_step, _ = (
            term.float() for term in terms
        )
        n, levels, d = whitened.shape
        k = torch.arange(levels, device=self._device).repeat(n)
        whitened = whitened.reshape(-1, d).requires_grad_(True)
        potential = self._net(whitened, responsibility.reshape(n * levels, -1), k)
        (gradient,) = torch.autograd.grad(potential.sum(), whitened, create_graph=True)
        shift = self._shift(gradient.reshape(n, levels, d)[:, 1:], responsibility[:, 1:])
        gap = log_constants - 0.5 * (residuals - shift[:, :, None]).square().sum(dim=3)
        gain = torch.logsumexp(gap, dim=2) - 0.5 * d * np.log(2 * np.pi) - log_bayes_step
        loss = self._path_loss(potential.reshape(n, levels), gain, value)
        if self._loss_name == "stepwise":
            # The telescoping sum rests on level 0, whose regression costs little.
            loss = loss + self._regression_loss()
        self._losses.append(self._descent.step(loss))

    def losses(self) -> np.ndarray:
        """Loss of each step on paths so far; NaN where no step was made."""
        return np.array(torch.stack(self._losses).tolist() if self._losses else [])

    def control(self) -> Control:
        """Return the control with the present potential."""
        return replace(self._initial, potential=self._net.to_numpy())

    def _shift(self, gradient: torch.Tensor, responsibility: torch.Tensor) -> torch.Tensor:
        """Shifts as in `Control`, shape (n, K, d)."""
        # In this order: the other one makes a matrix for every point.
        by_group = torch.einsum("kgij,nkj->nkgi", self._maps, gradient)
        shift = torch.einsum("nkg,nkgi->nki", responsibility, by_group)
        bound = self._initial.max_shift
        return bound * torch.tanh(shift / bound)

    def _path_loss(
        self, potential: torch.Tensor, gain: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        """Loss of n paths from potentials (n, K + 1), gains (n, K) and log ratios (n,)."""
        log_w = value - gain.sum(dim=1)
        if self._loss_name == "kl":
            weight = log_w.detach()
            return -((weight - weight.mean()) * gain.sum(dim=1)).mean()
        if self._loss_name == "log-variance":
            # The variance is the mean square about the best constant. The median is the best
            # constant where large deviations count linearly.
            return self._huber(log_w - log_w.detach().median())
        below = torch.cat([value[:, None], potential[:, 1:-1]], dim=1)
        steps = potential[:, 1:] + gain - below
        return self._huber(torch.cat([potential[:, :1] - value[:, None], steps], dim=1))

    def _regression_loss(self) -> torch.Tensor:
        """Loss of the potential at random points of level 0."""
        size = self._network.regression_batch
        rows = torch.randint(len(self._points[0]), (size,), device=self._device)
        whitened, responsibility, log_ratio = (column[rows] for column in self._points)
        level = torch.zeros(size, dtype=torch.long, device=self._device)
        return self._huber(self._net(whitened, responsibility, level) - log_ratio)

    def _huber(self, gap: torch.Tensor) -> torch.Tensor:
        return huber_loss(gap, torch.zeros_like(gap), delta=self._network.huber_delta)

    def _centred(self, log_ratio: torch.Tensor) -> torch.Tensor:
        return torch.clamp(log_ratio - (self._offset or 0.0), min=MIN_LOG_RATIO)

    def _new_descent(self, steps: int) -> OneCycleAdamW:
        rate = self._network.learning_rate
        return OneCycleAdamW(self._net.parameters(), rate, steps, WEIGHT_DECAY, MAX_GRADIENT_NORM)
