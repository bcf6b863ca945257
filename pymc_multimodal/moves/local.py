"""Metropolis moves of many points at once: Langevin, Hamiltonian or random walk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.target.blocks import Blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymc_multimodal.target.protocol import LogDensity

__all__ = [
    "MoveInfo",
    "MoveParameters",
    "MoveState",
    "accept",
    "move",
    "moved_labels",
    "state_at",
    "step_factors",
    "trajectory",
]

# Largest random factor of a step size. Random step sizes avoid the nearly periodic trajectories of
# a fixed length (Mackenzie 1989; Neal 2011). Measured: examples/benchmarks/constants.py
MAX_STEP_FACTOR = 1.25
# Absolute value of a coordinate beyond which a trajectory has diverged. Conventional: the square
# is still a finite double.
MAX_COORDINATE = 1e100


@dataclass(frozen=True)
class MoveParameters:
    """Parameters of the moves of each region.

    Attributes
    ----------
    scale : array of shape (K, d, d) or (K, d)
        Lower-triangular factors of the inverse mass matrices, or diagonals of diagonal ones.
    step_size : array of shape (K,)
        In units of `scale`.
    leapfrog : array of int, shape (K,)
        Leapfrog steps of a move; one step is the Metropolis-adjusted Langevin algorithm. Without
        a gradient: random-walk steps of a move.
    shortest : array of shape (K,)
        Smallest random factor of the step size; the largest is 1.25.
    """

    scale: np.ndarray
    step_size: np.ndarray
    leapfrog: np.ndarray
    shortest: np.ndarray

    def take(self, rows: np.ndarray) -> MoveParameters:
        """Return some regions, in the order of `rows`: new region i is old region ``rows[i]``."""
        return MoveParameters(*(part[rows] for part in vars(self).values()))


@dataclass(frozen=True)
class MoveState:
    """Points with their region and their log density.

    Attributes
    ----------
    x : array of shape (n, d)
    logp : array of shape (n,)
    grad : array of shape (n, d)
        Gradient of the log density; shape (n, 0) where the density has none.
    region : array of int, shape (n,)
    """

    x: np.ndarray
    logp: np.ndarray
    grad: np.ndarray
    region: np.ndarray

    def take(self, rows: np.ndarray) -> MoveState:
        """Return some points, in the order of `rows` (indices or a mask)."""
        return MoveState(self.x[rows], self.logp[rows], self.grad[rows], self.region[rows])

    def put(self, part: MoveState, rows: np.ndarray) -> MoveState:
        """Return a copy in which `part` replaces the points `rows` (indices or a mask)."""
        x, logp, grad = self.x.copy(), self.logp.copy(), self.grad.copy()
        x[rows], logp[rows], grad[rows] = part.x, part.logp, part.grad
        return MoveState(x, logp, grad, self.region)


@dataclass(frozen=True)
class MoveInfo:
    """What a move reports beside the new state.

    Attributes
    ----------
    probability, accepted, crossed : arrays of shape (n,)
        Acceptance probability; whether the move was accepted; whether it was rejected because
        it ended outside of its region.
    end : array of shape (n, d)
        Where the move ended before it was accepted or rejected.
    into : array of int, shape (n,)
        Region of the end of a move that crossed a border, -1 for other moves.
    """

    probability: np.ndarray
    accepted: np.ndarray
    crossed: np.ndarray
    end: np.ndarray
    into: np.ndarray


def state_at(density: LogDensity, x: np.ndarray, region: np.ndarray) -> MoveState:
    """Evaluate the density, and its gradient where it has one, at points.

    Parameters
    ----------
    density : LogDensity
    x : array of shape (n, d)
    region : array of int, shape (n,)

    Returns
    -------
    MoveState
        Circular coordinates are wrapped.
    """
    x = density.wrap(np.asarray(x, dtype=float))
    if density.has_gradient:
        logp, grad = density.logp_and_grad(x)
    else:
        logp, grad = density.logp(x), np.empty((len(x), 0))
    return MoveState(x, logp, grad, np.asarray(region, dtype=int))


def moved_labels(
    label: Callable[[np.ndarray], np.ndarray], x: np.ndarray, region: np.ndarray
) -> np.ndarray:
    """Label points most of which are where one expects them.

    Parameters
    ----------
    label : callable
        ``label(x)`` gives each row's region. It may have a method ``stays(x, region)``, which tells
        for little cost of which rows the region is certain.
    x : array of shape (n, d)
    region : array of int, shape (n,)
        The regions that are expected.

    Returns
    -------
    array of int, shape (n,)
    """
    stays = getattr(label, "stays", None)
    if stays is None:
        return label(x)
    found = np.array(region)
    doubtful = ~stays(x, region)
    found[doubtful] = label(x[doubtful])
    return found


def move(
    density: LogDensity,
    state: MoveState,
    parameters: MoveParameters,
    rng: np.random.Generator,
    *,
    label: Callable[[np.ndarray], np.ndarray] | None,
    shrink: float = 1.0,
) -> tuple[MoveState, MoveInfo]:
    """Move every point once; the density restricted to each point's region is left invariant.

    A Hamiltonian trajectory (Neal 2011) or, without a gradient, some random-walk steps. A
    trajectory may pass through other regions: only its end counts, and an end outside of the
    region is rejected. The flow of circular coordinates lives on the circle, so that wrapping
    keeps it exactly reversible.

    Parameters
    ----------
    density : LogDensity
    state : MoveState
    parameters : MoveParameters
    rng : numpy.random.Generator
    label : callable or None
        ``label(x)`` gives each row's region; None leaves the moves unrestricted.
    shrink : float
        Smallest of a second random factor of the step sizes, log-uniform up to 1. The warm-up
        sets it below 1: short steps free points that start far from the bulk of a region.

    Returns
    -------
    state : MoveState
    info : MoveInfo
    """
    factor = step_factors(state, parameters, rng)
    if shrink != 1.0:
        factor *= np.exp(rng.uniform(np.log(shrink), 0.0, len(state.x)))
    step = parameters.step_size[state.region] * factor
    if density.has_gradient:
        # Diverging trajectories overflow before they are rejected.
        with np.errstate(over="ignore", invalid="ignore"):
            return _hamiltonian(density, state, parameters, step, rng, label)
    return _random_walk(density, state, parameters, step, rng, label)


def step_factors(
    state: MoveState, parameters: MoveParameters, rng: np.random.Generator
) -> np.ndarray:
    """Draw the random factor of each point's step size, shape (n,)."""
    shortest = np.log(parameters.shortest[state.region])
    out: np.ndarray = np.exp(
        shortest + (np.log(MAX_STEP_FACTOR) - shortest) * rng.random(len(state.x))
    )
    return out


