"""Potentials as torch modules, for training."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import silu

from pymc_multimodal.proposals.lrds.potential import Potential

__all__ = ["PotentialNet"]


class PotentialNet(nn.Module):
    """A `Potential` as a torch module, in single precision.

    Parameters
    ----------
    potential : Potential
    device : torch.device
    """

    first: nn.Parameter
    first_gain: nn.Parameter
    first_bias: nn.Parameter
    second: nn.Parameter
    group_bias: nn.Parameter
    level_bias: nn.Parameter
    output: nn.Parameter
    scale: nn.Parameter

    def __init__(self, potential: Potential, device: torch.device) -> None:
        super().__init__()
        for name, value in vars(potential).items():
            tensor = torch.as_tensor(value, dtype=torch.float32, device=device)
            self.register_parameter(name, nn.Parameter(tensor))

    def forward(
        self, whitened: torch.Tensor, responsibility: torch.Tensor, k: torch.Tensor
    ) -> torch.Tensor:
        """Values at points of several noise levels.

        Parameters
        ----------
        whitened : tensor of shape (n, d)
        responsibility : tensor of shape (n, G)
        k : integer tensor of shape (n,)
            Noise level of each point.

        Returns
        -------
        tensor of shape (n,)
        """
        groups, hidden, d = self.first.shape
        by_group = (whitened @ self.first.reshape(-1, d).T).reshape(-1, groups, hidden)
        by_group = self.first_gain[k][:, None] * by_group + self.first_bias[k]
        u = (by_group * responsibility[..., None]).sum(dim=1)
        v = silu(u) @ self.second.T + responsibility @ self.group_bias + self.level_bias[k]
        return self.scale[k] * (silu(v) @ self.output)

    def to_numpy(self) -> Potential:
        """Return the potential with the present parameters, in double precision."""
        arrays = {n: p.detach().cpu().double().numpy() for n, p in self.named_parameters()}
        return Potential(**arrays)
