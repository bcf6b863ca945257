"""Moves of the kept draws after an emulation: exact ones, and resampling of judged draws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.kernel import ChainState, choose
from pymc_multimodal.proposals import Generator, Proposals
from pymc_multimodal.regions import PermutedPartition

if TYPE_CHECKING:
    from pymc_multimodal.emulation.rounds import Emulator
    from pymc_multimodal.regions import Partition
    from pymc_multimodal.target import Target

__all__ = ["EmulatedGenerator", "EmulatedJump", "Resampling"]

# Proposals of which one draw of the emulated posterior is resampled. Conventional.
PER_DRAW = 8


class EmulatedGenerator(Generator):
    """The emulated posterior.

    Parameters
    ----------
    emulator : Emulator
    mixture : Generator
        A normalised density near the emulated posterior.
    log_evidence : float
        Log of the integral of the emulated density.
    """

    def __init__(self, emulator: Emulator, mixture: Generator, log_evidence: float) -> None:
        self.emulator, self.mixture, self.log_evidence = emulator, mixture, log_evidence
        self.dim = mixture.dim

    def generate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of the emulated posterior, by importance resampling, shape (n, d)."""
        if not n:
            return np.empty((0, self.dim))
        drawn = self.mixture.propose(PER_DRAW * n, rng)
        inside = np.flatnonzero(drawn.inside)
        log_ratio = self.emulator.log_density(drawn.x[inside]) + drawn.minus_log_q[inside]
        ratio = np.exp(log_ratio - log_ratio.max(initial=-np.inf))
        return drawn.x[rng.choice(inside, size=n, p=ratio / ratio.sum())]

    def propose(self, n: int, rng: np.random.Generator) -> Proposals:
        """Draws with minus their log density."""
        x = self.generate(n, rng)
        return Proposals(x, self.minus_log_q(x, rng))

    def minus_log_q(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Minus the log of the normalised emulated density."""
        return self.log_evidence - self.emulator.log_density(x)


@dataclass(frozen=True)
class EmulatedJump:
    r"""A draw of the emulated posterior from the present point, accepted by the true density.

    The proposal y is the end of some independence Metropolis steps from x that leave the emulated
    density s invariant. Their product is reversible with respect to s, so that y is accepted with
    the probability :math:`\min(1, (\gamma(y) s(x)) / (s(y) \gamma(x)))` (Christen and Fox 2005,
    doi:10.1198/106186005X76983; the surrogate transition method of Liu 2001). One draw costs one
    evaluation of :math:`\gamma`, whatever the emulator's error is.

    Attributes
    ----------
    partition : Partition
    generator : EmulatedGenerator
        The generator of the kernel.
    attempts : int
        Steps on the emulated density.
    """

    partition: Partition
    generator: EmulatedGenerator
    attempts: int

    @property
    def proposals(self) -> int:
        """None are evaluated before the move."""
        return 0

    def __call__(
        self, target: Target, state: ChainState, offered: ChainState, rng: np.random.Generator
    ) -> tuple[ChainState, np.ndarray]:
        """Move every chain once."""
        n, points = len(state), state.points
        mixture = self.generator.mixture
        x, minus_log_s = points.x.copy(), state.minus_log_q.copy()
        ratio = mixture.minus_log_q(x, rng) - minus_log_s
        moved = np.zeros(n, dtype=bool)
        drawn = mixture.propose(n * self.attempts, rng)
        inside, proposed = drawn.inside, np.full(n * self.attempts, np.inf)
        if inside.any():
            proposed[inside] = self.generator.minus_log_q(drawn.x[inside], rng)
        for i in range(self.attempts):
            rows = slice(i * n, (i + 1) * n)
            with np.errstate(invalid="ignore"):
                other = drawn.minus_log_q[rows] - proposed[rows]
                accepted = np.log(rng.random(n)) < other - ratio
            x = np.where(accepted[:, None], drawn.x[rows], x)
            minus_log_s = np.where(accepted, proposed[rows], minus_log_s)
            ratio, moved = np.where(accepted, other, ratio), moved | accepted
        log_u, logp = np.log(rng.random(n)), points.logp.copy()
        if moved.any():
            logp[moved] = target.logp(x[moved])
        with np.errstate(invalid="ignore"):
            accepted = moved & (log_u < logp + minus_log_s - points.logp - state.minus_log_q)
        region = points.region.copy()
        if accepted.any():
            region[accepted] = self.partition.label(x[accepted])
        end = ChainState(replace(points, x=x, logp=logp, region=region), minus_log_s)
        return choose(accepted, end, state), accepted * 1.0

    def take(self, order: np.ndarray) -> EmulatedJump:
        """Renumber the regions: new region i is old region ``order[i]``."""
        return replace(self, partition=PermutedPartition(self.partition, order))


@dataclass(frozen=True, eq=False)
class Resampling:
    """Draws at random among judged draws, by their weights; nothing is evaluated.

    Attributes
    ----------
    x : array of shape (n, d)
    logp, minus_log_q : arrays of shape (n,)
    cumulative : array of shape (n,)
        Sums of the normalised weights.
    region : array of int, shape (n,)
    """

    x: np.ndarray
    logp: np.ndarray
    minus_log_q: np.ndarray
    cumulative: np.ndarray
    region: np.ndarray

    @property
    def proposals(self) -> int:
        """None."""
        return 0

    def __call__(
        self, target: Target, state: ChainState, offered: ChainState, rng: np.random.Generator
    ) -> tuple[ChainState, np.ndarray]:
        """Move every chain to a judged draw."""
        rows = np.searchsorted(self.cumulative, rng.random(len(state)))
        rows = np.minimum(rows, len(self.x) - 1)
        points = replace(
            state.points, x=self.x[rows], logp=self.logp[rows], region=self.region[rows]
        )
        return ChainState(points, self.minus_log_q[rows]), np.ones(len(state))

    def take(self, order: np.ndarray) -> Resampling:
        """Renumber the regions: new region i is old region ``order[i]``."""
        return replace(self, region=np.argsort(order)[self.region])
