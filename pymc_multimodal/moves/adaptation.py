"""Step sizes, trajectory lengths and metrics, adapted before draws count."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.moves.local import MoveParameters, MoveState, move
from pymc_multimodal.status import LimitReached

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymc_multimodal.target.protocol import LogDensity

__all__ = [
    "Window",
    "WindowRecord",
    "adapt_metrics",
    "adapt_step_sizes",
    "first_step",
    "fit_metric",
    "log_step_change",
    "trajectory_lengths",
]

# Moves of a window that are made even after a limit of the fit: the least that an average of
# step sizes can be made of. Conventional.
MIN_WINDOW_MOVES = 4
# Step sizes for a standard normal in d dimensions. The powers are those of Roberts and Rosenthal
# (1998, Langevin: d^(-1/6)) and of Roberts, Gelman and Gilks (1997, random walk: 2.38 / sqrt(d)).
# The factor 1.4 only sets where the adaptation begins. Measured: examples/benchmarks/constants.py
LANGEVIN_STEP, RANDOM_WALK_STEP = 1.4, 2.4
# Gain 2 / (1 + t)^0.6 of the Robbins-Monro recursion: any power in (1/2, 1] converges (Robbins and
# Monro 1951), and powers near 1/2 adapt fast (Andrieu and Thoms 2008). The factor 2 lets the log
# step size move by about 1 in the first moves. Measured: examples/benchmarks/constants.py
GAIN, GAIN_POWER = 2.0, 0.6
# Acceptance that random walks are adapted to: between the optimum 0.44 in one dimension and the
# limit 0.234 in many (Roberts, Gelman and Gilks 1997; Gelman, Roberts and Gilks 1996).
RANDOM_WALK_ACCEPTANCE = 0.3
# Acceptance that varied step sizes are adapted to at least, so that they are small on average;
# and smallest random factor below which step sizes count as varied.
# Measured: examples/benchmarks/constants.py
VARIED_ACCEPTANCE, VARIED_FACTOR = 0.85, 0.5
# Length of a trajectory in units of the metric: about pi / 2, a quarter of a Gaussian's period,
# after which its draws are independent (Neal 2011).
QUARTER_PERIOD = 1.6
# Factor of the trajectory lengths in regime 2. Measured: examples/benchmarks/constants.py
LONG_FACTOR = 4.0
# Random-walk steps of a move: one for so many dimensions, so that moves of all dimensions mix
# comparably for comparable cost. Measured: examples/benchmarks/constants.py
DIMENSIONS_PER_STEP = 4
# Draws from which on a metric is fitted. Measured: examples/benchmarks/constants.py
MIN_METRIC_DRAWS = 8
# Gradients beyond this size are left out: their squares overflow. Conventional.
MAX_GRADIENT = 1e100
# Ridge of the metric: per unit of shrinkage d / (n + d), and at least (in units of the current
# metric). Measured: examples/benchmarks/constants.py
RIDGE, MIN_RIDGE = 1e-3, 1e-6
# Eigenvalue below which a matrix counts as singular, far below `MIN_RIDGE`. Conventional.
MIN_EIGENVALUE = 1e-12


# ------------------------------------------------------------------ step sizes


def first_step(density: LogDensity) -> float:
    r"""Return a step size for a whitened Gaussian: where adaptation begins.

    Parameters
    ----------
    density : LogDensity
        For its dimension, and whether it has a gradient.

    Returns
    -------
    float
        :math:`1.4 d^{-1/6}` with a gradient, :math:`2.4 / \sqrt d` without.

    Notes
    -----
    The scalings are those of the Langevin algorithm (Roberts and Rosenthal 1998) and of random
    walks (Roberts, Gelman and Gilks 1997). Trajectories of a fixed length would scale as
    :math:`d^{-1/4}` (Beskos et al. 2013); the first moves are single steps.
    """
    d = density.dim
    return LANGEVIN_STEP * d ** (-1 / 6) if density.has_gradient else RANDOM_WALK_STEP / np.sqrt(d)


def log_step_change(
    acceptance: np.ndarray | float, target: np.ndarray | float, t: int
) -> np.ndarray | float:
    r"""Change of the log step size by the Robbins-Monro recursion.

    .. math:: \log h_{t+1} - \log h_t = \frac{2}{(1 + t)^{0.6}} (\alpha_t - \alpha^*)

    Parameters
    ----------
    acceptance, target : arrays of shape (K,), or floats
        Mean acceptance probability of a move, and the one that is aimed at.
    t : int
        Moves before this one.

    Returns
    -------
    array of shape (K,), or float

    Notes
    -----
    Robbins and Monro (1951); Andrieu and Thoms (2008) for the scale of a Metropolis move.
    """
    return (acceptance - target) * GAIN / (1 + t) ** GAIN_POWER


@dataclass(frozen=True)
class Window:
    """One window of a warm-up.

    Parameters
    ----------
    moves : int
    target_accept : float
        Acceptance that step sizes are adapted to where the density has a gradient.
    shrink : float
        Smallest random factor of the step sizes, see `move`.
    """

    moves: int
    target_accept: float
    shrink: float = 1.0


@dataclass(frozen=True)
class WindowRecord:
    """States and infos of the moves of a window.

    Attributes
    ----------
    x, logp, grad : arrays of shape (moves, n, d), (moves, n), (moves, n, d)
    end : array of shape (moves, n, d)
        Where each move ended before it was accepted or rejected.
    into : array of int, shape (moves, n)
        Region of the end of a move that crossed a border, -1 for other moves.
    """

    x: np.ndarray
    logp: np.ndarray
    grad: np.ndarray
    end: np.ndarray
    into: np.ndarray


def adapt_step_sizes(
    density: LogDensity,
    state: MoveState,
    parameters: MoveParameters,
    window: Window,
    rng: np.random.Generator,
    *,
    label: Callable[[np.ndarray], np.ndarray] | None,
) -> tuple[MoveState, WindowRecord, MoveParameters]:
    """Move through a window while step sizes are adapted.

    Each region's step size ends at the geometric mean of those of the window's second half.

    Parameters
    ----------
    density : LogDensity
    state : MoveState
    parameters : MoveParameters
    window : Window
        A limit of the fit ends it early, after four moves at least.
    rng : numpy.random.Generator
    label : callable or None
        ``label(x)`` gives each row's region; None leaves the moves unrestricted.

    Returns
    -------
    state : MoveState
    record : WindowRecord
    parameters : MoveParameters
    """
    log_step = np.log(parameters.step_size)
    n_regions = len(log_step)
    count = np.bincount(state.region, minlength=n_regions)
    target = _target_acceptance(density, parameters, window.target_accept)
    history, columns = [], []
    for t in range(window.moves):
        parameters = replace(parameters, step_size=np.exp(log_step))
        try:
            with density.limited(t >= MIN_WINDOW_MOVES):
                state, info = move(
                    density, state, parameters, rng, label=label, shrink=window.shrink
                )
        except LimitReached:
            if t < MIN_WINDOW_MOVES:
                raise
            break
        columns.append((state.x, state.logp, state.grad, info.end, info.into))
        total = np.bincount(state.region, info.probability, minlength=n_regions)
        change = log_step_change(total / np.maximum(count, 1), target, t)
        log_step = log_step + np.where(count > 0, change, 0.0)
        history.append(log_step)
    later = np.mean(history[len(history) // 2 :], axis=0)
    record = WindowRecord(*(np.stack(column) for column in zip(*columns, strict=True)))
    return state, record, replace(parameters, step_size=np.exp(later))


def _target_acceptance(
    density: LogDensity, parameters: MoveParameters, target_accept: float
) -> np.ndarray:
    """Return the acceptance that each region's step size is adapted to, shape (K,)."""
    if not density.has_gradient:
        return np.full(len(parameters.step_size), RANDOM_WALK_ACCEPTANCE)
    varied = parameters.shortest < VARIED_FACTOR
    return np.where(varied, max(target_accept, VARIED_ACCEPTANCE), target_accept)


