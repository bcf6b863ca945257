"""Draws and proposals are added where they lower the weights' errors most, until precise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.evidence import (
    FIRST_PROPOSALS,
    MIN_PROPOSALS,
    estimate,
    extend_samples,
    plan,
    replace_densities,
)
from pymc_multimodal.regions import draws_of, extend_chains, n_draws
from pymc_multimodal.status import LimitReached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pymc_multimodal.evidence import BridgeSamples, Weights
    from pymc_multimodal.proposals.base import RegionDensity, RegionFit
    from pymc_multimodal.regions import Chains, RegionDraws, RegionSampler

__all__ = ["RunningChains", "refine"]

# Times that something is added at most.
ROUNDS = 12
# Times as many draws as a density was fitted to, from which on it is fitted anew.
GROWTH = 4


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
    samples: BridgeSamples,
    running: RunningChains,
    refit: Callable[[RegionDraws, Sequence[RegionDensity]], RegionFit],
    target_se: float,
    proceed: Callable[[], bool],
    tick: Callable[[str], None],
    rng: np.random.Generator,
) -> Iterator[tuple[BridgeSamples, Weights, RegionDraws]]:
    """Bridge, and again with more draws or proposals until the weights are as precise as asked.

    Parameters
    ----------
    samples : BridgeSamples
        Without proposals yet.
    running : RunningChains
    refit : callable
        ``refit(local, previous)`` fits densities to regions of which there are far more draws.
    target_se : float
    proceed : callable
        Asked before each further round; a limit reached within one ends it.
    tick : callable
        Is told how precise the weights are.
    rng : numpy.random.Generator

    Yields
    ------
    samples : BridgeSamples
        What the weights were made from.
    weights : Weights
    local : RegionDraws
    """
    local = running.draws()
    target, partition = running.sampler.target, running.sampler.partition
    k = len(local)
    first = np.full(k, MIN_PROPOSALS if target.exhausted() else FIRST_PROPOSALS)
    samples = extend_samples(samples, target, partition, first, rng)
    fitted_at = n_draws(running.chains)
    for _ in range(ROUNDS):
        weights = estimate(samples, local, target)
        yield samples, weights, local
        tick(f"weights within {np.max(weights.weight_se):.2g}, asked {target_se:g}")
        drawn, proposals = n_draws(running.chains), samples.n_proposals
        more_draws, more_proposals = plan(
            weights, drawn, proposals, target_se, running.sampler.settings.max_draws
        )
        if not (more_draws | more_proposals).any() or not proceed():
            return
        for size in np.unique(drawn[more_draws]):
            rows = np.flatnonzero(more_draws & (drawn == size))
            running.chains = extend_chains(
                running.sampler, running.chains, rows, int(size), running.rng
            )
        local = running.draws()
        grown = n_draws(running.chains) >= GROWTH * fitted_at
        if grown.any():
            # Four times the draws may support a better density: start its bridge afresh.
            which = np.flatnonzero(grown)
            before = samples.fitted.densities
            fitted = refit(local.take(which), [before[i] for i in which])
            fitted_at = np.where(grown, GROWTH * fitted_at, fitted_at)
            samples = replace_densities(samples, fitted, which)
            more_proposals = more_proposals | grown
        try:
            with target.limited():
                counts = np.where(more_proposals, np.maximum(proposals, FIRST_PROPOSALS), 0)
                samples = extend_samples(samples, target, partition, counts, rng)
        except LimitReached:
            if grown.any():
                return
    yield samples, estimate(samples, local, target), local
