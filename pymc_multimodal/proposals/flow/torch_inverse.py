"""Draws of a flow with torch, on any device, in double precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.proposals.flow.units import SortedUnits

__all__ = ["inverse_with_torch"]

# Rows that go through the layers together. Conventional: each coordinate launches a dozen kernels,
# whatever the rows, and 65,536 rows in 500 dimensions with two hidden layers of 1,000 units take
# 2 GB. The number changes no result.
CHUNK_ROWS = 65_536


def inverse_with_torch(
    layers: Sequence[SortedUnits], z: np.ndarray, device: torch.device
) -> np.ndarray:
    """Transport normal points z of shape (n, d) back through all layers, the last layer first.

    The numbers are those of `AutoregressiveLayer.inverse` but for rounding.
    """
    inverses = [_Inverse(layer, device) for layer in reversed(layers)]
    x = np.empty_like(z)
    for first in range(0, len(z), CHUNK_ROWS):
        rows = slice(first, first + CHUNK_ROWS)
        part = torch.as_tensor(z[rows], dtype=torch.float64, device=device)
        for inverse in inverses:
            part = inverse(part)
        x[rows] = part.cpu().numpy()
    return x


class _Inverse:
    """The inverse of a layer, one coordinate after the other; see `AutoregressiveLayer`."""

    def __init__(self, units: SortedUnits, device: torch.device) -> None:
        def tensor(a: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(a, dtype=torch.float64, device=device)

        self.hidden = [(tensor(w), tensor(b)) for w, b in units.hidden]
        self.known = units.known
        self.out, self.out_bias = tensor(units.out), units.out_bias.tolist()
        self.bounds = units.bounds.tolist()
        self.max_log_slope = units.max_log_slope
        self.by_position = torch.as_tensor(units.by_position, device=device)
        self.position = torch.as_tensor(np.argsort(units.by_position), device=device)

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        n, d = z.shape
        z = z.T[self.by_position]
        values = [z.new_empty(d, n)] + [z.new_empty(len(w), n) for w, _ in self.hidden]
        done = [0] * len(values)
        self._advance(values, done, -1)
        for p in range(d):
            shift, raw = self.out[p, :, : done[-1]] @ values[-1][: done[-1]]
            raw = raw + self.out_bias[p][1]
            log_slope = raw / (1.0 + raw.abs() / self.max_log_slope)
            low, high = (bound[p] for bound in self.bounds)
            log_slope = log_slope.clamp(low[1], high[1])
            shift = (shift + self.out_bias[p][0]).clamp(low[0], high[0])
            values[0][p] = (z[p] - shift) * torch.exp(-log_slope)
            done[0] = p + 1
            self._advance(values, done, p)
        return values[0][self.position].T

    def _advance(self, values: list[torch.Tensor], done: list[int], p: int) -> None:
        """Compute the hidden units that are known once the coordinate at position p is."""
        for i, (w, b) in enumerate(self.hidden):
            units = slice(done[i + 1], int(self.known[i + 1][p + 1]))
            if units.start < units.stop:
                h = w[units, : done[i]] @ values[i][: done[i]] + b[units]
                values[i + 1][units] = torch.nn.functional.silu(h)
                done[i + 1] = units.stop