def _hamiltonian(
    density: LogDensity,
    state: MoveState,
    parameters: MoveParameters,
    step: np.ndarray,
    rng: np.random.Generator,
    label: Callable | None,
) -> tuple[MoveState, MoveInfo]:
    """Leapfrog trajectories with momenta whitened by each region's metric."""
    p = rng.standard_normal(state.x.shape)
    log_u = np.log(rng.random(len(p)))
    steps = parameters.leapfrog[state.region]
    end, _, log_ratio = trajectory(density, state, p, parameters.scale, step, steps)
    return accept(state, end, log_ratio, log_u, label)


def trajectory(
    density: LogDensity,
    state: MoveState,
    momentum: np.ndarray,
    scale: np.ndarray,
    step: np.ndarray,
    steps: np.ndarray,
) -> tuple[MoveState, np.ndarray, np.ndarray]:
    """Follow the leapfrog trajectory of every point.

    Parameters
    ----------
    density : LogDensity
        It may have the attributes `unfolded` and `log_multiplicity` (`Target`).
    state : MoveState
    momentum : array of shape (n, d)
        In units in which the metric of each region is the identity.
    scale : array of shape (K, d, d)
        See `MoveParameters`.
    step : array of shape (n,)
        Step sizes.
    steps : array of int, shape (n,)
        Leapfrog steps.

    Returns
    -------
    end : MoveState
    momentum : array of shape (n, d)
        At the end.
    log_ratio : array of shape (n,)
        Log density with the kinetic energy at the end, relative to the beginning; -inf where the
        trajectory has diverged.
    """
    metric = _Metrics(scale, state.region)
    p = momentum.copy()
    kinetic = 0.5 * np.einsum("ni,ni->n", p, p)
    x, logp, grad = state.x.copy(), state.logp.copy(), state.grad.copy()
    alive, moved = np.ones(len(x), dtype=bool), np.zeros(len(x), dtype=bool)
    # Where the density is folded, only the end of a trajectory has to be in the cells.
    flow: LogDensity = getattr(density, "unfolded", density)
    log_multiplicity = getattr(density, "log_multiplicity", None)
    h = step[:, None]
    for i in range(int(steps.max(initial=1))):
        on = alive & (steps > i)
        if not on.any():
            break
        p += np.where(on[:, None], 0.5 * h * metric.transposed(grad), 0.0)
        trial = x + np.where(on[:, None], h * metric(p), 0.0)
        # A diverged trajectory is rejected whatever follows: it costs no more evaluations.
        alive &= np.isfinite(trial).all(axis=1) & (np.abs(trial).max(axis=1) < MAX_COORDINATE)
        on &= alive
        x[on] = density.wrap(trial[on])
        logp[on], grad[on] = flow.logp_and_grad(x[on])
        moved |= on
        p += np.where(on[:, None], 0.5 * h * metric.transposed(grad), 0.0)
    if log_multiplicity is not None:
        logp[moved] += log_multiplicity(x[moved])
    gain = _gain(logp, state.logp)
    log_ratio = gain + kinetic - 0.5 * np.einsum("ni,ni->n", p, p)
    log_ratio = np.where(alive & np.isfinite(log_ratio), log_ratio, -np.inf)
    return MoveState(x, logp, grad, state.region), p, log_ratio


