"""The move of the kept draws: all units at once given the hubs, then jumps of hubs with units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.kernel import ChainState
from pymc_multimodal.moves import MoveState
from pymc_multimodal.proposals import Generator, Proposals
from pymc_multimodal.regions import PermutedPartition
from pymc_multimodal.status import FitError
from pymc_multimodal.structure.conditional import log_sum
from pymc_multimodal.target.errors import equal_logp

if TYPE_CHECKING:
    from pymc_multimodal.regions import Partition
    from pymc_multimodal.structure.extended import UnitProposals
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.target import Target

__all__ = ["UnitGenerator", "UnitMove"]

# Difference of the log density of a whole from the sum of its units (nats) that proves a wrong
# structure. Conventional: far above rounding, far below what biases draws.
MAX_DIFFERENCE = 1e-3


class UnitGenerator(Generator):
    """The product of a density of the hubs and of a mixture for each unit.

    Parameters
    ----------
    hubs : Generator or None
        A normalised density of the hubs; None where there are none.
    proposals : UnitProposals
        The explanations are those at the nearest anchors, without Newton steps: these need the
        density.
    """

    def __init__(self, hubs: Generator | None, proposals: UnitProposals) -> None:
        self.hubs, self.proposals = hubs, proposals
        self.dim = proposals.units.n_hubs + int(proposals.units.sizes.sum())

    def generate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws without any correction, shape (n, d)."""
        g = np.zeros((n, 0)) if self.hubs is None else self.hubs.generate(n, rng)
        return self._with_units(g, rng)

    def propose(self, n: int, rng: np.random.Generator) -> Proposals:
        """Draws with minus their log density."""
        g = np.zeros((n, 0)) if self.hubs is None else self.hubs.propose(n, rng).x
        inside = np.isfinite(g).all(axis=1)
        x, minus_log_q = np.full((n, self.dim), np.nan), np.full(n, -np.inf)
        if inside.any():
            x[inside] = self._with_units(g[inside], rng)
            minus_log_q[inside] = self.minus_log_q(x[inside], rng)
        return Proposals(x, minus_log_q)

    def minus_log_q(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Minus the log density of the product."""
        units, mixtures = self.proposals.units, self.proposals.mixtures
        g, z = x[:, units.hubs], units.gather(x)
        at = self.proposals.conditional(mixtures.at(g))
        log_q = log_sum(at.log_parts(z[:, None]))[:, 0].sum(axis=1)
        out: np.ndarray = -log_q
        return out if self.hubs is None else out + self.hubs.minus_log_q(g, rng)

    def _with_units(self, g: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        mixtures = self.proposals.mixtures
        at = self.proposals.conditional(mixtures.at(g))
        return self.proposals.units.scatter(g, at.sample(1, rng)[:, 0])


@dataclass(frozen=True)
class UnitMove:
    r"""Draw all units anew at given hubs, then jump to other hubs together with new units.

    Given the hubs g, M - 1 points of each unit are drawn beside the present one, and one of the M
    is chosen by its weight :math:`w_{im} = \gamma_i(z_{im}, g) / q_i(z_{im} | g)`: a Gibbs step on
    the space of all points (Andrieu, Doucet and Holenstein 2010). On the same space jumps to
    :math:`g' \sim Q`, with M fresh points of each unit, are accepted with the probability

    .. math:: \min\Bigl(1, \frac{h(g') \prod_i \sum_m w'_{im} \, Q(g)}
                                {h(g) \prod_i \sum_m w_{im} \, Q(g')}\Bigr)

    (grouped independence Metropolis-Hastings, Andrieu and Roberts 2009). Both leave the target
    invariant for any M, Q and q.

    The points beside the present one are those of its lattice (`Conditional.sample`), which are
    the same ones at every draw as long as the hubs do not move. Without hubs half of the points
    are therefore those of a lattice of their own, shifted anew.

    Attributes
    ----------
    partition : Partition
        Regions of the points.
    generator : UnitGenerator
    attempts : int
        Jumps of one draw; 0 without hubs.
    """

    partition: Partition
    generator: UnitGenerator
    attempts: int

    @property
    def proposals(self) -> int:
        """None are evaluated before the move."""
        return 0

    def __call__(
        self, target: Target, state: ChainState, offered: ChainState, rng: np.random.Generator
    ) -> tuple[ChainState, np.ndarray]:
        """Move every chain once.

        Raises
        ------
        FitError
            If the log density of a point is not the sum of those of its units: the structure is
            wrong.
        """
        hubs, units = self.generator.hubs, self.generator.proposals.units
        g, before = state.points.x[:, units.hubs], units.gather(state.points.x)
        if hubs is None:
            z, logp = self._without_hubs(target.density, g, before, rng)
            # How many units have moved says how well the chain moves.
            share = np.mean((z != before).any(axis=2), axis=1)
            return self._state(target, units.scatter(g, z), logp, rng), share
        n, drawn = len(g), hubs.propose(self.attempts * len(g), rng)
        rows = np.flatnonzero(drawn.inside)
        # The present hubs and all that are jumped to: small arrays take as long as single points.
        g = np.concatenate([g, drawn.x[rows]])
        z, logp, log_marginal = self._drawn(target.density, g, before, rng)
        log_q = np.concatenate([-hubs.minus_log_q(g[:n], rng), -drawn.minus_log_q[rows]])
        ratio, place = log_marginal - log_q, np.full(len(drawn.x), -1)
        place[rows] = n + np.arange(len(rows))
        log_u = np.log(rng.random(place.shape))
        at, jumps = np.arange(n), np.zeros(n)
        for i in range(self.attempts):
            own = slice(i * n, (i + 1) * n)
            with np.errstate(invalid="ignore"):
                accepted = (place[own] >= 0) & (log_u[own] < ratio[place[own]] - ratio[at])
            at = np.where(accepted, place[own], at)
            jumps += accepted
        x = units.scatter(g[at], z[at])
        return self._state(target, x, logp[at], rng), jumps / max(self.attempts, 1)

    def _without_hubs(
        self, density: Density, g: np.ndarray, before: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Choose points of units that are independent: half of them by a fresh lattice."""
        proposals = self.generator.proposals
        half = replace(proposals, points=(proposals.points + 1) // 2)
        return half.draw(density, g, rng, before).beside(half.draw(density, g, rng)).chosen(rng)

    def _drawn(
        self, density: Density, g: np.ndarray, before: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Choose units at hubs (n, H); the first hubs have the present units `before` (p, N, b).

        Returns
        -------
        z : array of shape (n, N, b)
        logp, log_marginal : arrays of shape (n,)
        """
        proposals, parts = self.generator.proposals, []
        for first in range(0, len(g), proposals.rows):
            rows = slice(first, first + proposals.rows)
            own = proposals.draw(density, g[rows], rng, before[rows])
            parts.append((*own.chosen(rng), own.log_marginal))
        z, logp, log_marginal = (np.concatenate(part) for part in zip(*parts, strict=True))
        return z, logp, log_marginal

    def _state(
        self, target: Target, x: np.ndarray, logp: np.ndarray, rng: np.random.Generator
    ) -> ChainState:
        """Evaluate points, and compare them with the sums of their units."""
        if target.has_gradient:
            whole, grad = target.logp_and_grad(x)
        else:
            whole, grad = target.logp(x), np.empty((len(x), 0))
        equal = equal_logp(whole, logp, target.density.resolution, MAX_DIFFERENCE)
        if not equal.all():
            i = int(np.argmin(equal))
            raise FitError(
                f"The log density of a point is {whole[i]:.6f}, and the sum of those of its units "
                f"{logp[i]:.6f}: the units depend on one another. Fit again with structure=False."
            )
        points = MoveState(x, whole, grad, self.partition.label(x))
        return ChainState(points, self.generator.minus_log_q(x, rng))

    def take(self, order: np.ndarray) -> UnitMove:
        """Renumber the regions: new region i is old region ``order[i]``."""
        return replace(self, partition=PermutedPartition(self.partition, order))