def trajectory_lengths(
    density: LogDensity, step_size: np.ndarray, regime: np.ndarray, max_leapfrog: int
) -> np.ndarray:
    """Return the steps of a move: a quarter of a Gaussian's period, in regime 2 four of them.

    Parameters
    ----------
    density : LogDensity
    step_size : array of shape (K,)
        In units of the metrics.
    regime : array of int, shape (K,)
        See `ChainDiagnostics`.
    max_leapfrog : int

    Returns
    -------
    array of int, shape (K,)
        Leapfrog steps, or random-walk steps where there is no gradient.
    """
    factor = np.where(regime >= 2, LONG_FACTOR, 1.0)
    if density.has_gradient:
        steps = np.round(QUARTER_PERIOD * factor / step_size)
    else:
        steps = max(1, density.dim // DIMENSIONS_PER_STEP) * factor
    return np.clip(steps, 1, max_leapfrog).astype(int)


# ------------------------------------------------------------------ metrics


def adapt_metrics(
    density: LogDensity,
    record: WindowRecord,
    region: np.ndarray,
    parameters: MoveParameters,
    centre: np.ndarray,
) -> MoveParameters:
    """Fit each region's metric to its draws and gradients of a window.

    Parameters
    ----------
    density : LogDensity
    record : WindowRecord
    region : array of int, shape (n,)
        Regions of the record's points; other regions keep their metric.
    parameters : MoveParameters
    centre : array of shape (K, d)
        A point of each region about which circular coordinates are unrolled.

    Returns
    -------
    MoveParameters
    """
    scale = parameters.scale.copy()
    for k in np.unique(region):
        rows = region == k
        x = density.unroll(record.x[:, rows], centre[k]).reshape(-1, density.dim)
        inside = np.isfinite(record.logp[:, rows].ravel())
        grad = record.grad[:, rows].reshape(len(x), -1)[inside]
        scale[k] = fit_metric(x[inside], grad if grad.shape[1] else None, scale[k])
    return replace(parameters, scale=scale)


def fit_metric(x: np.ndarray, grad: np.ndarray | None, scale: np.ndarray) -> np.ndarray:
    """Fit the metric's factor to draws and, where there are any, their gradients.

    The geometric mean of the draws' covariance and the inverse of the gradients' covariance
    minimises the Fisher divergence between a Gaussian and the density (Seyboldt, Carlson and
    Carpenter 2026, arXiv 2603.18845); for a Gaussian it is exact from as many draws as
    dimensions. Both covariances are regularised towards the current metric.

    Parameters
    ----------
    x : array of shape (n, d)
    grad : array of shape (n, d) or None
    scale : array of shape (d, d)
        Current lower-triangular factor.

    Returns
    -------
    array of shape (d, d)
        Lower-triangular factor; the current one where there are fewer than eight finite draws, or
        where they are degenerate.
    """
    finite = np.isfinite(x).all(axis=1)
    if grad is not None:
        finite &= (np.abs(grad) < MAX_GRADIENT).all(axis=1)
        grad = grad[finite]
    x = x[finite]
    if len(x) < MIN_METRIC_DRAWS:
        return scale
    try:
        mean = _whitened_metric(x, grad, scale)
        return np.linalg.cholesky(scale @ mean @ scale.T)
    except np.linalg.LinAlgError:
        # The covariance is singular, or overflows.
        return scale


def _whitened_metric(x: np.ndarray, grad: np.ndarray | None, scale: np.ndarray) -> np.ndarray:
    """Covariance suggested by draws and gradients, in units of the current metric."""
    d = x.shape[1]
    z = np.linalg.solve(scale, (x - x.mean(axis=0)).T)
    weight = d / (len(x) + d)
    ridge = max(MIN_RIDGE, RIDGE * weight)
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
    root = vectors * np.sqrt(np.maximum(values, MIN_EIGENVALUE)) @ vectors.T
    inner_values, inner_vectors = np.linalg.eigh(root @ a @ root)
    inner = inner_vectors * np.sqrt(np.maximum(inner_values, 0.0)) @ inner_vectors.T
    inverse = vectors / np.sqrt(np.maximum(values, MIN_EIGENVALUE)) @ vectors.T
    result = inverse @ inner @ inverse
    return 0.5 * (result + result.T)
