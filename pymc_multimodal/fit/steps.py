"""The steps of a fit, in their order. A step maps a state to a new one.

Each step says from the numbers of the state whether it is due, and whether there is no result
without it. A step is short: what an interruption or a limit loses is one of them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from pymc_multimodal.challenge import Challenge, FitCandidate, begin_challenge, challenge
from pymc_multimodal.evidence import (
    FIRST_PROPOSALS,
    MIN_PROPOSALS,
    begin_samples,
    cross_check,
    estimate,
    extend_samples,
    leaked_mass,
    negligible_regions,
    plan,
    replace_densities,
)
from pymc_multimodal.fit.images import confirm_symmetry, fold_pilot
from pymc_multimodal.fit.choose_kernel import choose_kernel
from pymc_multimodal.fit.state import Division, Exploration, matching_modes, region_of_modes
from pymc_multimodal.proposals import Hybrid, laplace
from pymc_multimodal.regions import (
    RegionSampler,
    advance_chains,
    begin_chains,
    connect_regions,
    diagnostics_of,
    divide,
    draws_of,
    explore,
    extend_chains,
    jumps_of,
    mixing_groups,
    n_draws,
    positions,
    short_regions,
    skip_regions,
    unmixed,
)
from pymc_multimodal.search import climb_from, find_modes, modes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.settings import FitConfig
    from pymc_multimodal.fit.state import State
    from pymc_multimodal.proposals import RegionDensity, RegionFit
    from pymc_multimodal.regions import RegionDraws

__all__ = ["STEPS", "Step"]

# Explorations of the space until new modes and misplaced chains are left to the challenge.
# Conventional: the third changes regions in fewer than one fit in a hundred.
MAX_EXPLORATIONS = 3
# Draws from which the classifier of the regions is trained: its cost grows with their square.
MAX_TRAINING_DRAWS = 4000
# Searches of the regions for their neighbours' mass: a first one before long runs, a second one
# when the shapes of the regions are known well.
CONNECTIONS = 2
# Part of a region's mass that has the shape of a neighbour's mode from which the region's chains
# jump to that shape. Measured: examples/benchmarks/constants.py
MIN_LEAKED = 1e-3
# Estimates of the evidences at most: each adds as many draws or proposals as there are, so that
# twelve multiply them by 4,096.
MAX_BRIDGES = 12
# Proposal densities are fitted again when the draws of a region have grown by this factor.
# Conventional.
REFIT_GROWTH = 4


class Step(Protocol):
    """A short part of a fit.

    Attributes
    ----------
    name : str
        Name of the random stream, of the journal's entries and of the progress report.
    text : str
        What a user is told.
    share : float
        Part of every limit that this step may use up.
    """

    name: ClassVar[str]
    text: ClassVar[str]
    share: ClassVar[float]

    def due(self, state: State, settings: FitConfig) -> bool:
        """Tell from the state whether the step is to be made; no evaluation is made."""
        ...

    def needed(self, state: State) -> bool:
        """Tell whether there is no result without the step: then it is made beyond limits."""
        ...

    def __call__(self, state: State, run: Run) -> State:
        """Make the step."""
        ...


class _Optional:
    """A step that can be left out."""

    share: ClassVar[float] = 1.0

    def needed(self, state: State) -> bool:
        """Never."""
        return False


class _Needed(_Optional):
    """A step without which there is no result."""

    def needed(self, state: State) -> bool:
        """Until there is a result."""
        return state.best is None


# ------------------------------------------------------------------ modes and regions


class FindModes(_Optional):
    """Climb from one batch of starts."""

    name = "search"
    text = "searching for modes"
    share = 0.25

    def due(self, state: State, settings: FitConfig) -> bool:
        """Until a batch brings no new mode, and every mode was found often."""
        return not state.search.settled

    def needed(self, state: State) -> bool:
        """Before the first batch."""
        return not state.search.begun

    def __call__(self, state: State, run: Run) -> State:
        """Make one batch."""
        settings, rng = run.settings.modes, run.rng(self.name)
        return replace(state, search=find_modes(run.density, state.search, settings, rng))


class Explore(_Needed):
    """Run short unrestricted chains from every mode, and climb from where they end."""

    name = "explore"
    text = "short chains from each mode"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Until the chains reach no unknown mode."""
        return state.exploration is None

    def __call__(self, state: State, run: Run) -> State:
        """Explore once."""
        density, settings = run.density, run.settings
        modes = modes_of(density, state.search, settings.modes)
        pilot = explore(density, modes, settings.local, run.rng(self.name))
        ends = pilot.draws[:, :, -1].reshape(-1, density.dim)
        points = np.concatenate([ends, state.misplaced])
        search, labels = climb_from(density, state.search, settings.modes, points)
        same = matching_modes(modes_of(density, search, settings.modes), modes)
        state = replace(state, search=search, explorations=state.explorations + 1)
        if same is None and state.explorations < MAX_EXPLORATIONS and not run.closed:
            return state
        every = np.arange(len(modes))
        misplaced = region_of_modes(labels[len(ends) :], same, every)
        return replace(state, exploration=Exploration(modes, pilot, misplaced))


