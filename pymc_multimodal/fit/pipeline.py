"""The stages in order, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.challenge import (
    Challenge,
    FitCandidate,
    begin_challenge,
    challenge,
)
from pymc_multimodal.evidence import (
    Weights,
    begin_samples,
    cross_check,
    estimate,
    extend_samples,
    leaked_mass,
    negligible_regions,
)
from pymc_multimodal.fit.clock import Clock
from pymc_multimodal.fit.images import Orbits, broken_status, fold_pilot, spread_statuses
from pymc_multimodal.fit.refine import RunningChains, refine
from pymc_multimodal.fit.result import Fit
from pymc_multimodal.fit.settings import FitConfig
from pymc_multimodal.kernel import Kernel, count_jumps
from pymc_multimodal.proposals import Hybrid, RegionalMixture, untrained
from pymc_multimodal.proposals.elliptical import laplace
from pymc_multimodal.regions import (
    ChainDiagnostics,
    LabelledPoints,
    PermutedPartition,
    RegionDraws,
    RegionSampler,
    advance_chains,
    begin_chains,
    connect_regions,
    diagnostics_of,
    divide,
    draws_of,
    explore,
    jumps_of,
    mixing_groups,
    positions,
    short_regions,
    skip_regions,
    unmixed,
)
from pymc_multimodal.search import (
    Modes,
    begin_search,
    climb_from,
    find_modes,
    modes_of,
)
from pymc_multimodal.status import LimitReached, Status, SymmetryBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pymc_multimodal.challenge import ChallengeResult, ChallengeState
    from pymc_multimodal.moves.local import MoveParameters
    from pymc_multimodal.proposals import Generator, RegionDensity
    from pymc_multimodal.proposals.base import RegionFit
    from pymc_multimodal.regions import Chains, Partition
    from pymc_multimodal.search import ModeSearch, Search
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.target import Target

__all__ = ["fit_density"]


# Draws that the classifier of the regions is trained on.
MAX_TRAINING = 4000
# Part of a region's mass that belongs to a neighbour's mode from which on chains jump there.
MIN_LEAKED = 1e-3


def fit_density(
    density: Density,
    config: FitConfig,
    *,
    tick: Callable[[str, str], None] = lambda stage, text: None,
) -> Fit:
    """Carry a density through all stages.

    Parameters
    ----------
    density : Density
    config : FitConfig
    tick : callable
        ``tick(stage, text)`` is told how far the fit is.

    Returns
    -------
    Fit

    Raises
    ------
    ModelError
        If the density cannot be started from anywhere.

    Notes
    -----
    An interruption (Ctrl-C) after the regions were weighed for the first time ends the fit with
    what it has by then, and a status says so; before that, and the second time, it is raised.
    """
    clock = Clock(density, config.max_evals, config.max_seconds)
    with clock.keeping_limits():
        return _fit(density, config, tick, clock)


@dataclass
class _SearchHolder:
    """Holds the newest state of a search."""

    density: Density
    settings: ModeSearch
    search: Search

    def extend(self, points: np.ndarray) -> tuple[Modes, np.ndarray]:
        """Climb from points; returns the modes, and the mode of each point, -1 for none."""
        self.search, labels = climb_from(self.density, self.search, self.settings, points)
        return modes_of(self.density, self.search, self.settings), labels


@dataclass(frozen=True)
class _Round:
    """What a fit has once its regions are weighed, from which a result can be made."""

    modes: Modes
    partition: Partition
    folded: Target
    local: RegionDraws
    chains: ChainDiagnostics
    tuning: MoveParameters
    weights: Weights
    fitted: RegionFit
    statuses: tuple[Status, ...] = ()
    verdict: ChallengeResult | None = None


def _fit(
    density: Density, config: FitConfig, tick: Callable[[str, str], None], clock: Clock
) -> Fit:
    seeds = np.random.default_rng(config.random_seed).spawn(10)
    tick("modes", "searching for modes")
    search = begin_search(density, config.modes, config.symmetry, seeds[0])
    finder = _SearchHolder(density, config.modes, search)
    rounds = _rounds(density, config, clock, seeds, tick, finder)
    # Before the first round is complete there is nothing to give; from then on there always is.
    try:
        done: _Round = next(rounds)
        with clock.interruptible():
            while (after := next(rounds, None)) is not None:
                done = after
    except SymmetryBroken:
        alone = _fit(density, replace(config, symmetry=False), tick, clock)
        return replace(alone, statuses=(broken_status(), *alone.statuses))
    folded, local, weights, verdict = done.folded, done.local, done.weights, done.verdict
    if verdict is not None:
        weights = weights.widened(verdict.gap)

    orbits = Orbits.of(folded, done.partition, done.modes)
    if orbits is not None and not orbits.holds(density, local, seeds[9]):
        alone = _fit(density, replace(config, symmetry=False), tick, clock)
        return replace(alone, statuses=(broken_status(), *alone.statuses))
    share = orbits.images if orbits is not None and orbits.listed else 1
    order = np.argsort(-weights.weight / share, kind="stable")
    rank = np.argsort(order)
    statuses = [*done.partition.statuses, *done.chains.statuses, *weights.statuses]
    statuses += [*done.statuses, *done.fitted.statuses]
    statuses += verdict.statuses if verdict is not None else ()
    statuses = [s if s.mode is None else replace(s, mode=int(rank[s.mode])) for s in statuses]
    statuses = [*done.modes.statuses, *statuses]
    modes, local, chains = done.modes.take(order), local.take(order), done.chains.take(order)
    weights = weights.take(order)
    verdict = None if verdict is None else verdict.take(order)
    fitted = replace(done.fitted, densities=tuple(done.fitted.densities[i] for i in order))
    learner = config.generator_for(density)
    generator: Generator = RegionalMixture(fitted.densities, weights.weight)
    kernel = Kernel(PermutedPartition(done.partition, order), done.tuning.take(order), generator)
    found: list[Status] = []
    with clock.interruptible():
        if not clock.interrupted:
            generator = learner.build(fitted, local, weights.weight, seeds[5], folded)
            kernel = replace(kernel, generator=generator)
        kernel, found = count_jumps(folded, kernel, local, weights, seeds[6])
    clock.lap("kernel")
    statuses += [*generator.fallbacks, *found, *clock.unsound()]
    statuses += clock.unfinished(config.target_se, float(np.max(weights.weight_se)))
    orbits = Orbits.of(folded, kernel.partition, modes)
    if orbits is not None:
        statuses = [orbits.status(), *spread_statuses(orbits, statuses)]
        modes, local, weights, verdict = orbits.shown(modes, local, weights, verdict)
        chains = chains.take(orbits.rows)
    return Fit(
        config=replace(config, generator=learner),
        names=density.names,
        modes=modes,
        draws=local,
        chains=chains,
        weights=weights,
        kernel=kernel,
        verdict=verdict,
        statuses=tuple(statuses),
        n_logp_evals=clock.spent,
        n_grad_evals=density.n_grad_evals - clock.first_grad,
        seconds=clock.seconds,
        orbits=orbits,
    )


def _rounds(
    density: Density,
    config: FitConfig,
    clock: Clock,
    seeds: list[np.random.Generator],
    tick: Callable[[str, str], None],
    finder: _SearchHolder,
) -> Iterator[_Round]:
    """Carry a density through the stages; what comes is each time worth more than before."""
    while True:
        finder.search = find_modes(density, finder.search, config.modes, seeds[0])
        if finder.search.settled or not clock.early():
            break
    searched = modes_of(density, finder.search, config.modes)
    clock.lap("modes")
    learner = config.generator_for(density)
    challenged: ChallengeState | None = None
    if isinstance(config.challenge, Challenge):
        challenged = begin_challenge(config.challenge, density.dim)
    proofs = np.empty((0, density.dim))

    def refit(local: RegionDraws, previous: Sequence[RegionDensity | None]) -> RegionFit:
        now = learner if clock.proceed() else untrained(learner)
        return now.fit_regions(local, density.period, seeds[3], previous)

    while True:
        modes, searched, partition, running, folded = _sample_regions(
            density, config, clock, seeds, tick, finder, searched, proofs
        )
        local = running.draws()
        tick("weights", "fitting proposals")
        fitted = refit(local, jumps_of(running.chains))
        clock.lap("generator")
        first = begin_samples(fitted, density.dim)
        for samples, weights, local in refine(
            first, running, refit, config.target_se, clock.proceed, partial(tick, "weights"),
            seeds[4],
        ):  # fmt: skip
            done = _Round(
                modes, partition, folded, local, diagnostics_of(running.sampler, running.chains),
                running.chains.parameters, weights, samples.fitted,
            )  # fmt: skip
            yield done
        samples, check = cross_check(samples, folded, partition, weights)
        if (more := check.wanted(samples, weights)).any() and clock.proceed():
            samples = extend_samples(samples, folded, partition, more, seeds[4])
            weights = estimate(samples, local, folded)
            samples, check = cross_check(samples, folded, partition, weights)
        weights = weights.widened(check.gap)
        done = replace(done, weights=weights, statuses=check.statuses)
        clock.lap("weights")
        yield done
        if challenged is None or not clock.proceed():
            return
        tick("challenge", "searching for what was missed")
        candidate = FitCandidate(
            searched,
            partition,
            samples.fitted.densities,
            local,
            running.chains.parameters,
            weights,
            folded,
        )
        assert isinstance(config.challenge, Challenge)
        try:
            with density.limited():
                challenged, finder.search, result = challenge(
                    candidate, finder.search, challenged, config.challenge, config.modes,
                    clock.spent, seeds[8],
                )  # fmt: skip
        except LimitReached:
            return
        finally:
            clock.lap("challenge")
        yield replace(done, verdict=result)
        if not challenged.repeat or not clock.proceed():
            return
        proofs = challenged.counterexamples
        searched = finder.extend(proofs)[0]


def _sample_regions(
    density: Density,
    config: FitConfig,
    clock: Clock,
    seeds: list[np.random.Generator],
    tick: Callable[[str, str], None],
    finder: _SearchHolder,
    modes: Modes,
    visit: np.ndarray,
    rounds: int = 3,
) -> tuple[Modes, Modes, Partition, RunningChains, Target]:
    """Cut and sample; where chains reach modes that the search missed, again.

    Some chains start at the points in `visit`. Returns the modes of the regions, all that
    were known before some were joined, and the density, folded where it is symmetric.
    """
    stuck = visit

    def fit_jumps(
        local: RegionDraws,
        rng: np.random.Generator,
        previous: Sequence[RegionDensity | None],
    ) -> Sequence[RegionDensity]:
        learner = config.generator_for(density)
        return learner.fit_regions(local, density.period, rng, previous).densities

    for last in [False] * (rounds - 1) + [True]:
        tick("regions", f"{len(modes)} modes; short chains from each")
        pilot = explore(density, modes, config.local, seeds[1])
        ends = pilot.draws[:, :, -1].reshape(-1, density.dim)
        found, labels = finder.extend(np.concatenate([ends, stuck]))
        same = _matching(found, modes)
        if same is None and not last:
            modes = found
            continue
        folded, modes, pilot = fold_pilot(density, finder.search.optima, modes, pilot)
        group = mixing_groups(folded, pilot.draws)
        searched = modes
        if group.max() + 1 < len(modes):
            modes, pilot = modes.merged(group), pilot.merged(group)
        corrections = _relabel(labels, same, group)[len(ends) :]
        # As many of the later draws as the classifier, which works on pairs, can take.
        late = pilot.draws[:, :, pilot.draws.shape[2] // 2 :]
        late = late[:, :, :: max(1, int(np.ceil(late[:, :, :, 0].size / MAX_TRAINING)))]
        partition = divide(
            folded,
            late.reshape(len(modes), -1, density.dim),
            config.regions,
            extra=LabelledPoints(modes.points, modes.point_modes),
            corrections=LabelledPoints(folded.fold(stuck), corrections),
        )
        clock.lap("regions")
        tick("local", f"{len(modes)} modes; sampling each region")
        shapes = () if modes.runaway else zip(modes.locations, modes.scale, strict=True)
        guess = [laplace(x, scale, density.period) for x, scale in shapes]
        sampler = RegionSampler(folded, partition, config.local, modes.locations, fit_jumps)
        chains = begin_chains(sampler, modes, pilot, guess, folded.fold(visit), seeds[2])
        # A first look for slivers before long runs, a second one when shapes are known well:
        # regions that are connected only then run anew.
        for i, until in enumerate((2 * config.local.draws, None, None)):
            if i and clock.proceed():
                chains = _connect_pieces(sampler, chains, config.target_se, seeds[7], seeds[2])
            while clock.proceed() and len(short := short_regions(sampler, chains, until)):
                tick("local", f"{len(modes) - len(short)}/{len(modes)} regions converged")
                chains = advance_chains(sampler, chains, seeds[2], until)
        clock.lap("local")
        running = RunningChains(sampler, chains, seeds[2])
        where = positions(chains, unmixed(sampler, chains))
        if last or modes.runaway or not len(where) or not clock.proceed():
            break
        # Chains may be stuck in a mode that the search missed, or in a piece of another mode
        # that the partition put into the wrong region: climbing tells.
        found, labels = finder.extend(where)
        climbed = _relabel(labels, _matching(found, searched), group)
        if (climbed == partition.label(where)).all():
            break
        modes, stuck = found, np.concatenate([stuck, where])
    return modes, searched, partition, running, folded


def _connect_pieces(
    sampler: RegionSampler,
    chains: Chains,
    target_se: float,
    rng: np.random.Generator,
    chain_rng: np.random.Generator,
) -> Chains:
    """Let chains of regions that hold pieces of their neighbours' modes jump there.

    Regions with too little mass to matter are not run until they mix.
    """
    target, partition = sampler.target, sampler.partition
    if partition.n_regions == 1:
        return chains
    local = draws_of(sampler, chains)
    quick = Hybrid(rungs=("gaussian", "mixture")).fit_regions(local, target.period, rng).densities
    negligible = negligible_regions(local, quick, target_se)
    chains = skip_regions(chains, negligible)
    try:
        with target.limited():
            leaked = leaked_mass(target, partition, quick, local, rng)
    except LimitReached:
        return chains
    pieces = {}
    for k in np.flatnonzero(~negligible):
        neighbours = [quick[j] for j in np.flatnonzero(leaked[k] > MIN_LEAKED)]
        if neighbours:
            pieces[int(k)] = (quick[k], neighbours)
    return connect_regions(sampler, chains, pieces, chain_rng)[0]


def _matching(found: Modes, known: Modes) -> np.ndarray | None:
    """Index in `known` of each mode of `found`; None if they are not the same modes."""
    if len(found) != len(known):
        return None
    same = found.counterparts(known)
    return same if len(np.unique(same)) == len(known) and same.min() >= 0 else None


def _relabel(labels: np.ndarray, same: np.ndarray | None, group: np.ndarray) -> np.ndarray:
    """Regions of points labelled by a later search, -1 where that cannot be said."""
    if same is None:
        return np.full(len(labels), -1)
    return np.where(labels >= 0, group[same[labels]], -1)
