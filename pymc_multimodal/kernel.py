"""The Markov kernel of the kept draws: a tuple of moves that leave the target invariant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pymc_multimodal.moves.delayed import delayed_move
from pymc_multimodal.moves.local import MoveParameters, MoveState, state_at
from pymc_multimodal.regions import PermutedPartition
from pymc_multimodal.status import counted

if TYPE_CHECKING:
    from pymc_multimodal.proposals import Generator
    from pymc_multimodal.regions import Partition
    from pymc_multimodal.target.target import Target

__all__ = [
    "ChainState",
    "Jump",
    "Kernel",
    "LocalMove",
    "Move",
    "chain_draws",
    "choose",
    "choose_jumps",
    "draws_ahead",
    "init",
    "jump_acceptance",
    "make_kernel",
    "propose",
    "rows",
    "step",
]

# Probability that no jump of one draw is accepted, at the mean acceptance. Conventional: if a
# quarter of the draws repeat their predecessor, the autocorrelation time is
# (1 + 1/4) / (1 - 1/4) = 1.7.
REPEATED_SHARE = 0.25
# Draws that a chain stays at a point, in the mean over draws of the posterior, by jumps alone. The
# mean acceptance hardly sees a few points in the tails that hold chains for hundreds of jumps.
# Conventional: two draws.
MEAN_STAY = 2.0
# Most jumps of one draw: a bound on the cost of a draw. Conventional.
MAX_JUMPS = 16
# Mean acceptance of jumps from which on a local move of L leapfrog steps is made with every
# (L/4)-th draw, and from which on it is made with every `MAX_EVERY`-th draw.
# Measured: examples/benchmarks/constants.py
JUMPS_SUFFICE, JUMPS_DOMINATE = 0.3, 0.8
# Draws between two local moves at most, and where an evaluation is dear. Conventional: points of a
# local move are evaluated one after the other, those of jumps in one batch.
MAX_EVERY, MAX_EVERY_DEAR = 8, 32


@dataclass(frozen=True)
class ChainState:
    """Positions of n chains, with what the next step needs.

    Attributes
    ----------
    points : MoveState
    minus_log_q : array of shape (n,)
        Minus the log density of the generator at each point; with auxiliary variables
        ``log r(aux | x) - log q(x, aux)`` (`Proposals`).
    """

    points: MoveState
    minus_log_q: np.ndarray

    def __len__(self) -> int:
        return len(self.minus_log_q)

    @property
    def log_ratio(self) -> np.ndarray:
        """Log ratio of target to proposal at each point, shape (n,)."""
        return self.points.logp + self.minus_log_q


class Move(Protocol):
    """A move of n chains that leaves the target invariant."""

    @property
    def proposals(self) -> int:
        """Number of fresh proposals that one chain needs for one application."""
        ...

    def __call__(
        self, target: Target, state: ChainState, offered: ChainState, rng: np.random.Generator
    ) -> tuple[ChainState, np.ndarray]:
        """Move all chains.

        Parameters
        ----------
        target : Target
        state : ChainState
        offered : ChainState
            ``n * proposals`` fresh proposals. Rows ``i * n`` to ``(i + 1) * n - 1`` belong to
            attempt i.
        rng : numpy.random.Generator

        Returns
        -------
        state : ChainState
        accepted : array of shape (n,)
            Share of the attempts that each chain accepted.
        """
        ...

    def take(self, order: np.ndarray) -> Move:
        """Renumber the regions: new region i is old region ``order[i]``."""
        ...


@dataclass(frozen=True)
class Jump:
    """Independence Metropolis steps: row i of each set of proposals is offered to chain i.

    A proposal y is accepted with probability ``min(1, w(y) / w(x))``, w the ratio of target to
    proposal density.

    Parameters
    ----------
    attempts : int
        Steps of one application.
    """

    attempts: int = 1

    @property
    def proposals(self) -> int:
        """One for each attempt."""
        return self.attempts

    def __call__(
        self, target: Target, state: ChainState, offered: ChainState, rng: np.random.Generator
    ) -> tuple[ChainState, np.ndarray]:
        """Attempt the jumps one after another; the target has been evaluated already."""
        n, total = len(state), np.zeros(len(state))
        for i in range(self.attempts):
            proposed = rows(offered, slice(i * n, (i + 1) * n))
            log_u = np.log(rng.random(n))
            with np.errstate(invalid="ignore"):
                accepted = log_u < proposed.log_ratio - state.log_ratio
            state = choose(accepted, proposed, state)
            total += accepted
        return state, total / self.attempts

    def take(self, order: np.ndarray) -> Jump:
        """Return the move itself: no part of it depends on the regions' numbers."""
        return self


