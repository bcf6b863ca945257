"""Draws and proposals are added where they lower the weights' errors most, until precise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.regions import draws_of, extend_chains, n_draws
from pymc_multimodal.status import LimitReached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pymc_multimodal.evidence.weights import BridgeSamples, Weights
    from pymc_multimodal.proposals.base import RegionDensity, RegionFit
    from pymc_multimodal.regions import Chains, RegionDraws, RegionSampler

__all__ = ["RunningChains", "refine"]

# The log evidence of every mode that matters is wanted at least this well (nats), even where
# target_se alone would leave a light mode's weight uncertain by a factor.
MAX_LOG_WEIGHT_SE = 0.1
# Proposals of each region at first, and at most; and where a limit was reached before.
FIRST, MOST, LEAST = 1000, 64_000, 100
# Times that something is added at most.
ROUNDS = 12


@dataclass
class RunningChains:
    """Chains of the regions with their context and their random stream."""

    sampler: RegionSampler
    chains: Chains
    rng: np.random.Generator

    def draws(self) -> RegionDraws:
        """Draws of all regions so far."""
        return draws_of(self.sampler, self.chains)


def refine(
    weighing: BridgeSamples,
    running: RunningChains,
    refit: Callable[[RegionDraws, Sequence[RegionDensity]], RegionFit],
    target_se: float,
    proceed: Callable[[], bool],
    tick: Callable[[str], None],
) -> Iterator[tuple[BridgeSamples, Weights, RegionDraws]]:
    """Bridge, and again with more draws or proposals until the weights are as precise as asked.

    Parameters
    ----------
    weighing : BridgeSamples
        Without proposals yet.
    running : RunningChains
    refit : callable
        ``refit(local, previous)`` fits densities to regions of which there are far more draws.
    target_se : float
    proceed : callable
        Asked before each further round; a limit reached within one ends it.
    tick : callable
        Is told how precise the weights are.

    Yields
    ------
    weighing : BridgeSamples
        What the weights were made from; it is not changed afterwards.
    weights : Weights
    local : RegionDraws
    """
    local = running.draws()
    k, density = len(local), weighing.density
    weighing.extend(np.full(k, LEAST if density.exhausted() else FIRST))
    fitted_at = n_draws(running.chains)
    for _ in range(ROUNDS):
        weights = weighing.weigh(local)
        yield weighing, weights, local
        short = weights.needs(target_se, MAX_LOG_WEIGHT_SE)
        tick(f"weights within {np.max(weights.weight_se):.2g}, asked {target_se:g}")
        drawn = n_draws(running.chains)
        more_draws = short & (weights.from_draws > weights.from_proposals / 3)
        more_draws &= drawn < running.sampler.settings.max_draws
        proposals = np.array([len(r) for r in weighing.ratios])
        more_proposals = short & (weights.from_proposals > weights.from_draws / 3)
        more_proposals &= proposals < MOST
        if not (more_draws | more_proposals).any() or not proceed():
            return
        for size in np.unique(drawn[more_draws]):
            rows = np.flatnonzero(more_draws & (drawn == size))
            running.chains = extend_chains(
                running.sampler, running.chains, rows, int(size), running.rng
            )
        local = running.draws()
        weighing = weighing.copy()
        grown = n_draws(running.chains) >= 4 * fitted_at
        if grown.any():
            # Four times the draws may support a better density: start its bridge afresh.
            which = np.flatnonzero(grown)
            before = weighing.fitted.densities
            fitted = refit(local.take(which), [before[i] for i in which])
            fitted_at = np.where(grown, 4 * fitted_at, fitted_at)
            weighing.refit(fitted, which)
            more_proposals = more_proposals | grown
        try:
            with density.limited():
                weighing.extend(np.where(more_proposals, np.maximum(proposals, FIRST), 0))
        except LimitReached:
            if grown.any():
                return
    yield weighing, weighing.weigh(local), local
