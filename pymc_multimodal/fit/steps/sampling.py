"""Steps that sample the regions."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation import (
    FirstAnswer,
    LeftOut,
    approximate_regions,
    region_mixture,
    wide_density,
)
from pymc_multimodal.evidence import (
    leaked_mass,
    negligible_regions,
    quick_weights,
    required_share,
)
from pymc_multimodal.fit.images import confirm_symmetry
from pymc_multimodal.fit.state import known, matching_modes, region_of_modes
from pymc_multimodal.fit.steps.base import NeededStep, Step
from pymc_multimodal.fit.steps.common import region_sampler
from pymc_multimodal.fit.steps.modes import MAX_EXPLORATIONS
from pymc_multimodal.proposals import (
    EllipticalMixture,
    RegionalFamilies,
    hidden_modes,
    laplace,
    with_hidden_modes,
)
from pymc_multimodal.regions import (
    advance_chains,
    ask_of_regions,
    begin_chains,
    connect_regions,
    draws_of,
    positions,
    short_regions,
    skip_regions,
    stuck,
    unmixed,
)
from pymc_multimodal.search import climb_from, modes_of
from pymc_multimodal.status import LimitReached
from pymc_multimodal.target.circle import unroll

if TYPE_CHECKING:
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.settings import FitConfig
    from pymc_multimodal.fit.state import State
    from pymc_multimodal.proposals import RegionDensity

__all__ = [
    "ApproximateRegions",
    "BeginChains",
    "CheckLabels",
    "CheckStuck",
    "ConfirmSymmetry",
    "ConnectRegions",
    "RunChains",
]

# How often the regions are compared with their neighbours: before long runs, and again when the
# shapes of the regions are known well.
CONNECTIONS = 2
# Smallest part of a region's mass at a neighbour's mode for which the region's chains jump there.
# Measured: examples/benchmarks/constants.py
MIN_LEAKED = 1e-3


class BeginChains(NeededStep):
    """Start the chains of every region, adapt their moves, and make the first draws."""

    name = "begin chains"
    text = "adapting the chains of each region"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True when the regions are known, and the first answer was not precise."""
        return state.chains is None and not state.ends_early

    def __call__(self, state: State, run: Run) -> State:
        """Begin with the densities of the first answer as proposals of independence jumps."""
        modes, sampler = known(state.division).modes, region_sampler(state, run)
        guesses = [] if modes.runaway else _guesses(state, run.density.period)
        visit = state.target(run.density).fold(state.must_visit)
        chains = begin_chains(
            sampler, modes, known(state.division).pilot, guesses, visit, run.rng(self.name)
        )
        if sampler.n_regions == 1:
            required = required_share(np.ones(1), run.settings.target_se)
            chains = ask_of_regions(chains, required)
        return replace(state, chains=chains)


class RunChains(Step):
    """Add draws to the chains that have not mixed, or change how these chains move."""

    name = "chains"
    text = "sampling each region"

    def describe(self, state: State, settings: FitConfig) -> str:
        """Say how many regions have mixed."""
        short = short_regions(known(state.chains), settings.local, _until(state, settings))
        k = known(state.division).partition.n_regions
        return f"{self.text}: {k - len(short)} of {k} have mixed"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True until all regions pass their checks or have the most draws allowed."""
        if state.chains is None or state.weights is not None:
            return False
        return len(short_regions(state.chains, settings.local, _until(state, settings))) > 0

    def __call__(self, state: State, run: Run) -> State:
        """Make one pass over the regions that have not mixed."""
        sampler, rng = region_sampler(state, run), run.rng(self.name)
        until = _until(state, run.settings)
        chains = advance_chains(sampler, known(state.chains), rng, until)
        return replace(state, chains=chains)


class ApproximateRegions(Step):
    """Judge densities of the chains' draws by importance sampling, before chains go on."""

    name = "approximate regions"
    text = "importance sampling from the regions"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True once for each division, after the first draws of several regions."""
        if state.division is None or state.chains is None or state.weights is not None:
            return False
        if state.regions_approximated or state.division.modes.runaway:
            return False
        several = state.division.partition.n_regions > 1
        return several and isinstance(settings.first_answer, FirstAnswer) and settings.may_end_early

    def __call__(self, state: State, run: Run) -> State:
        """Approximate; what the chains have met and the sample has not is a reason to go on."""
        assert isinstance(run.settings.first_answer, FirstAnswer)
        sampler, rng, period = region_sampler(state, run), run.rng(self.name), run.density.period
        target = state.target(run.density)
        state = replace(state, regions_approximated=True)
        draws = draws_of(sampler, known(state.chains))
        division = known(state.division)
        fitted = RegionalFamilies().without_network().fit_regions(draws, period, rng)
        fitted = with_hidden_modes(fitted, draws, division.folded_modes, division.region_of_mode)
        densities = [q for q in fitted.densities if isinstance(q, EllipticalMixture)]
        weight, _ = quick_weights(draws, densities)
        x = [part.reshape(-1, part.shape[-1]) for part in draws.x]
        there = [unroll(part, q.centre, q.period) for part, q in zip(x, densities, strict=True)]
        left_out = LeftOut.of(state.search.optima)
        wide = wide_density(state.search.distribution, period, left_out)
        with suppress(LimitReached), run.density.limited():
            found = approximate_regions(
                division.modes,
                region_mixture(densities, there, weight, wide),
                target,
                run.settings.first_answer,
                run.settings.target_se,
                rng,
            )
            logp = np.concatenate([part.ravel() for part in draws.logp])
            found = found.met(target, np.concatenate(x), logp, left_out)
            if found.verdict.precise:
                return replace(state, approximation=found)
        return state


class ConnectRegions(Step):
    """Find regions that hold mass which their chains do not reach, and let the chains jump there.

    It belongs to a mode of a neighbouring region, or to a narrow mode of the region itself.
    """

    name = "connect regions"
    text = "comparing neighbouring regions"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True after the first draws, and again when the chains have mixed."""
        if state.division is None or state.chains is None or state.weights is not None:
            return False
        division = state.division
        if division.partition.n_regions == 1:
            return not division.modes.runaway and state.connections == 0
        return state.connections < CONNECTIONS

    def __call__(self, state: State, run: Run) -> State:
        """Fit quick densities; leave negligible regions alone; connect the others."""
        sampler, rng = region_sampler(state, run), run.rng(self.name)
        draws = draws_of(sampler, known(state.chains))
        fitter = RegionalFamilies().without_network()
        quick = fitter.fit_regions(draws, run.density.period, rng).densities
        (weight, largest), target_se = quick_weights(draws, quick), run.settings.target_se
        negligible = negligible_regions(largest, target_se)
        chains = skip_regions(known(state.chains), negligible)
        chains = ask_of_regions(chains, required_share(weight, target_se))
        share = leaked_mass(sampler.target, sampler.partition, quick, draws, rng)
        neighbours: dict[int, tuple[RegionDensity, list[RegionDensity]]] = {
            int(k): (quick[k], [quick[j] for j in np.flatnonzero(share[k] > MIN_LEAKED)])
            for k in np.flatnonzero(~negligible)
        }
        division = known(state.division)
        if not division.modes.runaway:
            modes, region = division.folded_modes, division.region_of_mode
            for mode in hidden_modes(quick, draws, modes, region):
                if mode.region in neighbours:
                    neighbours[mode.region][1].append(mode.density)
        leaking = {k: pair for k, pair in neighbours.items() if pair[1]}
        chains = connect_regions(sampler, chains, leaking, rng)
        return replace(state, chains=chains, connections=state.connections + 1)