@dataclass(frozen=True)
class LocalMove:
    """One local move with the metric of the chain's region; a move out of the region is rejected.

    The rejection makes it exact that each region has a metric of its own. A move that ended in
    another region would have to be reversed with the metric of that region.

    Parameters
    ----------
    partition : Partition
    parameters : MoveParameters
    generator : Generator
        It gives `ChainState.minus_log_q` of the new points.
    """

    partition: Partition
    parameters: MoveParameters
    generator: Generator

    @property
    def proposals(self) -> int:
        """None are needed."""
        return 0

    def __call__(
        self, target: Target, state: ChainState, offered: ChainState, rng: np.random.Generator
    ) -> tuple[ChainState, np.ndarray]:
        """Move every chain once."""
        label = self.partition.label if self.partition.n_regions > 1 else None
        points, info = delayed_move(target, state.points, self.parameters, rng, label=label)
        minus_log_q = state.minus_log_q.copy()
        if info.accepted.any():
            moved = points.x[info.accepted]
            minus_log_q[info.accepted] = self.generator.minus_log_q(moved, rng)
        return ChainState(points, minus_log_q), info.accepted

    def take(self, order: np.ndarray) -> LocalMove:
        """Renumber the regions: new region i is old region ``order[i]``."""
        partition = PermutedPartition(self.partition, order)
        return LocalMove(partition, self.parameters.take(order), self.generator)


@dataclass(frozen=True)
class Kernel:
    """Everything that makes a draw; it is frozen before the first draw that is kept.

    Attributes
    ----------
    partition : Partition
    generator : Generator
        Source of the proposals.
    moves : tuple of Move
        Each draw makes them in this order.
    every : tuple of int
        Move i is made with every ``every[i]``-th draw. The fixed rhythm keeps the chain exact.
    """

    partition: Partition
    generator: Generator
    moves: tuple[Move, ...]
    every: tuple[int, ...]

    def __repr__(self) -> str:
        """Name the moves and the generator; the arrays are in the attributes."""
        moves = ", ".join(
            f"{type(move).__name__} with every draw"
            if n == 1
            else f"{type(move).__name__} with one draw in {n}"
            for move, n in zip(self.moves, self.every, strict=True)
        )
        return (
            f"<Kernel: {moves}; {counted(self.jumps, 'proposal')} for each draw, from "
            f"{type(self.generator).__name__}>"
        )

    @property
    def jumps(self) -> int:
        """Fresh proposals that one chain needs for one draw."""
        return sum(move.proposals for move in self.moves)

    def take(self, order: np.ndarray) -> Kernel:
        """Renumber the regions: new region i is old region ``order[i]``."""
        moves = tuple(move.take(order) for move in self.moves)
        return replace(self, partition=PermutedPartition(self.partition, order), moves=moves)


def make_kernel(
    partition: Partition,
    parameters: MoveParameters,
    generator: Generator,
    *,
    attempts: int = 1,
    local_every: int = 1,
) -> Kernel:
    """Make the kernel of jumps and local moves.

    Parameters
    ----------
    partition : Partition
    parameters : MoveParameters
        Parameters of the local moves.
    generator : Generator
        Source of the jumps.
    attempts : int
        Jumps of one draw.
    local_every : int
        Draws from one local move to the next.

    Returns
    -------
    Kernel
    """
    moves = (Jump(attempts), LocalMove(partition, parameters, generator))
    return Kernel(partition, generator, moves, (1, local_every))


def init(target: Target, kernel: Kernel, x: np.ndarray, rng: np.random.Generator) -> ChainState:
    """Evaluate everything at points x of shape (n, d)."""
    x = target.fold(target.wrap(x))
    points = state_at(target, x, kernel.partition.label(x))
    return ChainState(points, kernel.generator.minus_log_q(x, rng))