class Divide(_Needed):
    """Divide the space into one region for each mode, or for several among which chains move."""

    name = "divide"
    text = "dividing the space into regions"

    def due(self, state: State, settings: FitConfig) -> bool:
        """When the chains have explored the space."""
        return state.division is None

    def __call__(self, state: State, run: Run) -> State:
        """Fold the density where it is symmetric, join modes, and train the classifier."""
        assert state.exploration is not None
        known, pilot = state.exploration.modes, state.exploration.pilot
        target, known, pilot = fold_pilot(run.density, state.search.optima, known, pilot)
        group = mixing_groups(target, pilot.draws)
        modes = known
        if group.max() + 1 < len(known):
            modes, pilot = known.merged(group), pilot.merged(group)
        where = state.exploration.misplaced_modes
        partition = divide(
            target,
            _training_draws(pilot.draws),
            modes,
            run.settings.regions,
            (target.fold(state.misplaced), np.where(where >= 0, group[where], -1)),
        )
        division = Division(target.cells, known, modes, group, pilot, partition)
        return replace(state, division=division)


# ------------------------------------------------------------------ chains inside the regions


class BeginChains(_Needed):
    """Start the chains of every region, adapt their moves, and make the first draws."""

    name = "begin chains"
    text = "adapting the chains of each region"

    def due(self, state: State, settings: FitConfig) -> bool:
        """When the regions are known."""
        return state.chains is None

    def __call__(self, state: State, run: Run) -> State:
        """Begin with Laplace densities as first proposals of independence jumps."""
        assert state.division is not None
        modes, sampler = state.division.modes, _sampler(state, run)
        period = run.density.period
        shapes = () if modes.runaway else zip(modes.locations, modes.scale, strict=True)
        guesses = [laplace(x, scale, period) for x, scale in shapes]
        visit = sampler.target.fold(state.must_visit)
        rng, every = run.rng(self.name), np.arange(len(modes))
        chains = begin_chains(sampler, modes, state.division.pilot, guesses, visit, rng)
        chains = extend_chains(sampler, chains, every, run.settings.local.draws, rng)
        return replace(state, chains=chains)


