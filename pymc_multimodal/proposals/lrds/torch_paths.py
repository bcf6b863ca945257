"""Paths of the chain with torch, on any device: their ends, and their terms for the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from pymc_multimodal.proposals.lrds.torch_reference import TorchPotential, TorchReference

if TYPE_CHECKING:
    from pymc_multimodal.proposals.lrds.control import Control
    from pymc_multimodal.proposals.lrds.reference import ReferenceChain

__all__ = ["PathTerms", "TorchPaths", "path_terms"]


class PathTerms(NamedTuple):
    """What the loss needs of n paths: everything but the control and the target.

    Attributes
    ----------
    whitened : tensor of shape (n, K + 1, d)
    responsibility : tensor of shape (n, K + 1, G)
        Features at every level.
    residuals : tensor of shape (n, K, J, d)
    log_constants : tensor of shape (n, K, J)
        Of the reverse kernel from each level to the one below.
    log_bayes_step : tensor of shape (n, K)
        Log density of each reverse step by Bayes' rule from the levels of the reference,
        ``log F(x_{k+1} | x_k) + log p_k(x_k) - log p_{k+1}(x_{k+1})``. An exact reference without
        control has reverse kernels of this density.
    log_reference : tensor of shape (n,)
        Log density of level 0 of the reference at the ends.
    """

    whitened: torch.Tensor
    responsibility: torch.Tensor
    residuals: torch.Tensor
    log_constants: torch.Tensor
    log_bayes_step: torch.Tensor
    log_reference: torch.Tensor


def path_terms(reference: TorchReference, path: torch.Tensor) -> PathTerms:
    """Collect the terms of paths of shape (K + 1, n, d), level 0 first, in double precision."""
    added, d = reference.noising.added, path.shape[2]
    below = first = reference.level(0, path[0])
    features, steps = [reference.features(first)], []
    for k in range(reference.noising.steps):
        above = reference.level(k + 1, path[k + 1])
        kernel = reference.kernel(above)
        square = (path[k + 1] - path[k]).square().sum(dim=1) / float(added[k])
        forward = -0.5 * (square + d * float(np.log(2 * np.pi * added[k])))
        bayes = forward + below.log_density - above.log_density
        steps.append((kernel.residuals(path[k]), kernel.log_constants, bayes))
        features.append(reference.features(above))
        below = above
    whitened, responsibility = (torch.stack(c, dim=1) for c in zip(*features, strict=True))
    residuals, log_constants, log_bayes_step = (
        torch.stack(c, dim=1) for c in zip(*steps, strict=True)
    )
    return PathTerms(
        whitened, responsibility, residuals, log_constants, log_bayes_step, first.log_density
    )


class TorchPaths:
    """A reference and its control on a device; see `draw_ends`, whose numbers these are.

    Random numbers are drawn on the CPU, in the order of `draw_ends`. They are a small part of the
    time: a draw takes d of them at each level, and of the order of d^2 operations.

    Parameters
    ----------
    reference : MixtureReference or SteppedReference
    control : Control or None
    device : torch.device
    """

    def __init__(
        self, reference: ReferenceChain, control: Control | None, device: torch.device
    ) -> None:
        self._start, self._reference = reference.start, TorchReference(reference, device)
        self._control, self._potential = control, None
        if control is not None:
            self._potential = TorchPotential(control.potential, device)
            self._maps = self._reference.tensor(control.maps)

    def ends(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw ends of n paths, shape (n, d)."""
        tensor = self._reference.tensor
        y = tensor(self._start(n, rng))
        for k in reversed(range(self._reference.noising.steps)):
            above = self._reference.level(k + 1, y)
            shift = self._shift(k, *self._reference.features(above))
            # In this order, as `ReverseKernel.sample` draws them.
            uniform, noise = tensor(rng.random((n, 1))), tensor(rng.standard_normal(y.shape))
            y = self._reference.kernel(above).draw(uniform, noise, shift)
        out: np.ndarray = y.cpu().numpy()
        return out

    def _shift(self, k: int, whitened: torch.Tensor, responsibility: torch.Tensor) -> torch.Tensor:
        """Shift from points of level k + 1 with given features, as `Control` has it, (n, d)."""
        if self._control is None or self._potential is None:
            return torch.zeros_like(whitened)
        _, gradient = self._potential(whitened, responsibility, k + 1)
        shift = torch.einsum("ng,gni->ni", responsibility, gradient @ self._maps[k])
        bound = self._control.max_shift
        return bound * torch.tanh(shift / bound)
