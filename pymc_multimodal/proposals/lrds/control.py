"""The control of a diffusion sampler: a learned shift of its reverse kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.proposals.lrds.reference import log_kernel

if TYPE_CHECKING:
    from pymc_multimodal.proposals.lrds.potential import Potential
    from pymc_multimodal.proposals.lrds.reference import Reference

__all__ = ["Control", "PathTerms", "draw_paths", "log_path_density"]


@dataclass(frozen=True)
class Control:
    r"""Shifts of the reverse kernels, in units of the kernels' own spread.

    The best control is a gradient: the law of the target's noised version over that of the
    reference, :math:`h_k(y) = E[\gamma / \pi_{ref} (X_0) \mid X_k = y]`, turns the reference's
    chain into the target's (Doob). So what is learned is a potential
    :math:`\psi_k \approx \log h_k`, and the shift is its gradient. At level 0 the potential is
    the log ratio itself, which every evaluated draw gives without noise.

    Attributes
    ----------
    potential : Potential
    maps : array of shape (K, G, d, d)
        From a gradient in the features at level k + 1 to units of the kernel down to k, for
        each group of components; blended by the groups' shares.
    limit : float
        Bound on each component of a shift: a Gaussian that is shifted without bound has a
        ratio without bound.
    """

    potential: Potential
    maps: np.ndarray
    limit: float = 4.0

    def __call__(self, k: int, h: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Shifts from level k + 1 down to k, shape (n, d)."""
        gradient = self.potential(h, share, k + 1)[1]
        shift = np.einsum("ng,gni->ni", share, gradient @ self.maps[k])
        return self.limit * np.tanh(shift / self.limit)


@dataclass(frozen=True)
class PathTerms:
    """What the loss needs of n paths: everything but the control.

    Attributes
    ----------
    h : array of shape (n, K + 1, d)
    share : array of shape (n, K + 1, G)
        Features at every level.
    residuals : array of shape (n, K, J, d)
    constants : array of shape (n, K, J)
        Of the reverse kernel from each level to the one below.
    fixed : array of shape (n, K)
        What a step adds to the log ratio of the path without control: the log density of the
        forward step over that of the reverse one, with the reference's levels on both sides.
    """

    h: np.ndarray
    share: np.ndarray
    residuals: np.ndarray
    constants: np.ndarray
    fixed: np.ndarray

    @classmethod
    def of(cls, reference: Reference, path: np.ndarray) -> PathTerms:
        """Collect the terms of paths, shape (K + 1, n, d)."""
        noising, d = reference.noising, path.shape[2]
        h, share = reference.features(0, path[0])
        columns: list[list[np.ndarray]] = [[h], [share], [], [], []]
        below = reference.log_level(0, path[0])
        for k in range(noising.steps):
            kernel, above = (
                reference.kernel(k, path[k + 1]),
                reference.log_level(k + 1, path[k + 1]),
            )
            square = np.sum((path[k + 1] - path[k]) ** 2, axis=1) / noising.added[k]
            forward = -0.5 * (square + d * np.log(2 * np.pi * noising.added[k]))
            fixed = forward + below - above
            found = (kernel.h, kernel.share, kernel.residuals(path[k]), kernel.constants, fixed)
            for column, part in zip(columns, found, strict=True):
                column.append(part)
            below = above
        return cls(*(np.stack(column, axis=1) for column in columns))


def draw_paths(
    reference: Reference, control: Control | None, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate the controlled chain from its start down to level 0.

    Returns
    -------
    path : array of shape (K + 1, n, d)
    log_q : array of shape (n,)
        Log density of each path.
    """
    y = reference.start(n, rng)
    path, log_q = [y], reference.log_start(y)
    for k in reversed(range(reference.noising.steps)):
        kernel = reference.kernel(k, y)
        shift = np.zeros_like(y) if control is None else control(k, kernel.h, kernel.share)
        y = kernel.sample(shift, rng)
        log_q = log_q + log_kernel(kernel.residuals(y), kernel.constants, shift)
        path.append(y)
    return np.stack(path[::-1]), log_q


def log_path_density(reference: Reference, control: Control | None, path: np.ndarray) -> np.ndarray:
    """Log density of given paths, shape (n,), under the controlled chain."""
    log_q = reference.log_start(path[-1])
    for k in range(reference.noising.steps):
        kernel = reference.kernel(k, path[k + 1])
        shift = np.zeros_like(path[k])
        if control is not None:
            shift = control(k, kernel.h, kernel.share)
        log_q = log_q + log_kernel(kernel.residuals(path[k]), kernel.constants, shift)
    return log_q