class RunChains(_Optional):
    """Add draws to the chains that have not mixed, or change how these chains move."""

    name = "chains"
    text = "sampling each region"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Until all regions pass their checks or have the most draws allowed."""
        if state.chains is None or state.weights is not None:
            return False
        return len(short_regions(state.chains, settings.local, _until(state, settings))) > 0

    def __call__(self, state: State, run: Run) -> State:
        """Make one pass over the regions that have not mixed."""
        assert state.chains is not None
        sampler, rng = _sampler(state, run), run.rng(self.name)
        until = _until(state, run.settings)
        chains = advance_chains(sampler, state.chains, rng, until)
        return replace(state, chains=chains)


class ConnectRegions(_Optional):
    """Find regions that hold mass of their neighbours' modes, and let their chains jump there."""

    name = "connect regions"
    text = "comparing neighbouring regions"

    def due(self, state: State, settings: FitConfig) -> bool:
        """After the first draws, and again when the chains have mixed."""
        if state.division is None or state.weights is not None:
            return False
        return state.division.partition.n_regions > 1 and state.connections < CONNECTIONS

    def __call__(self, state: State, run: Run) -> State:
        """Fit quick densities; leave negligible regions alone; connect the others."""
        assert state.chains is not None
        sampler, rng = _sampler(state, run), run.rng(self.name)
        draws = draws_of(sampler, state.chains)
        quick = Hybrid().without_network().fit_regions(draws, run.density.period, rng).densities
        negligible = negligible_regions(draws, quick, run.settings.target_se)
        chains = skip_regions(state.chains, negligible)
        share = leaked_mass(sampler.target, sampler.partition, quick, draws, rng)
        neighbours = {
            int(k): (quick[k], [quick[j] for j in np.flatnonzero(share[k] > MIN_LEAKED)])
            for k in np.flatnonzero(~negligible)
        }
        leaking = {k: pair for k, pair in neighbours.items() if pair[1]}
        chains, _ = connect_regions(sampler, chains, leaking, rng)
        return replace(state, chains=chains, connections=state.connections + 1)


