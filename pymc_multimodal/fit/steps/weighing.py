"""Steps that estimate the evidences of the regions and the weights of the modes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.evidence import (
    FIRST_PROPOSALS,
    MIN_PROPOSALS,
    begin_samples,
    cross_check,
    estimate,
    extend_samples,
    plan,
    replace_densities,
)
from pymc_multimodal.fit.state import known
from pymc_multimodal.fit.steps.base import NeededStep, Step
from pymc_multimodal.fit.steps.common import fit_regions, region_sampler
from pymc_multimodal.regions import draws_of, extend_chains, jumps_of, n_draws

if TYPE_CHECKING:
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.settings import FitConfig
    from pymc_multimodal.fit.state import State

__all__ = ["Bridge", "CompareEvidences", "FitProposals", "Refine"]

# Refinements at most: each adds as many draws or proposals as there are, so that
# twelve multiply them by 4,096.
MAX_REFINEMENTS = 12
# Proposals of each region below which an evidence and its error are not estimated. Conventional: a
# generalised Pareto distribution is fitted to a fifth of them, at least to five.
LEAST_PROPOSALS = 25
# Refinements from which on a density that is fitted again may be a network: draws have doubled so
# often, and the error is still too large. Measured: skew-normals in 20 dimensions are precise after
# two refinements, and a network takes 24 of 33 CPU seconds.
NETWORK_REFINEMENTS = 4
# Proposal densities are fitted again when the draws of a region have grown by this factor.
# Conventional.
REFIT_GROWTH = 4


class FitProposals(NeededStep):
    """Fit a normalised density to the draws of each region."""

    name = "proposals"
    text = "fitting proposals"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True when the chains have run."""
        return state.samples is None and not state.ends_early

    def __call__(self, state: State, run: Run) -> State:
        """Fit to the chains that `split_chains` reserves for fitting.

        No network is trained before the errors without one are known: a bridge needs no more than
        a rough density.
        """
        sampler = region_sampler(state, run)
        draws, previous = draws_of(sampler, known(state.chains)), jumps_of(known(state.chains))
        division, all_regions = known(state.division), np.arange(sampler.n_regions)
        rng = run.rng(self.name)
        fitted = fit_regions(run, division, draws, all_regions, rng, previous, network=False)
        return replace(
            state,
            samples=begin_samples(fitted, run.density.dim),
            fitted_draws=n_draws(known(state.chains)),
        )


class Bridge(NeededStep):
    """Estimate the evidence of each region by bridge sampling, and the weights."""

    name = "bridge"
    text = "weighing the regions"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True when proposals are fitted."""
        return state.weights is None

    def __call__(self, state: State, run: Run) -> State:
        """Draw the first proposals, and estimate."""
        sampler, samples = region_sampler(state, run), known(state.samples)
        draws = draws_of(sampler, known(state.chains))
        counts = np.full(len(draws), _first_proposals(run, len(draws)))
        rng = run.rng(self.name)
        samples = extend_samples(samples, sampler.target, sampler.partition, counts, rng)
        weights = estimate(samples, draws, sampler.target)
        return replace(state, draws=draws, samples=samples, weights=weights)


class Refine(Step):
    """Add draws and proposals where they make the weights more precise."""

    name = "refine"
    text = "refining the weights"

    def describe(self, state: State, settings: FitConfig) -> str:
        """Say how precise the weights are."""
        error = np.max(known(state.weights).weight_se)
        return f"{self.text}: errors up to {error:.2g}, asked {settings.target_se:g}"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True until the weights are as precise as asked, or nothing more is allowed."""
        if state.weights is None or state.samples is None or state.cross_check is not None:
            return False
        return state.refinements < MAX_REFINEMENTS and any(map(np.any, _plan(state, settings)))

    def __call__(self, state: State, run: Run) -> State:
        """Double draws or proposals of some regions; refit densities whose draws grew fourfold."""
        sampler, rng = region_sampler(state, run), run.rng(self.name)
        more_draws, more_proposals = _plan(state, run.settings)
        chains, samples = known(state.chains), known(state.samples)
        drawn, fitted_draws = n_draws(chains), known(state.fitted_draws)
        for size in np.unique(drawn[more_draws]):
            regions = np.flatnonzero(more_draws & (drawn == size))
            chains = extend_chains(sampler, chains, regions, int(size), rng)
        draws = draws_of(sampler, chains)
        counts = np.maximum(samples.n_proposals, FIRST_PROPOSALS)
        grown = n_draws(chains) >= REFIT_GROWTH * fitted_draws
        if grown.any():
            which = np.flatnonzero(grown)
            previous = [samples.fitted.densities[k] for k in which]
            network = state.refinements >= NETWORK_REFINEMENTS
            fitted = fit_regions(
                run, known(state.division), draws.take(which), which, rng, previous, network=network
            )
            samples = replace_densities(samples, fitted, which)
        counts = np.where(more_proposals | grown, counts, 0)
        samples = extend_samples(samples, sampler.target, sampler.partition, counts, rng)
        return replace(
            state,
            chains=chains,
            draws=draws,
            samples=samples,
            fitted_draws=np.where(grown, n_draws(chains), fitted_draws),
            weights=estimate(samples, draws, sampler.target),
            refinements=state.refinements + 1,
        )


class CompareEvidences(Step):
    """Estimate the evidences a second time, from the proposals of all regions, and compare."""

    name = "cross-check"
    text = "comparing two estimates of each evidence"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True when the weights are refined, and again if more proposals are wanted."""
        if state.weights is None or state.samples is None:
            return False
        if state.cross_check is None:
            return True
        return state.cross_checks == 1 and bool(_wanted(state).any())

    def __call__(self, state: State, run: Run) -> State:
        """Compare; the second time with as many proposals as make the comparison precise."""
        target, partition = state.target(run.density), known(state.division).partition
        samples, weights = known(state.samples), known(state.weights)
        if state.cross_check is not None:
            samples = extend_samples(samples, target, partition, _wanted(state), run.rng(self.name))
            weights = estimate(samples, known(state.draws), target)
        samples, check = cross_check(samples, target, partition, weights)
        return replace(
            state,
            samples=samples,
            weights=weights,
            cross_check=check,
            cross_checks=state.cross_checks + 1,
        )


def _first_proposals(run: Run, n_regions: int) -> int:
    """Return how many proposals of each region are drawn first: fewer near a limit."""
    if run.density.room() >= FIRST_PROPOSALS * n_regions:
        return FIRST_PROPOSALS
    share = run.density.room(early=False) / n_regions
    return int(np.clip(share, LEAST_PROPOSALS, MIN_PROPOSALS))


def _wanted(state: State) -> np.ndarray:
    """Proposals of each region that make the comparison as precise as the bridge, shape (K,)."""
    return known(state.cross_check).wanted(known(state.samples), known(state.weights))


def _plan(state: State, settings: FitConfig) -> tuple[np.ndarray, np.ndarray]:
    return plan(
        known(state.weights),
        n_draws(known(state.chains)),
        known(state.samples).n_proposals,
        settings.target_se,
        settings.local.max_draws,
    )
