"""Fit of a masked autoregressive flow to the draws of one region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

from pymc_multimodal.proposals.elliptical import factor
from pymc_multimodal.proposals.flow.density import FlowDensity, FlowError
from pymc_multimodal.status import counted

if TYPE_CHECKING:
    from pymc_multimodal.proposals.elliptical import EllipticalMixture
    from pymc_multimodal.proposals.flow.density import AutoregressiveLayer
    from pymc_multimodal.proposals.flow.settings import Network

__all__ = ["FlowDraws", "fit_flow"]

# Fewest draws that a network is trained on, in all and for each dimension.
# Measured: examples/benchmarks/constants.py
MIN_DRAWS, MIN_DRAWS_PER_DIM = 100, 2


@dataclass(frozen=True, eq=False)
class FlowDraws:
    """What a flow is fitted to.

    Attributes
    ----------
    x : array of shape (n, d)
        Unrolled draws.
    grad : array of shape (n, d) or None
        Gradients of the log density there.
    held_out : array of shape (m, d)
        Unrolled draws of other chains, by which training is judged.
    """

    x: np.ndarray
    grad: np.ndarray | None
    held_out: np.ndarray

    def with_finite_gradients(self) -> FlowDraws:
        """Draws whose gradients are finite."""
        if self.grad is None:
            return self
        finite = np.isfinite(self.grad).all(axis=1)
        return FlowDraws(self.x[finite], self.grad[finite], self.held_out)

    def whitened(self, mean: np.ndarray, scale: np.ndarray) -> FlowDraws:
        """Draws and gradients in coordinates z with ``x = mean + scale z``."""
        return FlowDraws(
            _whiten(self.x, mean, scale),
            None if self.grad is None else self.grad @ scale,
            _whiten(self.held_out, mean, scale),
        )


def fit_flow(
    draws: FlowDraws,
    defensive: EllipticalMixture,
    share: float,
    settings: Network,
    rng: np.random.Generator,
    previous: FlowDensity | None = None,
    baseline: float = -np.inf,
) -> FlowDensity:
    """Train a transport on draws and their gradients; held-out draws say when to stop.

    Parameters
    ----------
    draws : FlowDraws
    defensive : EllipticalMixture
        Heavy-tailed component; it has the window on circular coordinates, too.
    share : float
        Share of the heavy-tailed component.
    settings : Network
    rng : numpy.random.Generator
    previous : FlowDensity, optional
        An earlier fit of the same region to start from.
    baseline : float
        Mean log density of the held-out draws under the density that the transport is to beat.

    Returns
    -------
    FlowDensity

    Raises
    ------
    FlowError
        If there are too few draws or dimensions, draws are not finite, or nothing was learned.
    """
    draws = draws.with_finite_gradients()
    _check(draws)
    # Only here: the import of torch takes seconds, and most posteriors need no network.
    from pymc_multimodal.proposals.flow.training import train

    if previous is None:
        mean, scale, start = draws.x.mean(axis=0), factor(np.cov(draws.x.T)), None
    else:
        mean, scale, start = previous.mean, previous.scale, previous.layers
    whitened = draws.whitened(mean, scale)
    log_volume = float(np.log(np.diag(scale)).sum())
    layers = train(
        whitened.x, whitened.grad, whitened.held_out, settings, rng, start, baseline + log_volume
    )
    return FlowDensity(
        mean, scale, _bounded(layers, whitened.x), defensive, share, device=settings.device
    )


def _check(draws: FlowDraws) -> None:
    n, d = draws.x.shape
    if not (np.isfinite(draws.x).all() and np.isfinite(draws.held_out).all()):
        raise FlowError("some draws are not finite")
    if d < 2:
        raise FlowError("with one coordinate there is nothing to transport autoregressively")
    if n < max(MIN_DRAWS, MIN_DRAWS_PER_DIM * d):
        raise FlowError(
            f"{counted(n, 'draw', ('is', 'are'))} too few for a network in "
            f"{counted(d, 'dimension')}"
        )


def _bounded(
    layers: tuple[AutoregressiveLayer, ...], z: np.ndarray
) -> tuple[AutoregressiveLayer, ...]:
    """Layers bounded by their shifts and slopes at whitened draws."""
    bounded = []
    for layer in layers:
        bounded.append(layer.bounded(z))
        z, _ = bounded[-1].forward(z)
    return tuple(bounded)


def _whiten(x: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    z: np.ndarray = solve_triangular(scale, (x - mean).T, lower=True).T
    return z
