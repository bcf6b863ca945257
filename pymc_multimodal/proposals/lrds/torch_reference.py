"""References with torch, on any device, in double precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import silu

from pymc_multimodal.proposals.lrds.reference import MixtureReference
from pymc_multimodal.proposals.lrds.stepped import SteppedReference

if TYPE_CHECKING:
    from pymc_multimodal.proposals.lrds.potential import Potential
    from pymc_multimodal.proposals.lrds.reference import ReferenceChain

__all__ = ["TorchKernel", "TorchLevel", "TorchPotential", "TorchReference"]


class TorchPotential:
    """A `Potential` on a device.

    Parameters
    ----------
    potential : Potential
    device : torch.device
    """

    def __init__(self, potential: Potential, device: torch.device) -> None:
        self._arrays = {
            name: torch.as_tensor(value, dtype=torch.float64, device=device)
            for name, value in vars(potential).items()
        }

    def __call__(
        self, whitened: torch.Tensor, responsibility: torch.Tensor, k: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Values (n,) and gradients (n, d) at noise level k, as `Potential` returns them."""
        a = self._arrays
        first, gain, scale = a["first"], a["first_gain"][k], a["scale"][k]
        groups, hidden, d = first.shape
        by_group = (whitened @ first.reshape(-1, d).T).reshape(-1, groups, hidden)
        by_group = gain * by_group + a["first_bias"][k]
        u = torch.einsum("ngh,ng->nh", by_group, responsibility)
        v = silu(u) @ a["second"].T + responsibility @ a["group_bias"] + a["level_bias"][k]
        value = scale * (silu(v) @ a["output"])
        slope = (scale * a["output"] * _silu_slope(v)) @ a["second"]
        slope = slope * _silu_slope(u) * gain
        weighted = responsibility[:, :, None] * slope[:, None]
        return value, weighted.reshape(-1, groups * hidden) @ first.reshape(-1, d)


@dataclass(frozen=True, eq=False)
class TorchLevel:
    """Points at a noise level of a reference.

    Attributes
    ----------
    k : int
    y : tensor of shape (n, d)
    along : tensor of shape (J, n, d)
        Coordinates of the points along the axes of the components.
    log_weights : tensor of shape (J, n)
        Log probabilities of the components given the points.
    log_density : tensor of shape (n,)
        `log_level` of the reference.
    tilt_gradient : tensor of shape (n, d) or None
        Gradient of the tilt; None without a tilt.
    """

    k: int
    y: torch.Tensor
    along: torch.Tensor
    log_weights: torch.Tensor
    log_density: torch.Tensor
    tilt_gradient: torch.Tensor | None