def propose(target: Target, kernel: Kernel, n: int, rng: np.random.Generator) -> ChainState:
    """Draw n fresh proposals and evaluate them in one batch; each serves one jump."""
    drawn = kernel.generator.propose(n, rng)
    inside = drawn.inside
    x = np.where(inside[:, None], drawn.x, 0.0)
    region = np.zeros(n, dtype=int)
    logp = np.full(n, -np.inf)
    grad = np.zeros((n, target.dim if target.has_gradient else 0))
    if inside.any():
        some = state_at(target, x[inside], kernel.partition.label(x[inside]))
        region[inside], logp[inside], grad[inside] = some.region, some.logp, some.grad
    minus_log_q = np.where(inside, drawn.minus_log_q, 0.0)
    return ChainState(MoveState(x, logp, grad, region), minus_log_q)


def step(
    target: Target,
    kernel: Kernel,
    state: ChainState,
    offered: ChainState,
    rng: np.random.Generator,
    draw: int = 0,
) -> tuple[ChainState, np.ndarray]:
    """Make one draw of n chains.

    Parameters
    ----------
    target : Target
    kernel : Kernel
    state : ChainState
    offered : ChainState
        ``n * kernel.jumps`` fresh proposals.
    rng : numpy.random.Generator
    draw : int
        Number of the draw, for the rhythm of the moves.

    Returns
    -------
    state : ChainState
    accepted : array of shape (n,)
        Share of the jumps that were accepted.
    """
    n, first = len(state), 0
    accepted = np.zeros(n)
    for move_, every in zip(kernel.moves, kernel.every, strict=True):
        last = first + n * move_.proposals
        if draw % every == 0:
            state, share = move_(target, state, rows(offered, slice(first, last)), rng)
            # Without jumps the moves themselves are counted.
            accepted += share * (move_.proposals if kernel.jumps else 1 / len(kernel.moves))
        first = last
    return state, accepted / max(kernel.jumps, 1)


def chain_draws(
    target: Target,
    kernel: Kernel,
    state: ChainState,
    offered: ChainState,
    rng: np.random.Generator,
    draw: int,
) -> tuple[ChainState, np.ndarray]:
    """Make several draws of one chain; the same as `step` for each of them, but sooner.

    Parameters
    ----------
    target : Target
    kernel : Kernel
    state : ChainState
        Of one chain.
    offered : ChainState
        ``n * kernel.jumps`` fresh proposals, for n draws; without jumps, one draw is made.
    rng : numpy.random.Generator
    draw : int
        Number of the first draw, for the rhythm of the moves.

    Returns
    -------
    states : ChainState
        Rows 0 to n - 1 are the draws.
    accepted : array of shape (n,)
        Share of the jumps that were accepted.
    """
    m = kernel.jumps
    n = len(offered) // m if m else 1
    parts: list[ChainState] = []
    shares: list[np.ndarray] = []
    done = 0
    while done < n:
        run = 0
        while done + run < n and _only_jumps(kernel, draw + done + run):
            run += 1
        proposed = rows(offered, slice(done * m, (done + max(run, 1)) * m))
        if run:
            part, share = _jumps_alone(state, proposed, m, rng)
        else:
            part, share = step(target, kernel, state, proposed, rng, draw + done)
        parts.append(part)
        shares.append(share)
        state = rows(part, slice(-1, None))
        done += max(run, 1)
    return (parts[0] if len(parts) == 1 else _joined(parts)), np.concatenate(shares)


def draws_ahead(kernel: Kernel, draw: int, most: int) -> int:
    """Return how many draws from number `draw` on need at most one other move than jumps.

    Parameters
    ----------
    kernel : Kernel
    draw : int
    most : int
        Largest number that is returned, at least 1.
    """
    n = 1
    while n < most and _only_jumps(kernel, draw + n):
        n += 1
    return n


def _only_jumps(kernel: Kernel, draw: int) -> bool:
    """Whether a draw consists of the attempts of a single `Jump`."""
    due = [m for m, every in zip(kernel.moves, kernel.every, strict=True) if draw % every == 0]
    return len(due) == 1 and isinstance(due[0], Jump) and due[0].proposals == kernel.jumps


def _jumps_alone(
    state: ChainState, offered: ChainState, attempts: int, rng: np.random.Generator
) -> tuple[ChainState, np.ndarray]:
    """Make draws of one chain by jumps, as `Jump` does; NumPy's calls cost more than a jump."""
    log_u = np.log(rng.random(len(offered))).tolist()
    ratio, current = offered.log_ratio.tolist(), float(state.log_ratio[0])
    at, taken, path, shares = 0, 0, [], []
    for j, (proposed, bound) in enumerate(zip(ratio, log_u, strict=True), 1):
        # False where both are minus infinity.
        if bound < proposed - current:
            at, current, taken = j, proposed, taken + 1
        if j % attempts == 0:
            path.append(at)
            shares.append(taken / attempts)
            taken = 0
    which = np.array(path)
    both = _joined([state, offered])
    return ChainState(both.points.take(which), both.minus_log_q[which]), np.array(shares)