class CheckLabels(Step):
    """Climb from chains that do not mix: they may be in an unknown mode, or in a wrong region."""

    name = "check labels"
    text = "climbing from chains that do not mix"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True once for each division, after sampling, if explorations remain."""
        return not state.labels_checked and _may_divide_again(state)

    def __call__(self, state: State, run: Run) -> State:
        """Divide again where a climb ends in a mode of another region."""
        regions = unmixed(known(state.chains), run.settings.local)
        return _climbed_from(replace(state, labels_checked=True), regions, run)


class CheckStuck(Step):
    """Climb from chains that stay apart, before they use up the draws that they are allowed."""

    name = "check stuck chains"
    text = "climbing from chains that stay apart"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Return True once for each division, if chains are stuck and explorations remain."""
        if state.stuck_checked or not _may_divide_again(state):
            return False
        if known(state.division).modes.runaway:
            return False
        return len(stuck(known(state.chains), settings.local)) > 0

    def __call__(self, state: State, run: Run) -> State:
        """Divide again where a climb ends in a mode of another region."""
        regions = stuck(known(state.chains), run.settings.local)
        return _climbed_from(replace(state, stuck_checked=True), regions, run)


class ConfirmSymmetry(NeededStep):
    """Compare the log densities of draws with those of their images."""

    name = "confirm symmetry"
    text = "confirming the symmetry"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Once, where the density is folded."""
        if state.division is None or state.division.cells is None:
            return False
        return not state.symmetry_confirmed

    def __call__(self, state: State, run: Run) -> State:
        """Compare; `SymmetryBroken` is raised where they differ."""
        draws = state.draws
        if draws is None:
            draws = draws_of(region_sampler(state, run), known(state.chains))
        found = state.approximation
        sample = None if found is None else found.sample
        confirm_symmetry(state.target(run.density), draws, sample, run.rng(self.name))
        return replace(state, symmetry_confirmed=True)


def _may_divide_again(state: State) -> bool:
    """Whether chains have run that are not weighed yet, and explorations remain."""
    return (
        state.chains is not None and state.weights is None and state.explorations < MAX_EXPLORATIONS
    )


def _climbed_from(state: State, regions: np.ndarray, run: Run) -> State:
    """Climb from where the chains of some regions are; divide again where labels were wrong."""
    division, settings = known(state.division), run.settings.modes
    points = positions(known(state.chains), regions)
    if division.modes.runaway or not len(points):
        return state
    search, labels = climb_from(run.density, state.search, settings, points)
    same = matching_modes(modes_of(run.density, search, settings), division.all_modes)
    climbed = region_of_modes(labels, same, division.region_of_mode)
    if (climbed == division.partition.label(points)).all():
        return replace(state, search=search)
    return state.redivided(search, points)


def _guesses(state: State, period: np.ndarray) -> list[EllipticalMixture]:
    """Return a density for each region: that of the first answer, or Laplace's approximation."""
    division, found = known(state.division), state.approximation
    modes = division.modes
    guesses = [laplace(x, s, period) for x, s in zip(modes.locations, modes.scale, strict=True)]
    if found is None or not np.array_equal(found.modes.locations, division.all_modes.locations):
        return guesses
    # A region of several modes is described by none of their densities.
    region = division.region_of_mode
    single = np.bincount(region, minlength=len(guesses)) == 1
    first = {int(r): k for k, r in enumerate(region)}
    return [
        found.mixture.densities[first[r]] if single[r] else guess for r, guess in enumerate(guesses)
    ]


def _until(state: State, settings: FitConfig) -> int | None:
    """Most draws of a chain before the first comparison of regions; None afterwards."""
    single = known(state.division).partition.n_regions == 1
    return 2 * settings.local.draws if state.connections == 0 and not single else None
