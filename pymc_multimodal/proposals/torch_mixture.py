"""The score of a Gaussian mixture with torch, on any device, in double precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from pymc_multimodal.proposals.mixture import GaussianMixture

__all__ = ["TorchMixture"]

# Numbers in the largest array: 160 MB. Conventional; it bounds the memory and changes no result.
CHUNK_NUMBERS = 20_000_000


class TorchMixture:
    """A `GaussianMixture` on a device.

    Parameters
    ----------
    mixture : GaussianMixture
    device : torch.device
    """

    def __init__(self, mixture: GaussianMixture, device: torch.device) -> None:
        def tensor(a: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(a, dtype=torch.float64, device=device)

        self.means, self.precisions = tensor(mixture.means), tensor(mixture.precisions)
        # Log of weight times peak density, but for the constant that all components share.
        self.log_peaks = tensor(np.log(mixture.weights) - mixture.log_volumes)

    def score(self, x: torch.Tensor) -> torch.Tensor:
        """Gradient of the log density at points of shape (n, d) in double precision, (n, d)."""
        rows = max(1, CHUNK_NUMBERS // self.means.numel())
        return torch.cat([self._score(part) for part in x.split(rows)])

    def _score(self, x: torch.Tensor) -> torch.Tensor:
        step = self.means[:, None] - x
        pulls = step @ self.precisions
        share = torch.softmax(self.log_peaks[:, None] - 0.5 * (step * pulls).sum(dim=2), dim=0)
        return torch.einsum("jn,jni->ni", share, pulls)
