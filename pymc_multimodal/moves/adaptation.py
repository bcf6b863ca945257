"""Settings of the chains, and what adapts their step sizes and metrics before they count."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.moves.local import MoveParameters, MoveState, move
from pymc_multimodal.status import LimitReached

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["Record", "Warmup", "first_step", "fit_metric", "stack"]


# Moves of a window and draws of a chain that are made even after a limit of the fit.
LEAST_MOVES, LEAST_DRAWS = 4, 16


@dataclass(frozen=True)
class Record:
    """What moves left behind: arrays of shape (moves, rows, ...)."""

    x: np.ndarray
    logp: np.ndarray
    grad: np.ndarray
    probability: np.ndarray
    crossed: np.ndarray
    end: np.ndarray
    into: np.ndarray


def stack(records: list[tuple]) -> Record:
    """Join what single moves left behind."""
    return Record(*(np.stack(column) for column in zip(*records, strict=True)))


def first_step(density: LogDensity) -> float:
    """Return a step size for a whitened Gaussian, by the dimension's known scaling."""
    d = density.dim
    return 1.4 * d ** (-1 / 6) if density.has_gradient else 2.4 / np.sqrt(d)


class Warmup:
    """Adapts step size and metric of all regions at once."""

    def __init__(
        self, density: LogDensity, target_accept: float, max_leapfrog: int, label: Callable | None
    ) -> None:
        self.density, self.max_leapfrog, self.label = density, max_leapfrog, label
        self.target = target_accept if density.has_gradient else 0.3
        self.careful = max(self.target, 0.85) if density.has_gradient else self.target

    def window(
        self,
        cloud: MoveState,
        tuning: MoveParameters,
        moves: int,
        rng: np.random.Generator,
        shrink: float = 1.0,
    ) -> tuple[MoveState, Record, MoveParameters]:
        """Move while adapting the step size; afterwards it is the average of the later ones."""
        log_step = np.log(tuning.step_size)
        history, records = [], []
        n_regions = len(log_step)
        count = np.maximum(np.bincount(cloud.region, minlength=n_regions), 1)
        for t in range(moves):
            tuning = replace(tuning, step_size=np.exp(log_step))
            try:
                with self.density.limited(t >= LEAST_MOVES):
                    cloud, info = move(
                        self.density, cloud, tuning, rng, label=self.label, shrink=shrink
                    )
            except LimitReached:
                break
            records.append((cloud.x, cloud.logp, cloud.grad, info.probability, info.crossed,
                            info.end, info.into))  # fmt: skip
            mean = np.bincount(cloud.region, info.probability, minlength=n_regions) / count
            present = np.bincount(cloud.region, minlength=n_regions) > 0
            # Varied step sizes belong to the second gear, which wants them small on average.
            target = np.where(tuning.shortest < 0.5, self.careful, self.target)
            log_step = log_step + present * (mean - target) * 2.0 / (1 + t) ** 0.6
            history.append(log_step)
        later = np.mean(history[len(history) // 2 :], axis=0)
        tuning = replace(tuning, step_size=np.exp(later))
        return cloud, stack(records), tuning

    def lengthen(self, tuning: MoveParameters, gear: int) -> MoveParameters:
        """Choose trajectory lengths: a Gaussian's quarter turn, four times that in third gear."""
        if not self.density.has_gradient:
            steps = np.full(
                len(tuning.step_size), max(1, self.density.dim // 4) * 4 ** max(gear - 1, 0)
            )
        else:
            steps = np.round(1.6 * 4 ** max(gear - 1, 0) / tuning.step_size)
        return replace(tuning, leapfrog=np.clip(steps, 1, self.max_leapfrog).astype(int))

    def refit(
        self, record: Record, cloud: MoveState, tuning: MoveParameters, centre: np.ndarray
    ) -> MoveParameters:
        """Fit each region's metric to its draws and gradients of a window."""
        scale = tuning.scale.copy()
        for k in np.unique(cloud.region):
            rows = cloud.region == k
            x = self.density.unroll(record.x[:, rows], centre[k]).reshape(-1, self.density.dim)
            ok = np.isfinite(record.logp[:, rows].ravel())
            grad = record.grad[:, rows].reshape(len(x), -1)[ok]
            scale[k] = fit_metric(x[ok], grad if grad.shape[1] else None, scale[k])
        return replace(tuning, scale=scale)


def fit_metric(x: np.ndarray, grad: np.ndarray | None, scale: np.ndarray) -> np.ndarray:
    """Factor of the covariance that draws and their gradients suggest together.

    The geometric mean of the draws' covariance and the inverse of the gradients' minimises
    the Fisher divergence between a Gaussian and the density; for a Gaussian it is exact from
    as many draws as dimensions. Both are regularised towards the current metric.

    Parameters
    ----------
    x, grad : arrays of shape (n, d); grad may be None
    scale : array of shape (d, d)
        Current lower-triangular factor.
    """
    finite = np.isfinite(x).all(axis=1)
    if grad is not None:
        # Squares of huge gradients, next to a border of the support, overflow.
        finite &= (np.abs(grad) < 1e100).all(axis=1)
        grad = grad[finite]
    x = x[finite]
    if len(x) < 8:
        return scale
    try:
        mean = _whitened_metric(x, grad, scale)
        return np.linalg.cholesky(scale @ mean @ scale.T)
    except np.linalg.LinAlgError:
        # Draws that span next to nothing, or everything: keep what works.
        return scale


def _whitened_metric(x: np.ndarray, grad: np.ndarray | None, scale: np.ndarray) -> np.ndarray:
    """Covariance suggested by draws and gradients, in units of the current metric."""
    d = x.shape[1]
    z = np.linalg.solve(scale, (x - x.mean(axis=0)).T)
    weight = d / (len(x) + d)
    ridge = max(1e-6, 1e-3 * weight)
    a = z @ z.T / len(x)
    if grad is None:
        a = (1 - weight) * a + weight * np.eye(d) * min(1.0, np.trace(a) / d)
        return a + ridge * np.eye(d)
    g = scale.T @ (grad - grad.mean(axis=0)).T
    b = g @ g.T / len(x) + ridge * np.eye(d)
    return _geometric_mean_with_inverse(a + ridge * np.eye(d), b)


def _geometric_mean_with_inverse(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Solve S b S = a for the symmetric positive definite S."""
    values, vectors = np.linalg.eigh(b)
    root = vectors * np.sqrt(np.maximum(values, 1e-12)) @ vectors.T
    inner_values, inner_vectors = np.linalg.eigh(root @ a @ root)
    inner = inner_vectors * np.sqrt(np.maximum(inner_values, 0.0)) @ inner_vectors.T
    inverse = vectors / np.sqrt(np.maximum(values, 1e-12)) @ vectors.T
    result = inverse @ inner @ inverse
    return 0.5 * (result + result.T)