class CheckLabels(_Optional):
    """Climb from chains that do not mix: they may be in an unknown mode, or in a wrong region."""

    name = "check labels"
    text = "climbing from chains that do not mix"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Once, when the chains have run, unless the space was explored often enough."""
        if state.chains is None or state.labels_checked or state.weights is not None:
            return False
        return state.explorations < MAX_EXPLORATIONS

    def __call__(self, state: State, run: Run) -> State:
        """Divide again where a climb ends in a mode of another region."""
        assert state.division is not None
        assert state.chains is not None
        division = state.division
        sampler = _sampler(state, run)
        points = positions(state.chains, unmixed(sampler, state.chains))
        checked = replace(state, labels_checked=True)
        if division.modes.runaway or not len(points):
            return checked
        settings = run.settings.modes
        search, labels = climb_from(run.density, state.search, settings, points)
        same = matching_modes(modes_of(run.density, search, settings), division.known)
        climbed = region_of_modes(labels, same, division.region_of_known)
        if (climbed == division.partition.label(points)).all():
            return replace(checked, search=search)
        return state.redivided(search, points)


class ConfirmSymmetry(_Needed):
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
        assert state.chains is not None
        sampler = _sampler(state, run)
        confirm_symmetry(sampler.target, draws_of(sampler, state.chains), run.rng(self.name))
        return replace(state, symmetry_confirmed=True)


# ------------------------------------------------------------------ evidences and weights


class FitProposals(_Needed):
    """Fit a normalised density to the draws of each region."""

    name = "proposals"
    text = "fitting proposals"

    def due(self, state: State, settings: FitConfig) -> bool:
        """When the chains have run."""
        return state.samples is None

    def __call__(self, state: State, run: Run) -> State:
        """Fit to the chains that are reserved for it."""
        assert state.chains is not None
        sampler = _sampler(state, run)
        draws, previous = draws_of(sampler, state.chains), jumps_of(state.chains)
        fitted = _fit_regions(run, draws, run.rng(self.name), previous)
        return replace(
            state,
            samples=begin_samples(fitted, run.density.dim),
            fitted_draws=n_draws(state.chains),
        )


class Bridge(_Needed):
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
        state = self._first(state, run, rng) if state.weights is None else self._next(state, run, rng)
        assert state.samples is not None
        assert state.draws is not None
        weights = estimate(state.samples, state.draws, state.target(run.density))
        run.report(self.name, f"weights within {np.max(weights.weight_se):.2g}, "
                              f"asked {run.settings.target_se:g}")  # fmt: skip
        return replace(state, weights=weights, bridges=state.bridges + 1)

    def _first(self, state: State, run: Run, rng: np.random.Generator) -> State:
        sampler = _sampler(state, run)
        draws = draws_of(sampler, state.chains)
        count = MIN_PROPOSALS if run.closed else FIRST_PROPOSALS
        samples = extend_samples(
            state.samples, sampler.target, sampler.partition, np.full(len(draws), count), rng
        )
        return replace(state, draws=draws, samples=samples)

    def _next(self, state: State, run: Run, rng: np.random.Generator) -> State:
        assert state.samples is not None
        sampler, chains, samples = _sampler(state, run), state.chains, state.samples
        more_draws, more_proposals = _plan(state, run.settings)
        drawn = n_draws(chains)
        for size in np.unique(drawn[more_draws]):
            regions = np.flatnonzero(more_draws & (drawn == size))
            chains = extend_chains(sampler, chains, regions, int(size), rng)
        draws = draws_of(sampler, chains)
        made = samples.n_proposals
        grown = n_draws(chains) >= REFIT_GROWTH * state.fitted_draws
        if grown.any():
            which = np.flatnonzero(grown)
            previous = [samples.fitted.densities[k] for k in which]
            fitted = _fit_regions(run, draws.take(which), rng, previous)
            samples = replace_densities(samples, fitted, which)
        counts = np.where(more_proposals | grown, np.maximum(made, FIRST_PROPOSALS), 0)
        samples = extend_samples(samples, sampler.target, sampler.partition, counts, rng)
        fitted_draws = np.where(grown, REFIT_GROWTH * state.fitted_draws, state.fitted_draws)
        return replace(
            state, chains=chains, draws=draws, samples=samples, fitted_draws=fitted_draws
        )


class CompareEvidences(_Optional):
    """Compare the evidences with what the proposals of all regions say of them."""

    name = "cross-check"
    text = "comparing two estimates of each evidence"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Once, when the weights are as precise as asked."""
        return state.weights is not None and state.cross_check is None

    def __call__(self, state: State, run: Run) -> State:
        """Compare, with more proposals where the comparison is less precise than the bridge."""
        assert state.division is not None
        assert state.weights is not None
        target, partition = state.target(run.density), state.division.partition
        weights = state.weights
        samples, check = cross_check(state.samples, target, partition, weights)
        if (more := check.wanted(samples, weights)).any():
            samples = extend_samples(samples, target, partition, more, run.rng(self.name))
            weights = estimate(samples, state.draws, target)
            samples, check = cross_check(samples, target, partition, weights)
        return replace(state, samples=samples, weights=weights, cross_check=check)


class ChallengeFit(_Optional):
    """Try to prove the fit incomplete; where that succeeds, begin again from what was found."""

    name = "challenge"
    text = "searching for what was missed"

    def due(self, state: State, settings: FitConfig) -> bool:
        """Once for each fit."""
        asked = isinstance(settings.challenge, Challenge)
        return asked and state.cross_check is not None and state.challenge_result is None

    def __call__(self, state: State, run: Run) -> State:
        """Search by tempered particles and by further climbs."""
        assert isinstance(run.settings.challenge, Challenge)
        assert state.division is not None
        assert state.draws is not None
        assert state.samples is not None
        before = state.challenge or begin_challenge(run.settings.challenge)
        candidate = FitCandidate(
            known=state.division.known,
            partition=state.division.partition,
            densities=state.samples.fitted.densities,
            draws=state.draws,
            parameters=state.chains.parameters,
            weights=state.final_weights,
            target=state.target(run.density),
        )
        after, search, result = challenge(
            candidate, state.search, before, run.settings, run.evals, run.rng(self.name)
        )
        state = replace(state, search=search, challenge=after, challenge_result=result)
        if not len(result.starts) or before.rounds_left == 0 or run.closed:
            return state
        points = after.counterexamples
        search, _ = climb_from(run.density, search, run.settings.modes, points)
        return state.restarted(search, result.starts)


