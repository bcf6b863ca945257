"""The control of a diffusion sampler: a learned shift of its reverse kernels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.proposals.lrds.reference import Features, log_kernel_density

if TYPE_CHECKING:
    from pymc_multimodal.proposals.lrds.potential import Potential
    from pymc_multimodal.proposals.lrds.reference import ReferenceChain

__all__ = [
    "Control",
    "ControlTraining",
    "draw_ends",
    "draw_paths",
    "log_path_density",
]

# Largest component of a shift, in standard deviations of the kernel: a Gaussian that is shifted
# without bound has a density ratio without bound. Measured: examples/benchmarks/constants.py
MAX_SHIFT = 4.0


@dataclass(frozen=True, eq=False)
class Control:
    r"""Shifts of the reverse kernels, in units of the spread of the kernels.

    The best control is a gradient: that of the log density of the noised target over that of the
    noised reference, :math:`\log E[\gamma / \pi_{ref} (X_0) \mid X_k = y]`. It turns the chain of
    the reference into that of the target (Doob's transform). What is learned is a potential that
    approximates this function, and the shift is its gradient. At level 0 the potential is the log
    ratio itself, which is known without noise at every point whose density is known.

    Attributes
    ----------
    potential : Potential
    maps : array of shape (K, G, d, d)
        From a gradient in the whitened place at level k + 1 to units of the kernel down to k, for
        each group of components; averaged with the responsibilities of the groups.
    max_shift : float
        Bound on each component of a shift, in standard deviations of the kernel.
    """

    potential: Potential
    maps: np.ndarray
    max_shift: float = MAX_SHIFT

    def __call__(self, k: int, features: Features) -> np.ndarray:
        """Shifts from level k + 1, whose features are given, down to k; shape (n, d)."""
        gradient = self.potential(features, k + 1)[1]
        shift = np.einsum("ng,gni->ni", features.responsibility, gradient @ self.maps[k])
        return self.max_shift * np.tanh(shift / self.max_shift)


@dataclass(frozen=True, eq=False)
class ControlTraining:
    """Report of the training of a control.

    Attributes
    ----------
    kept : bool
        Whether the control is used; otherwise the reference serves as it was.
    acceptance : tuple of float
        Expected acceptance of independence jumps before and after, from held-out draws.
    path_ess : tuple of float
        Effective share of proposals before and after.
    finite_share : float
        Share of the ends of the chain at which the target is finite.
    evaluations : int
        Ends of the chain that were drawn, each of which is evaluated once.
    seconds : float
    loss : array of shape (steps,)
        Loss of each step on paths.
    """

    kept: bool
    acceptance: tuple[float, float]
    path_ess: tuple[float, float]
    finite_share: float
    evaluations: int
    seconds: float
    loss: np.ndarray = field(repr=False)


def draw_paths(
    reference: ReferenceChain, control: Control | None, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate the controlled chain from its start down to level 0.

    Parameters
    ----------
    reference : ReferenceChain
    control : Control or None
    n : int
    rng : numpy.random.Generator

    Returns
    -------
    path : array of shape (K + 1, n, d)
        Level 0 comes first.
    log_q : array of shape (n,)
        Log density of each path.
    """
    y = reference.start(n, rng)
    path, log_q = [y], reference.log_start(y)
    for k in reversed(range(reference.noising.steps)):
        kernel = reference.kernel(k, y)
        shift = np.zeros_like(y) if control is None else control(k, kernel.features)
        y = kernel.sample(shift, rng)
        log_q = log_q + log_kernel_density(kernel.residuals(y), kernel.log_constants, shift)
        path.append(y)
    return np.stack(path[::-1]), log_q


def draw_ends(
    reference: ReferenceChain, control: Control | None, n: int, rng: np.random.Generator
) -> np.ndarray:
    """Simulate the chain as `draw_paths` does, and keep level 0 alone, shape (n, d)."""
    y = reference.start(n, rng)
    for k in reversed(range(reference.noising.steps)):
        kernel = reference.kernel(k, y)
        shift = np.zeros_like(y) if control is None else control(k, kernel.features)
        y = kernel.sample(shift, rng)
    return y


def log_path_density(
    reference: ReferenceChain, control: Control | None, path: np.ndarray
) -> np.ndarray:
    """Log density under the controlled chain, shape (n,), of paths of shape (K + 1, n, d)."""
    log_q = reference.log_start(path[-1])
    for k in range(reference.noising.steps):
        kernel = reference.kernel(k, path[k + 1])
        shift = np.zeros_like(path[k])
        if control is not None:
            shift = control(k, kernel.features)
        log_q = log_q + log_kernel_density(kernel.residuals(path[k]), kernel.log_constants, shift)
    return log_q