def _joined(parts: list[ChainState]) -> ChainState:
    """Return the rows of several states."""
    points = [part.points for part in parts]
    return ChainState(
        MoveState(
            np.concatenate([p.x for p in points]),
            np.concatenate([p.logp for p in points]),
            np.concatenate([p.grad for p in points]),
            np.concatenate([p.region for p in points]),
        ),
        np.concatenate([part.minus_log_q for part in parts]),
    )


def rows(state: ChainState, which: slice) -> ChainState:
    """Return some rows of a state."""
    p = state.points
    points = MoveState(p.x[which], p.logp[which], p.grad[which], p.region[which])
    return ChainState(points, state.minus_log_q[which])


def choose(first: np.ndarray, a: ChainState, b: ChainState) -> ChainState:
    """Take the rows of `a` where `first` is true, those of `b` elsewhere."""
    column = first[:, None]
    return ChainState(
        MoveState(
            np.where(column, a.points.x, b.points.x),
            np.where(first, a.points.logp, b.points.logp),
            np.where(column, a.points.grad, b.points.grad),
            np.where(first, a.points.region, b.points.region),
        ),
        np.where(first, a.minus_log_q, b.minus_log_q),
    )


# ------------------------------------------------------------------ how many jumps a draw needs


def jump_acceptance(draws: np.ndarray, proposals: np.ndarray) -> np.ndarray:
    r"""Probability that a jump is accepted at each draw of the target, shape (n,).

    .. math:: a(x_i) = \frac1m \sum_j \min(1, w(y_j) / w(x_i))

    Parameters
    ----------
    draws, proposals : arrays of shape (n,) and (m,)
        Log ratios log w of draws of the target and of proposals; -inf where the target is zero.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        return np.exp(np.minimum(0.0, proposals - draws[:, None])).mean(axis=1)


def choose_jumps(kernel: Kernel, acceptance: np.ndarray | float, *, dear: bool = False) -> Kernel:
    r"""Set the number of jumps of a draw, and how often the other moves are made.

    Parameters
    ----------
    kernel : Kernel
    acceptance : float or array of shape (n,)
        Probability that a jump is accepted at each draw of the posterior, or one for all.
    dear : bool
        Whether each evaluation is dear.

    Returns
    -------
    Kernel
        With so many jumps that a draw repeats its predecessor with probability `REPEATED_SHARE` at
        the mean acceptance, and that a chain stays at a point for `MEAN_STAY` draws, but at most
        `MAX_JUMPS`; and with local moves that do not cost much more than the jumps.

    Notes
    -----
    At x an independence chain stays for :math:`1 / a(x)` jumps (Liu 1996, "Metropolized independent
    sampling"). The inverse of the mean stay, the harmonic mean of a, also decides how rare local
    moves may be.
    """
    a = np.clip(np.atleast_1d(acceptance), 1e-12, 0.999)
    mean, harmonic = max(float(a.mean()), 1e-3), float(1.0 / np.mean(1.0 / a))
    wanted = max(np.log(REPEATED_SHARE) / np.log1p(-mean), 1.0 / (MEAN_STAY * harmonic))
    attempts = int(np.clip(np.ceil(wanted), 1, MAX_JUMPS))
    moves: list[Move] = []
    every: list[int] = []
    for m in kernel.moves:
        if isinstance(m, Jump):
            moves.append(Jump(attempts))
            every.append(1)
        else:
            moves.append(m)
            every.append(_draws_per_move(m, harmonic, dear))
    return replace(kernel, moves=tuple(moves), every=tuple(every))


def _draws_per_move(m: Move, acceptance: float, dear: bool) -> int:
    """Draws between two applications of a move other than a jump."""
    if acceptance > JUMPS_DOMINATE:
        return MAX_EVERY_DEAR if dear else MAX_EVERY
    if acceptance > JUMPS_SUFFICE and isinstance(m, LocalMove):
        return int(np.clip(np.max(m.parameters.leapfrog) // 4, 1, MAX_EVERY))
    return 1