@dataclass(frozen=True, eq=False)
class TorchKernel:
    """A `ReverseKernel` on a device; its axes are None where they are those of the space.

    Attributes
    ----------
    log_weights : tensor of shape (J, n)
    means_along : tensor of shape (J, n, d)
    sd : tensor of shape (J, d)
    axes : tensor of shape (J, d, d) or None
    origins : tensor of shape (J, 1, d)
    """

    log_weights: torch.Tensor
    means_along: torch.Tensor
    sd: torch.Tensor
    axes: torch.Tensor | None
    origins: torch.Tensor

    def draw(self, uniform: torch.Tensor, noise: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """One draw for each point, shape (n, d).

        Parameters
        ----------
        uniform : tensor of shape (n, 1)
            Random numbers between 0 and 1, which choose the components.
        noise : tensor of shape (n, d)
            Standard normal numbers along the axes of the components.
        shift : tensor of shape (n, d)
        """
        if self.axes is None:
            return self.means_along[0] + self.sd[0] * (noise + shift)
        cumulative = self.log_weights.exp().T.cumsum(dim=1)
        component = (cumulative < cumulative[:, -1:] * uniform).sum(dim=1)
        x = torch.empty_like(noise)
        for j, axes in enumerate(self.axes):
            rows = (component == j).nonzero()[:, 0]
            step = self.sd[j] * (noise[rows] + shift[rows] @ axes)
            x[rows] = self.origins[j] + (self.means_along[j, rows] + step) @ axes.T
        return x

    def residuals(self, x: torch.Tensor) -> torch.Tensor:
        """Residuals of points of shape (n, d) as `ReverseKernel` has them, shape (n, J, d)."""
        if self.axes is None:
            return ((x - self.means_along) / self.sd[:, None]).swapaxes(0, 1)
        along = (x - self.origins) @ self.axes
        scaled = (along - self.means_along) / self.sd[:, None]
        return (scaled @ self.axes.mT).swapaxes(0, 1)

    @property
    def log_constants(self) -> torch.Tensor:
        """Log of weight over the determinant of the root of the covariance, shape (n, J)."""
        return self.log_weights.T - self.sd.log().sum(dim=1)


class TorchReference:
    """A reference on a device: its levels, features and kernels, without random numbers.

    Parameters
    ----------
    reference : MixtureReference or SteppedReference
    device : torch.device
    """

    def __init__(self, reference: ReferenceChain, device: torch.device) -> None:
        stepped = reference if isinstance(reference, SteppedReference) else None
        mixture = reference if stepped is None else stepped.mixture
        assert isinstance(mixture, MixtureReference)
        self.device, self.noising = device, reference.noising
        self._stepped, self._mixture = stepped, mixture
        self._tilt = None
        if stepped is not None and stepped.tilt is not None:
            self._tilt = TorchPotential(stepped.tilt, device)
        gaussian = mixture.mixture
        # Log of weight over the root of (2 pi)^d.
        log_peaks = np.log(gaussian.weights) - 0.5 * gaussian.dim * np.log(2 * np.pi)
        self._log_peaks = self.tensor(log_peaks)[:, None]
        self._means = self.tensor(gaussian.means)[:, None]
        self._variances, self._axes = (self.tensor(a) for a in gaussian.spectrum)
        self._membership = self.tensor(mixture.membership)
        self._group_means = self.tensor(mixture.group_means)[:, None]
        self._group_roots: dict[int, torch.Tensor] = {}

    def tensor(self, a: np.ndarray) -> torch.Tensor:
        """Return an array as a tensor on the device, in double precision."""
        return torch.as_tensor(a, dtype=torch.float64, device=self.device)

    def level(self, k: int, y: torch.Tensor) -> TorchLevel:
        """Return what the mixture and the tilt say of points of shape (n, d) at level k."""
        along, variances = (y - self._means) @ self._axes, self._noised(k)
        square = (along.square() / variances[:, None]).sum(dim=2)
        log_volume = variances.log().sum(dim=1, keepdim=True)
        parts = self._log_peaks - 0.5 * (square + log_volume)
        log_density = torch.logsumexp(parts, dim=0)
        log_weights, gradient = parts - log_density, None
        if self._tilt is not None and k < self.noising.steps:
            scale = float(np.sqrt(1.0 + self.noising.levels[k] ** 2))
            value, gradient = self._tilt(y / scale, y.new_ones(len(y), 1), k)
            log_density, gradient = log_density + value, gradient / scale
        return TorchLevel(k, y, along, log_weights, log_density, gradient)

    def features(self, at: TorchLevel) -> tuple[torch.Tensor, torch.Tensor]:
        """Whitened places (n, d) and responsibilities (n, G) of points, as in `Features`."""
        if at.k not in self._group_roots:
            self._group_roots[at.k] = self.tensor(self._mixture.group_roots(at.k))
        responsibility = at.log_weights.exp().T @ self._membership
        local = (at.y - self._group_means) @ self._group_roots[at.k]
        return torch.einsum("ng,gni->ni", responsibility, local), responsibility

    def kernel(self, above: TorchLevel) -> TorchKernel:
        """Reverse kernel from points of a level to the level below."""
        k, added = above.k - 1, self.noising.added
        if self._stepped is None:
            gain = self._noised(k) / self._noised(k + 1)
            sd = (gain * float(added[k])).sqrt()
            means = gain[:, None] * above.along
            return TorchKernel(above.log_weights, means, sd, self._axes, self._means)
        means = above.y + float(self._stepped.gain[k]) * self._score(above)
        one = means.new_ones(1, means.shape[1])
        return TorchKernel(
            log_weights=torch.zeros_like(above.log_weights[:1]),
            means_along=means[None],
            sd=float(self._stepped.sd[k]) * one,
            axes=None,
            origins=torch.zeros_like(one)[:, None],
        )

    def _score(self, at: TorchLevel) -> torch.Tensor:
        """Gradient of the log density of a level, shape (n, d)."""
        pulls = (at.along / self._noised(at.k)[:, None]) @ self._axes.mT
        score = -torch.einsum("jn,jni->ni", at.log_weights.exp(), pulls)
        return score if at.tilt_gradient is None else score + at.tilt_gradient

    def _noised(self, k: int) -> torch.Tensor:
        """Variances of the components along their axes at level k, shape (J, d)."""
        return self._variances + float(self.noising.levels[k] ** 2)


def _silu_slope(u: torch.Tensor) -> torch.Tensor:
    """Return the derivative of ``u expit(u)``."""
    gate = torch.sigmoid(u)
    return gate * (1.0 + u * (1.0 - gate))
