"""The Markov kernel of the kept draws: independence jumps and local moves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.moves.local import MoveParameters, MoveState, move, state_at
from pymc_multimodal.status import Status
from pymc_multimodal.target.errors import unstable

if TYPE_CHECKING:
    from pymc_multimodal.evidence import Weights
    from pymc_multimodal.proposals.base import Generator
    from pymc_multimodal.regions.draws import RegionDraws
    from pymc_multimodal.regions.partition import Partition
    from pymc_multimodal.target.target import Target

__all__ = [
    "Kernel",
    "State",
    "by_weight",
    "count_jumps",
    "init",
    "jump",
    "local_move",
    "propose",
    "rows",
    "step",
]


# Draws that are evaluated a second time.
CHECKED = 128
# Draws without an accepted jump that are too many, and the share of draws from which on too
# many are such.
LONG_RUN, MANY_STICKY = 100, 0.01


@dataclass(frozen=True)
class Kernel:
    """Everything frozen before the first kept draw.

    Attributes
    ----------
    partition : Partition
    tuning : MoveParameters
        Of the local moves.
    generator : Generator
        Of the independence jumps.
    jumps : int
        Jumps tried for each draw.
    local_every : int
        A local move is made with every so many draws: few are needed where nearly every jump
        is accepted.
    """

    partition: Partition
    tuning: MoveParameters
    generator: Generator
    jumps: int = 1
    local_every: int = 1


@dataclass(frozen=True)
class State:
    """Where chains are, with what the next step needs.

    Attributes
    ----------
    cloud : MoveState
    minus_log_q : array of shape (n,)
        See `Proposals`; with the log density it makes the log ratio.
    """

    cloud: MoveState
    minus_log_q: np.ndarray

    @property
    def log_ratio(self) -> np.ndarray:
        """Log ratio of target to proposal at each point, shape (n,)."""
        return self.cloud.logp + self.minus_log_q


def init(density: Target, kernel: Kernel, x: np.ndarray, rng: np.random.Generator) -> State:
    """Evaluate everything at points x of shape (n, d)."""
    x = density.fold(density.wrap(x))
    cloud = state_at(density, x, kernel.partition.label(x))
    return State(cloud, kernel.generator.minus_log_q(x, rng))


def propose(density: Target, kernel: Kernel, n: int, rng: np.random.Generator) -> State:
    """Draw n fresh proposals and evaluate them in one batch; each serves one jump."""
    drawn = kernel.generator.propose(n, rng)
    inside = drawn.inside
    x = np.where(inside[:, None], drawn.x, 0.0)
    region = np.zeros(n, dtype=int)
    logp = np.full(n, -np.inf)
    grad = np.zeros((n, density.dim if density.has_gradient else 0))
    if inside.any():
        some = state_at(density, x[inside], kernel.partition.label(x[inside]))
        region[inside], logp[inside], grad[inside] = some.region, some.logp, some.grad
    return State(MoveState(x, logp, grad, region), np.where(inside, drawn.minus_log_q, 0.0))


def jump(state: State, proposed: State, rng: np.random.Generator) -> tuple[State, np.ndarray]:
    """Independence Metropolis: row i of `proposed` is offered to chain i.

    Returns the new state and which chains accepted.
    """
    log_u = np.log(rng.random(len(state.minus_log_q)))
    with np.errstate(invalid="ignore"):
        accepted = log_u < proposed.log_ratio - state.log_ratio
    return _choose(accepted, proposed, state), accepted


def local_move(
    density: Target, kernel: Kernel, state: State, rng: np.random.Generator
) -> tuple[State, np.ndarray]:
    """One move with the metric of the chain's region, confined to it.

    The confinement is what makes a metric per region exact: a move that ended in another
    region would have to be reversed with that region's metric.
    """
    label = kernel.partition.label if kernel.partition.n_regions > 1 else None
    cloud, info = move(density, state.cloud, kernel.tuning, rng, label=label)
    correction = state.minus_log_q.copy()
    if info.accepted.any():
        correction[info.accepted] = kernel.generator.minus_log_q(cloud.x[info.accepted], rng)
    return State(cloud, correction), info.accepted


def step(
    density: Target,
    kernel: Kernel,
    state: State,
    proposed: State,
    rng: np.random.Generator,
    draw: int = 0,
) -> tuple[State, np.ndarray]:
    """One draw of n chains: the kernel's jumps, then a local move if it is due.

    Parameters
    ----------
    proposed : State
        ``n * kernel.jumps`` fresh proposals.
    draw : int
        Number of the draw; local moves come in a fixed rhythm, which keeps the chain exact.

    Returns
    -------
    state : State
    accepted : array of shape (n,)
        Share of the jumps that were accepted.
    """
    n = len(state.minus_log_q)
    total = np.zeros(n)
    for i in range(kernel.jumps):
        offered = rows(proposed, slice(i * n, (i + 1) * n))
        state, accepted = jump(state, offered, rng)
        total += accepted
    if draw % kernel.local_every == 0:
        state, _ = local_move(density, kernel, state, rng)
    return state, total / kernel.jumps


def rows(state: State, which: slice) -> State:
    """Return some rows of a state."""
    c = state.cloud
    return State(
        MoveState(c.x[which], c.logp[which], c.grad[which], c.region[which]),
        state.minus_log_q[which],
    )


def _choose(first: np.ndarray, a: State, b: State) -> State:
    column = first[:, None]
    return State(
        MoveState(
            np.where(column, a.cloud.x, b.cloud.x),
            np.where(first, a.cloud.logp, b.cloud.logp),
            np.where(column, a.cloud.grad, b.cloud.grad),
            np.where(first, a.cloud.region, b.cloud.region),
        ),
        np.where(first, a.minus_log_q, b.minus_log_q),
    )


def count_jumps(
    density: Target,
    kernel: Kernel,
    local: RegionDraws,
    weights: Weights,
    rng: np.random.Generator,
    n: int = 400,
) -> tuple[Kernel, list[Status]]:
    """Choose how many jumps a draw needs for neighbouring draws to be nearly independent.

    Draws are evaluated again, on which the kernel relies: they are to have the same density.
    """
    n = n // 4 if density.exhausted() else n
    x, logp = by_weight(local, weights, n, rng)
    ratio = logp + kernel.generator.minus_log_q(x, rng)
    proposed = propose(density, kernel, n, rng).log_ratio
    with np.errstate(invalid="ignore", over="ignore"):
        acceptance = float(np.mean(np.exp(np.minimum(0.0, proposed - ratio))))
        # The same at each draw, by all proposals.
        leaving = np.exp(np.minimum(0.0, proposed - ratio[:, None])).mean(axis=1)
    again = slice(32 if density.exhausted() else CHECKED)
    found = unstable(density.logp(x[again]), logp[again])
    if acceptance < 0.02:
        found.append(
            Status("acceptance", "kernel",
                   f"jumps between modes are accepted with probability {acceptance:.3f} only.",
                   "Draws will be strongly correlated: draw more, and trust the weights' table "
                   "before the draws' frequencies.")
        )  # fmt: skip
    wanted = np.log(0.25) / np.log1p(-min(max(acceptance, 1e-3), 0.999))
    jumps = int(np.clip(np.ceil(wanted), 1, 16))
    sticky = float(np.mean(leaving * jumps < 1.0 / LONG_RUN))
    if sticky > MANY_STICKY and acceptance >= 0.02:
        found.append(
            Status("sticky", "kernel",
                   f"{sticky:.1%} of the posterior is where proposals are far too rare: chains "
                   f"that come there accept no jump for more than {LONG_RUN} draws.",
                   "The tails are heavier than the generator's, or it misses a part: look at R-hat "
                   "and ESS of the draws, and draw more.")
        )  # fmt: skip
    # Where jumps do most of the work, local moves shall not cost much more than they do.
    every = int(np.clip(np.max(kernel.tuning.leapfrog) // 4, 1, 8)) if acceptance > 0.3 else 1
    return replace(kernel, jumps=jumps, local_every=8 if acceptance > 0.8 else every), found


def by_weight(
    local: RegionDraws, weights: Weights, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pick local draws, regions by their weights: points (n, d) and log densities (n,)."""
    regions = rng.choice(len(local), size=n, p=_probabilities(weights.weight))
    rows = [rng.integers(local.logp[k].size) for k in regions]
    x = [
        local.x[k].reshape(-1, local.x[k].shape[-1])[i] for k, i in zip(regions, rows, strict=True)
    ]
    logp = [local.logp[k].ravel()[i] for k, i in zip(regions, rows, strict=True)]
    return np.stack(x), np.array(logp)


def _probabilities(weight: np.ndarray) -> np.ndarray:
    weight = np.where(np.isfinite(weight), weight, 0.0)
    return weight / weight.sum() if weight.sum() > 0 else np.full(len(weight), 1 / len(weight))