def _random_walk(
    density: LogDensity,
    state: MoveState,
    parameters: MoveParameters,
    step: np.ndarray,
    rng: np.random.Generator,
    label: Callable | None,
) -> tuple[MoveState, MoveInfo]:
    """As many Metropolis steps with normal proposals as the longest of the regions' moves has."""
    metric = _Metrics(parameters.scale, state.region)
    infos = []
    for _ in range(int(parameters.leapfrog[state.region].max(initial=1))):
        x = density.wrap(state.x + step[:, None] * metric(rng.standard_normal(state.x.shape)))
        log_u = np.log(rng.random(len(x)))
        end = MoveState(x, density.logp(x), state.grad, state.region)
        state, info = accept(state, end, _gain(end.logp, state.logp), log_u, label)
        infos.append(info)
    return state, MoveInfo(
        np.mean([i.probability for i in infos], axis=0),
        np.any([i.accepted for i in infos], axis=0),
        np.any([i.crossed for i in infos], axis=0),
        infos[-1].end,
        infos[-1].into,
    )


def _gain(logp: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return the change of the log density; -inf where both are, which no move is accepted with."""
    gain = np.full(len(logp), -np.inf)
    return np.subtract(logp, before, out=gain, where=~(np.isneginf(logp) & np.isneginf(before)))


def accept(
    state: MoveState,
    end: MoveState,
    log_ratio: np.ndarray,
    log_u: np.ndarray,
    label: Callable | None,
) -> tuple[MoveState, MoveInfo]:
    """Accept or reject the ends of moves; an end outside of its region is rejected."""
    # From a point outside of the support every point inside of it is accepted. NaN is not.
    log_ratio = np.where(np.isneginf(state.logp) & np.isfinite(end.logp), np.inf, log_ratio)
    accepted = log_u < log_ratio
    into = np.full(len(end.x), -1)
    probability = np.exp(np.minimum(log_ratio, 0.0))
    if label is not None and accepted.any():
        rows = np.flatnonzero(accepted)
        found = moved_labels(label, end.x[rows], state.region[rows])
        into[rows] = np.where(found != state.region[rows], found, -1)
    crossed = into >= 0
    accepted &= ~crossed
    keep = accepted[:, None]
    new = MoveState(
        np.where(keep, end.x, state.x),
        np.where(accepted, end.logp, state.logp),
        np.where(keep, end.grad, state.grad),
        state.region,
    )
    return new, MoveInfo(probability, accepted, crossed, end.x, into)


class _Metrics:
    """Multiplies each row by the factor of its region's metric."""

    def __init__(self, scale: np.ndarray, region: np.ndarray) -> None:
        self.diagonal = scale[region] if scale.ndim == 2 else None
        if self.diagonal is None:
            present, group = np.unique(region, return_inverse=True)
            self.scale = scale if len(present) == len(scale) else scale[present]
            self.blocks = Blocks(group, len(present))

    def __call__(self, v: np.ndarray) -> np.ndarray:
        """Map whitened rows of shape (n, d) to the units of the coordinates."""
        if self.diagonal is not None:
            return v * self.diagonal
        return self._times(v, self.scale.swapaxes(1, 2))

    def transposed(self, v: np.ndarray) -> np.ndarray:
        """Map gradients of shape (n, d) to those by whitened coordinates."""
        return v * self.diagonal if self.diagonal is not None else self._times(v, self.scale)

    def _times(self, v: np.ndarray, factors: np.ndarray) -> np.ndarray:
        return v @ factors[0] if len(factors) == 1 else self.blocks.times(v, factors)
