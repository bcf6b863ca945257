"""Ends of the controlled chain with torch, on any device, in double precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import silu

from pymc_multimodal.proposals.lrds.reference import MixtureReference
from pymc_multimodal.proposals.lrds.stepped import SteppedReference

if TYPE_CHECKING:
    from pymc_multimodal.proposals.lrds.control import Control
    from pymc_multimodal.proposals.lrds.potential import Potential
    from pymc_multimodal.proposals.lrds.reference import ReferenceChain

__all__ = ["TorchPaths"]


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
        self._reference, self._device = reference, device
        stepped = reference if isinstance(reference, SteppedReference) else None
        self._stepped, self._control = stepped, control
        mixture = reference if stepped is None else stepped.mixture
        assert isinstance(mixture, MixtureReference)
        self._mixture = mixture
        self._levels = reference.noising.levels
        self._log_weights = self._tensor(np.log(mixture.mixture.weights))[:, None]
        self._means = self._tensor(mixture.mixture.means)[:, None]
        self._variances, self._axes = (self._tensor(a) for a in mixture.mixture.spectrum)
        self._membership = self._tensor(mixture.membership)
        self._group_means = self._tensor(mixture.group_means)[:, None]
        self._maps = None if control is None else self._tensor(control.maps)
        self._potential = None if control is None else self._on_device(control.potential)
        self._tilt = None
        if stepped is not None and stepped.tilt is not None:
            self._tilt = self._on_device(stepped.tilt)

    def ends(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw ends of n paths, shape (n, d)."""
        y = self._tensor(self._reference.start(n, rng))
        for k in reversed(range(self._reference.noising.steps)):
            # In this order, as `ReverseKernel.sample` draws them.
            uniform = self._tensor(rng.random((n, 1)))
            noise = self._tensor(rng.standard_normal(y.shape))
            along, log_weights = self._along(k + 1, y)
            shift = torch.zeros_like(y)
            if self._control is not None:
                shift = self._shift(k, y, log_weights)
            if self._stepped is None:
                component = _choose(log_weights, uniform)
                y = self._mixture_step(k, along, component, noise, shift)
            else:
                score = self._score(k + 1, y, along, log_weights)
                y = y + self._stepped.gain[k] * score + self._stepped.sd[k] * (noise + shift)
        out: np.ndarray = y.cpu().numpy()
        return out

    def _along(self, k: int, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Coordinates along the axes (J, n, d), and log responsibilities (J, n), at level k."""
        along = (y - self._means) @ self._axes
        variances = self._noised(k)
        square = (along.square() / variances[:, None]).sum(dim=2)
        parts = self._log_weights - 0.5 * (square + variances.log().sum(dim=1, keepdim=True))
        return along, torch.log_softmax(parts, dim=0)

    def _noised(self, k: int) -> torch.Tensor:
        """Variances of the components along their axes at level k, shape (J, d)."""
        return self._variances + self._levels[k] ** 2

    def _mixture_step(
        self,
        k: int,
        along: torch.Tensor,
        component: torch.Tensor,
        noise: torch.Tensor,
        shift: torch.Tensor,
    ) -> torch.Tensor:
        """Go down to level k by the kernels of given components, noise along their axes."""
        gain = self._noised(k) / self._noised(k + 1)
        sd = (gain * self._reference.noising.added[k]).sqrt()
        y = torch.empty_like(noise)
        for j, axes in enumerate(self._axes):
            rows = (component == j).nonzero()[:, 0]
            step = gain[j] * along[j, rows] + sd[j] * (noise[rows] + shift[rows] @ axes)
            y[rows] = self._means[j] + step @ axes.T
        return y

    def _score(
        self, k: int, y: torch.Tensor, along: torch.Tensor, log_weights: torch.Tensor
    ) -> torch.Tensor:
        """Score of the tilted mixture at level k, shape (n, d)."""
        pulls = (along / self._noised(k)[:, None]) @ self._axes.mT
        score = -torch.einsum("jn,jni->ni", log_weights.exp(), pulls)
        if self._tilt is None or k == self._reference.noising.steps:
            return score
        scale = float(np.sqrt(1.0 + self._levels[k] ** 2))
        return score + self._gradient(self._tilt, k, y / scale, y.new_ones(len(y), 1)) / scale

    def _shift(self, k: int, y: torch.Tensor, log_weights: torch.Tensor) -> torch.Tensor:
        """Shift of the step from points y of level k + 1, shape (n, d)."""
        assert self._control is not None
        assert self._maps is not None
        assert self._potential is not None
        responsibility = log_weights.exp().T @ self._membership
        roots = self._tensor(self._mixture.group_roots(k + 1))
        local = (y - self._group_means) @ roots
        whitened = torch.einsum("ng,gni->ni", responsibility, local)
        gradient = self._gradient(self._potential, k + 1, whitened, responsibility)
        shift = torch.einsum("ng,gni->ni", responsibility, gradient @ self._maps[k])
        bound = self._control.max_shift
        return bound * torch.tanh(shift / bound)

    @staticmethod
    def _gradient(
        potential: dict[str, torch.Tensor],
        k: int,
        whitened: torch.Tensor,
        responsibility: torch.Tensor,
    ) -> torch.Tensor:
        """Gradient of a `Potential` in the whitened places, shape (n, d)."""
        first, second, gain = potential["first"], potential["second"], potential["first_gain"][k]
        groups, hidden, d = first.shape
        by_group = (whitened @ first.reshape(-1, d).T).reshape(-1, groups, hidden)
        by_group = gain * by_group + potential["first_bias"][k]
        u = torch.einsum("ngh,ng->nh", by_group, responsibility)
        v = silu(u) @ second.T + responsibility @ potential["group_bias"]
        v = v + potential["level_bias"][k]
        slope = potential["scale"][k] * potential["output"] * _silu_slope(v)
        slope = (slope @ second) * _silu_slope(u) * gain
        weighted = responsibility[:, :, None] * slope[:, None]
        return weighted.reshape(-1, groups * hidden) @ first.reshape(-1, d)

    def _on_device(self, potential: Potential) -> dict[str, torch.Tensor]:
        return {name: self._tensor(value) for name, value in vars(potential).items()}

    def _tensor(self, a: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(a, dtype=torch.float64, device=self._device)


def _choose(log_weights: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Choose a component for each point by log weights (J, n) and uniform numbers (n, 1)."""
    cumulative = log_weights.exp().T.cumsum(dim=1)
    return (cumulative < cumulative[:, -1:] * uniform).sum(dim=1)


def _silu_slope(u: torch.Tensor) -> torch.Tensor:
    """Return the derivative of ``u expit(u)``."""
    gate = torch.sigmoid(u)
    return gate * (1.0 + u * (1.0 - gate))
