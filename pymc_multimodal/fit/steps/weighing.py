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

__all__ = ["Bridge", "CompareEvidences", "FitProposals"]

# Estimates of the evidences at most: each adds as many draws or proposals as there are, so that
# twelve multiply them by 4,096.
MAX_BRIDGES = 12
# Proposal densities are fitted again when the draws of a region have grown by this factor.
# Conventional.
REFIT_GROWTH = 4


class FitProposals(NeededStep):
    """Fit a normalised density to the draws of each region."""

    name = "proposals"
    text = "fitting proposals"

    def due(self, state: State, settings: FitConfig) -> bool:
        """When the chains have run."""
        return state.samples is None

    def __call__(self, state: State, run: Run) -> State:
        """Fit to the chains that are reserved for it."""
        sampler = region_sampler(state, run)
        draws, previous = draws_of(sampler, known(state.chains)), jumps_of(known(state.chains))
        fitted = fit_regions(run, draws, run.rng(self.name), previous)
        return replace(
            state,
            samples=begin_samples(fitted, run.density.dim),
            fitted_draws=n_draws(known(state.chains)),
        )


class Bridge(NeededStep):
    """Estimate the evidences; add draws or proposals where they make the weights precise."""

    name = "bridge"
    text = "weighing the regions"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Until the weights are as precise as asked, or nothing more is allowed."""
        if state.weights is None:
            return True
        if state.cross_check is not None or state.bridges >= MAX_BRIDGES:
            return False
        return any(part.any() for part in _plan(state, settings))

    def __call__(self, state: State, run: Run) -> State:
        """Make the first estimate, or a more precise one."""
        rng = run.rng(self.name)
        state = (
            self._first(state, run, rng) if state.weights is None else self._next(state, run, rng)
        )
        weights = estimate(known(state.samples), known(state.draws), state.target(run.density))
        run.report(self.name, f"weights within {np.max(weights.weight_se):.2g}, "
                              f"asked {run.settings.target_se:g}")  # fmt: skip
        return replace(state, weights=weights, bridges=state.bridges + 1)

    def _first(self, state: State, run: Run, rng: np.random.Generator) -> State:
        sampler = region_sampler(state, run)
        draws = draws_of(sampler, known(state.chains))
        count = MIN_PROPOSALS if run.closed else FIRST_PROPOSALS
        samples = extend_samples(
            known(state.samples), sampler.target, sampler.partition, np.full(len(draws), count), rng
        )
        return replace(state, draws=draws, samples=samples)

    def _next(self, state: State, run: Run, rng: np.random.Generator) -> State:
        sampler, chains, samples = (
            region_sampler(state, run),
            known(state.chains),
            known(state.samples),
        )
        more_draws, more_proposals = _plan(state, run.settings)
        drawn = n_draws(chains)
        for size in np.unique(drawn[more_draws]):
            regions = np.flatnonzero(more_draws & (drawn == size))
            chains = extend_chains(sampler, chains, regions, int(size), rng)
        draws = draws_of(sampler, chains)
        made = samples.n_proposals
        grown = n_draws(chains) >= REFIT_GROWTH * known(state.fitted_draws)
        if grown.any():
            which = np.flatnonzero(grown)
            previous = [samples.fitted.densities[k] for k in which]
            fitted = fit_regions(run, draws.take(which), rng, previous)
            samples = replace_densities(samples, fitted, which)
        counts = np.where(more_proposals | grown, np.maximum(made, FIRST_PROPOSALS), 0)
        samples = extend_samples(samples, sampler.target, sampler.partition, counts, rng)
        fitted_draws = np.where(
            grown, REFIT_GROWTH * known(state.fitted_draws), known(state.fitted_draws)
        )
        return replace(
            state, chains=chains, draws=draws, samples=samples, fitted_draws=fitted_draws
        )


class CompareEvidences(Step):
    """Compare the evidences with what the proposals of all regions say of them."""

    name = "cross-check"
    text = "comparing two estimates of each evidence"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Once, when the weights are as precise as asked."""
        return state.weights is not None and state.cross_check is None

    def __call__(self, state: State, run: Run) -> State:
        """Compare, with more proposals where the comparison is less precise than the bridge."""
        target, partition = state.target(run.density), known(state.division).partition
        weights = known(state.weights)
        samples, check = cross_check(known(state.samples), target, partition, weights)
        if (more := check.wanted(samples, weights)).any():
            samples = extend_samples(samples, target, partition, more, run.rng(self.name))
            weights = estimate(samples, known(state.draws), target)
            samples, check = cross_check(samples, target, partition, weights)
        return replace(state, samples=samples, weights=weights, cross_check=check)


def _plan(state: State, settings: FitConfig) -> tuple[np.ndarray, np.ndarray]:
    return plan(
        known(state.weights),
        n_draws(known(state.chains)),
        known(state.samples).n_proposals,
        settings.target_se,
        settings.local.max_draws,
    )
