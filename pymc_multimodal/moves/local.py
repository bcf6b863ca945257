"""One Metropolis move of many points at once: Langevin, Hamiltonian or random walk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["MoveParameters", "MoveState", "move", "state_at"]


@dataclass(frozen=True)
class MoveParameters:
    """What a move needs to know of each region.

    Attributes
    ----------
    scale : array of shape (K, d, d)
        Lower-triangular factors of the inverse mass matrices.
    step_size : array of shape (K,)
        In units of `scale`.
    leapfrog : array of int, shape (K,)
        Leapfrog steps of a move; one is the Metropolis-adjusted Langevin algorithm. Without
        gradient, random-walk steps of a move.
    shortest : array of shape (K,)
        Smallest random factor of the step size; the largest is 1.25.
    """

    scale: np.ndarray
    step_size: np.ndarray
    leapfrog: np.ndarray
    shortest: np.ndarray

    def take(self, order: np.ndarray) -> MoveParameters:
        """Renumber the regions: new region i is old region ``order[i]``."""
        return MoveParameters(*(part[order] for part in vars(self).values()))


@dataclass(frozen=True)
class MoveState:
    """Points with what the next move needs: arrays of shape (n, d), (n,), (n, d) and (n,)."""

    x: np.ndarray
    logp: np.ndarray
    grad: np.ndarray
    region: np.ndarray

    def take(self, rows: np.ndarray) -> MoveState:
        """Return some rows."""
        return MoveState(self.x[rows], self.logp[rows], self.grad[rows], self.region[rows])

    def put(self, part: MoveState, rows: np.ndarray) -> MoveState:
        """Return a copy with some rows (indices, or a mask in order) replaced."""
        x, logp, grad = self.x.copy(), self.logp.copy(), self.grad.copy()
        x[rows], logp[rows], grad[rows] = part.x, part.logp, part.grad
        return MoveState(x, logp, grad, self.region)


@dataclass(frozen=True)
class MoveInfo:
    """What only diagnostics need.

    Attributes
    ----------
    probability, accepted, crossed : arrays of shape (n,)
        Acceptance probability, acceptance, and rejection for leaving the region.
    end : array of shape (n, d)
        Where the move would have ended.
    into : array of int, shape (n,)
        Region of the end of a crossing, -1 where there was none.
    """

    probability: np.ndarray
    accepted: np.ndarray
    crossed: np.ndarray
    end: np.ndarray
    into: np.ndarray


def state_at(density: LogDensity, x: np.ndarray, region: np.ndarray) -> MoveState:
    """Evaluate the density at points."""
    x = density.wrap(np.asarray(x, dtype=float))
    if density.has_gradient:
        logp, grad = density.logp_and_grad(x)
    else:
        logp, grad = density.logp(x), np.empty((len(x), 0))
    return MoveState(x, logp, grad, np.asarray(region, dtype=int))


def move(
    density: LogDensity,
    cloud: MoveState,
    tuning: MoveParameters,
    rng: np.random.Generator,
    *,
    label: Callable[[np.ndarray], np.ndarray] | None,
    shrink: float = 1.0,
) -> tuple[MoveState, MoveInfo]:
    """Move every point once; the density restricted to each point's region is left invariant.

    A trajectory may pass through other regions; only its end counts, and an end outside of
    the region is rejected. On circular coordinates the flow lives on the circle, so wrapping
    positions keeps it exactly reversible.

    Parameters
    ----------
    density : LogDensity
    cloud : MoveState
    tuning : MoveParameters
    rng : numpy.random.Generator
    label : callable or None
        ``label(x)`` gives each row's region; None leaves the moves unrestricted.
    shrink : float
        Largest factor by which step sizes are shortened at random (warm-up uses it to free
        points that start far out).

    Returns
    -------
    cloud : MoveState
    info : MoveInfo
    """
    shortest = np.log(tuning.shortest[cloud.region])
    jitter = np.exp(shortest + (np.log(1.25) - shortest) * rng.random(len(cloud.x)))
    if shrink != 1.0:
        jitter *= np.exp(rng.uniform(np.log(shrink), 0.0, len(cloud.x)))
    step = tuning.step_size[cloud.region] * jitter
    if density.has_gradient:
        # Trajectories that leave for infinity overflow on the way; they are rejected.
        with np.errstate(over="ignore", invalid="ignore"):
            return _hamiltonian(density, cloud, tuning, step, rng, label)
    return _random_walk(density, cloud, tuning, step, rng, label)


def _hamiltonian(
    density: LogDensity,
    cloud: MoveState,
    tuning: MoveParameters,
    step: np.ndarray,
    rng: np.random.Generator,
    label: Callable | None,
) -> tuple[MoveState, MoveInfo]:
    push = _Groups(tuning.scale, cloud.region)
    p = rng.standard_normal(cloud.x.shape)
    log_u = np.log(rng.random(len(p)))
    kinetic = 0.5 * np.einsum("ni,ni->n", p, p)
    x, logp, grad = cloud.x.copy(), cloud.logp.copy(), cloud.grad.copy()
    steps = tuning.leapfrog[cloud.region]
    alive = np.ones(len(x), dtype=bool)
    h = step[:, None]
    for i in range(int(steps.max(initial=1))):
        on = alive & (steps > i)
        if not on.any():
            break
        p += np.where(on[:, None], 0.5 * h * push.transposed(grad), 0.0)
        trial = x + np.where(on[:, None], h * push(p), 0.0)
        # A trajectory that has left for infinity can only be rejected: stop following it.
        alive &= np.isfinite(trial).all(axis=1) & (np.abs(trial).max(axis=1) < 1e100)
        on &= alive
        x[on] = density.wrap(trial[on])
        logp[on], grad[on] = density.logp_and_grad(x[on])
        p += np.where(on[:, None], 0.5 * h * push.transposed(grad), 0.0)
    gain = logp - cloud.logp + kinetic - 0.5 * np.einsum("ni,ni->n", p, p)
    gain = np.where(alive & np.isfinite(gain), gain, -np.inf)
    return _settle(cloud, x, logp, grad, gain, log_u, label)


def _random_walk(
    density: LogDensity,
    cloud: MoveState,
    tuning: MoveParameters,
    step: np.ndarray,
    rng: np.random.Generator,
    label: Callable | None,
) -> tuple[MoveState, MoveInfo]:
    push = _Groups(tuning.scale, cloud.region)
    infos = []
    for _ in range(int(tuning.leapfrog[cloud.region].max(initial=1))):
        x = density.wrap(cloud.x + step[:, None] * push(rng.standard_normal(cloud.x.shape)))
        log_u = np.log(rng.random(len(x)))
        logp = density.logp(x)
        cloud, info = _settle(cloud, x, logp, cloud.grad, logp - cloud.logp, log_u, label)
        infos.append(info)
    return cloud, MoveInfo(
        np.mean([i.probability for i in infos], axis=0),
        np.any([i.accepted for i in infos], axis=0),
        np.any([i.crossed for i in infos], axis=0),
        infos[-1].end,
        infos[-1].into,
    )


def _settle(
    cloud: MoveState,
    x: np.ndarray,
    logp: np.ndarray,
    grad: np.ndarray,
    gain: np.ndarray,
    log_u: np.ndarray,
    label: Callable | None,
) -> tuple[MoveState, MoveInfo]:
    """Accept or reject ends of moves, the region's border included."""
    # From a point outside the support anything is an improvement; NaN gains are not.
    gain = np.where(np.isneginf(cloud.logp) & np.isfinite(logp), np.inf, gain)
    accepted = log_u < gain
    into = np.full(len(x), -1)
    probability = np.exp(np.minimum(gain, 0.0))
    if label is not None and accepted.any():
        rows = np.flatnonzero(accepted)
        found = label(x[rows])
        into[rows] = np.where(found != cloud.region[rows], found, -1)
    crossed = into >= 0
    accepted &= ~crossed
    keep = accepted[:, None]
    new = MoveState(
        np.where(keep, x, cloud.x),
        np.where(accepted, logp, cloud.logp),
        np.where(keep, grad, cloud.grad),
        cloud.region,
    )
    return new, MoveInfo(probability, accepted, crossed, x, into)


class _Groups:
    """Multiplies each row by its region's factor, regions in blocks."""

    def __init__(self, scale: np.ndarray, region: np.ndarray) -> None:
        self.scale, self.region = scale, region
        first = region[:1]
        self.single = bool((region == first).all()) if len(region) else True
        self.present = np.unique(region)

    def __call__(self, v: np.ndarray) -> np.ndarray:
        return self._apply(v, transpose=False)

    def transposed(self, v: np.ndarray) -> np.ndarray:
        return self._apply(v, transpose=True)

    def _apply(self, v: np.ndarray, transpose: bool) -> np.ndarray:
        if self.single:
            factor = self.scale[self.region[0]] if len(v) else np.eye(v.shape[1])
            return v @ (factor if transpose else factor.T)
        out = np.empty_like(v)
        for k in self.present:
            rows = self.region == k
            out[rows] = v[rows] @ (self.scale[k] if transpose else self.scale[k].T)
        return out
