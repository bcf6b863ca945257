"""The diffusion sampler as a generator: proposals with their paths as auxiliary variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.proposals.base import Generator, Proposals

if TYPE_CHECKING:
    from pymc_multimodal.proposals.base import RegionalMixture
    from pymc_multimodal.proposals.lrds.chain import ReverseChain
    from pymc_multimodal.proposals.lrds.control import ControlTraining
    from pymc_multimodal.status import Status

__all__ = ["PathGenerator"]


class PathGenerator(Generator):
    r"""A controlled reverse diffusion with a defensive share, exact on the space of its paths.

    A proposal carries the path :math:`y_{0:K}` by which it came. The target is extended by noising,
    :math:`\gamma(y_0) F(y_{1:K} \mid y_0)`. With the share :math:`\epsilon` of a defensive density
    t, which is noised likewise, proposals have the density

    .. math:: Q = (1 - \epsilon) \, q(y_{0:K}) + \epsilon \, t(y_0) F(y_{1:K} \mid y_0),

    so that the ratio is bounded where that of t is, however the control was learned. On circular
    coordinates the chain runs on the unrolled line. Which copy of a point it ends at is one more
    auxiliary variable, drawn among the copies next to each centre in proportion to the reference.

    Parameters
    ----------
    chain : ReverseChain
    defence : RegionalMixture
        The defensive density t.
    defensive : float
        Share of the defensive density.
    fallbacks : tuple of Status
    training : ControlTraining, optional
        None where no control was trained.

    Notes
    -----
    Noble, Grenioux, Gabrié and Durmus (2025), arXiv 2410.19449. Their weights take the reference
    for the law of its own discretised chain; here they are ratios of the kernels that were used.
    """

    def __init__(
        self,
        chain: ReverseChain,
        defence: RegionalMixture,
        defensive: float,
        fallbacks: tuple[Status, ...] = (),
        training: ControlTraining | None = None,
    ) -> None:
        self.chain, self.defence, self.defensive = chain, defence, defensive
        self.fallbacks, self.training = fallbacks, training
        self.dim, self.auxiliary = chain.dim, chain.auxiliary

    def generate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw ends of the controlled chain, without correction and without the defensive share."""
        x = np.empty((0, self.dim))
        while len(x) < n:
            x = np.concatenate([x, self.chain.draw_points(n - len(x), rng)])
        return x

    def diffuse(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Paths of the controlled chain, noise first, shape (K + 1, n, d)."""
        return self.chain.draw_paths(n, rng)

    def propose(self, n: int, rng: np.random.Generator) -> Proposals:
        """Draws with their corrections, paths drawn along."""
        m = int(rng.binomial(n, self.defensive))
        own = self.chain.draw(n - m, rng)
        own_x = np.where(own.inside[:, None], own.x, np.nan)
        minus_log_q = np.full(n, -np.inf)
        minus_log_q[: n - m][own.inside] = self._minus_log_q(
            own.x[own.inside], own.log_density[own.inside]
        )
        other = self.defence.propose(m, rng)
        minus_log_q[n - m :][other.inside] = self.minus_log_q(other.x[other.inside], rng)
        order = rng.permutation(n)
        return Proposals(np.concatenate([own_x, other.x])[order], minus_log_q[order])

    def minus_log_q(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Corrections of given points, shape (n, d), their paths drawn afresh by noising."""
        return self._minus_log_q(x, self.chain.log_density(x, rng))

    def _minus_log_q(self, x: np.ndarray, log_own: np.ndarray) -> np.ndarray:
        """Minus the log density of proposals at x, from that of the chain."""
        defence = np.log(self.defensive) + self.defence.log_density(x)
        return -np.logaddexp(np.log1p(-self.defensive) + log_own, defence)
