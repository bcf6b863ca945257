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
        proposals, hubs = self.generator.proposals, self.generator.hubs
        units, density = proposals.units, target.density
        g, before = state.points.x[:, units.hubs], units.gather(state.points.x)
        if hubs is None:
            half = replace(proposals, points=(proposals.points + 1) // 2)
            own = half.draw(density, g, rng, before).beside(half.draw(density, g, rng))
        else:
            own = proposals.draw(density, g, rng, before)
        z, logp = own.chosen(rng)
        # Without hubs, how many units have moved says how well the chain moves.
        share = np.mean((z != before).any(axis=2), axis=1)
        if hubs is not None:
            share = np.zeros(len(g))
            ratio = own.log_marginal + hubs.minus_log_q(g, rng)
            for _ in range(self.attempts):
                drawn = hubs.propose(len(g), rng)
                log_u = np.log(rng.random(len(g)))
                rows = np.flatnonzero(drawn.inside)
                if not len(rows):
                    continue
                fresh = proposals.draw(density, drawn.x[rows], rng)
                its_ratio = fresh.log_marginal + drawn.minus_log_q[rows]
                new_z, new_logp = fresh.chosen(rng)
                with np.errstate(invalid="ignore"):
                    accepted = log_u[rows] < its_ratio - ratio[rows]
                to = rows[accepted]
                g[to], z[to] = drawn.x[to], new_z[accepted]
                logp[to], ratio[to] = new_logp[accepted], its_ratio[accepted]
                share[to] += 1.0 / self.attempts
        return self._state(target, units.scatter(g, z), logp, rng), share

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