# ------------------------------------------------------------------ what draws are made with


class Learn(_Optional):
    """Learn the generator of the whole posterior."""

    name = "generator"
    text = "learning the generator"

    def due(self, state: State, settings: FitConfig) -> bool:
        """When nothing is missing any more."""
        return state.generator is None

    def __call__(self, state: State, run: Run) -> State:
        """Learn from the draws of the regions and their weights."""
        assert state.samples is not None
        assert state.draws is not None
        learner = run.settings.generator_for(run.density)
        weights = state.final_weights.weight
        generator = learner.build(
            state.samples.fitted, state.draws, weights, run.rng(self.name), state.target(run.density)
        )
        return replace(state, generator=generator)


class ChooseKernel(_Optional):
    """Choose how many jumps a draw needs."""

    name = "kernel"
    text = "choosing the kernel"

    def due(self, state: State, settings: FitConfig) -> bool:
        """When the generator is known."""
        return state.kernel is None

    def __call__(self, state: State, run: Run) -> State:
        """Measure how often jumps are accepted."""
        kernel, statuses = choose_kernel(state, run.density, run.rng(self.name))
        return replace(state, kernel=kernel, kernel_statuses=tuple(statuses))


STEPS: tuple[Step, ...] = (
    FindModes(),
    Explore(),
    Divide(),
    BeginChains(),
    RunChains(),
    ConnectRegions(),
    CheckLabels(),
    ConfirmSymmetry(),
    FitProposals(),
    Bridge(),
    CompareEvidences(),
    ChallengeFit(),
    Learn(),
    ChooseKernel(),
)
"""The pipeline. The next step is the first one that is due."""


# ------------------------------------------------------------------ what several steps need


def _until(state: State, settings: FitConfig) -> int | None:
    """Most draws of a chain before the regions were compared for the first time."""
    assert state.division is not None
    single = state.division.partition.n_regions == 1
    return 2 * settings.local.draws if state.connections == 0 and not single else None


def _training_draws(draws: np.ndarray) -> np.ndarray:
    """Thin the second half of the short chains, (K, chains, moves, d), to (K, m, d)."""
    late = draws[:, :, draws.shape[2] // 2 :]
    stride = max(1, int(np.ceil(late[..., 0].size / MAX_TRAINING_DRAWS)))
    return late[:, :, ::stride].reshape(len(draws), -1, draws.shape[3])


def _sampler(state: State, run: Run) -> RegionSampler:
    assert state.division is not None
    division = state.division
    return RegionSampler(
        state.target(run.density),
        division.partition,
        run.settings.local,
        division.modes.locations,
        partial(_fit_jumps, run),
    )


def _fit_regions(
    run: Run,
    draws: RegionDraws,
    rng: np.random.Generator,
    previous: Sequence[RegionDensity | None],
) -> RegionFit:
    """Fit a normalised density to each region; no network is trained when a limit is reached."""
    learner = run.settings.generator_for(run.density)
    if run.closed:
        learner = learner.without_network()
    return learner.fit_regions(draws, run.density.period, rng, previous)


def _fit_jumps(
    run: Run,
    draws: RegionDraws,
    rng: np.random.Generator,
    previous: Sequence[RegionDensity | None],
) -> Sequence[RegionDensity]:
    return _fit_regions(run, draws, rng, previous).densities


def _plan(state: State, settings: FitConfig) -> tuple[np.ndarray, np.ndarray]:
    assert state.samples is not None
    return plan(
        state.weights,
        n_draws(state.chains),
        state.samples.n_proposals,
        settings.target_se,
        settings.local.max_draws,
    )
