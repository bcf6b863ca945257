"""The stages in order, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.challenge.candidate import FitCandidate
from pymc_multimodal.evidence.borders import connect_pieces, cross_check
from pymc_multimodal.evidence.weights import BridgeSamples, Weights
from pymc_multimodal.fit.clock import Clock
from pymc_multimodal.fit.court import Court
from pymc_multimodal.fit.images import Orbits, broken_status, fold_pilot, spread_statuses
from pymc_multimodal.fit.refine import refine
from pymc_multimodal.fit.result import Fit
from pymc_multimodal.fit.settings import FitConfig
from pymc_multimodal.kernel import Kernel, count_jumps
from pymc_multimodal.proposals import RegionalMixture
from pymc_multimodal.proposals.elliptical import laplace
from pymc_multimodal.regions.chains import LocalSampler
from pymc_multimodal.regions.draws import ChainDiagnostics, RegionDraws
from pymc_multimodal.regions.partition import PermutedPartition, mixing_groups, segment
from pymc_multimodal.regions.pilot import explore
from pymc_multimodal.search.finder import ModeFinder
from pymc_multimodal.search.modes import Modes
from pymc_multimodal.status import Status, SymmetryBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pymc_multimodal.challenge.challenger import ChallengeResult
    from pymc_multimodal.moves.local import MoveParameters
    from pymc_multimodal.proposals import Generator, RegionDensity
    from pymc_multimodal.proposals.base import RegionFit
    from pymc_multimodal.regions.partition import Partition
    from pymc_multimodal.target.density import Density
    from pymc_multimodal.target.target import Target

__all__ = ["fit_density"]


# Draws that the classifier of the regions is trained on.
MAX_TRAINING = 4000


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
    finder = ModeFinder(density, config.modes, seeds[0], config.symmetry)
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
    if orbits is not None and (finder.broken or not orbits.holds(density, local, seeds[9])):
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
    finder: ModeFinder,
) -> Iterator[_Round]:
    """Carry a density through the stages; what comes is each time worth more than before."""
    searched = finder.search(clock.early)
    clock.lap("modes")
    learner = config.generator_for(density)
    court = Court(density, config.modes, config.challenge, clock, seeds[8])

    def refit(local: RegionDraws, previous: Sequence[RegionDensity | None]) -> RegionFit:
        regional = learner.regional
        now = regional if clock.proceed() else regional.without_network()
        return now.fit_regions(local, density.period, seeds[3], previous)

    while True:
        modes, searched, partition, sampler, folded = _sample_regions(
            density, config, clock, seeds, tick, finder, searched, court.proofs
        )
        local = sampler.result()
        tick("weights", "fitting proposals")
        fitted = refit(local, sampler.jumps())
        clock.lap("generator")
        first = BridgeSamples(folded, partition, fitted, seeds[4])
        for weighing, weights, local in refine(
            first, sampler, refit, config.target_se, clock.proceed, partial(tick, "weights")
        ):
            done = _Round(
                modes, partition, folded, local, sampler.diagnostics(), sampler.tuning, weights,
                weighing.fitted,
            )  # fmt: skip
            yield done
        check = cross_check(weighing, weights)
        if (more := check.wanted(weighing, weights)).any() and clock.proceed():
            weighing.extend(more)
            weights = weighing.weigh(local)
            check = cross_check(weighing, weights)
        weights = weights.widened(check.gap)
        done = replace(done, weights=weights, statuses=check.statuses)
        clock.lap("weights")
        yield done
        densities = weighing.fitted.densities
        case = FitCandidate(
            finder, searched, partition, densities, local, sampler.tuning, weights, folded
        )
        again = court.hear(case, tick)
        clock.lap("challenge")
        yield replace(done, verdict=court.verdict)
        if not again:
            return
        searched = finder.extend(court.proofs)[0]


def _sample_regions(
    density: Density,
    config: FitConfig,
    clock: Clock,
    seeds: list[np.random.Generator],
    tick: Callable[[str, str], None],
    finder: ModeFinder,
    modes: Modes,
    visit: np.ndarray,
    rounds: int = 3,
) -> tuple[Modes, Modes, Partition, LocalSampler, Target]:
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
        regional = config.generator_for(density).regional
        return regional.fit_regions(local, density.period, rng, previous).densities

    for last in [False] * (rounds - 1) + [True]:
        tick("regions", f"{len(modes)} modes; short chains from each")
        pilot = explore(density, modes, config.local, seeds[1])
        ends = pilot.draws[:, :, -1].reshape(-1, density.dim)
        found, labels = finder.extend(np.concatenate([ends, stuck]))
        same = _matching(found, modes)
        if same is None and not last:
            modes = found
            continue
        folded, modes, pilot = fold_pilot(density, finder.atlas, modes, pilot)
        group = mixing_groups(folded, pilot.draws)
        searched = modes
        if group.max() + 1 < len(modes):
            modes, pilot = modes.merged(group), pilot.merged(group)
        corrections = _relabel(labels, same, group)[len(ends) :]
        # As many of the later draws as the classifier, which works on pairs, can take.
        late = pilot.draws[:, :, pilot.draws.shape[2] // 2 :]
        late = late[:, :, :: max(1, int(np.ceil(late[:, :, :, 0].size / MAX_TRAINING)))]
        partition = segment(
            folded,
            late.reshape(len(modes), -1, density.dim),
            modes.points,
            modes.point_modes,
            config.regions,
            (folded.fold(stuck), corrections),
        )
        clock.lap("regions")
        tick("local", f"{len(modes)} modes; sampling each region")
        shapes = () if modes.runaway else zip(modes.locations, modes.scale, strict=True)
        guess = [laplace(x, scale, density.period) for x, scale in shapes]
        sampler = LocalSampler(
            folded, partition, modes, pilot, config.local, seeds[2], fit_jumps, guess,
            folded.fold(visit),
        )  # fmt: skip
        # A first look for slivers before long runs, a second one when shapes are known well.
        run = partial(sampler.run, proceed=clock.proceed, tick=lambda text: tick("local", text))
        run(until=2 * config.local.draws)
        connect = partial(connect_pieces, folded, partition, sampler, config.target_se, seeds[7])
        if clock.proceed():
            connect()
        run()
        if clock.proceed():
            # Regions that are connected only now run anew, and those no longer taken for light.
            connect()
            run()
        clock.lap("local")
        unmixed = sampler.positions(sampler.unmixed())
        if last or modes.runaway or not len(unmixed) or not clock.proceed():
            break
        # Chains may be stuck in a mode that the search missed, or in a piece of another mode
        # that the partition put into the wrong region: climbing tells.
        found, labels = finder.extend(unmixed)
        climbed = _relabel(labels, _matching(found, searched), group)
        if (climbed == partition.label(unmixed)).all():
            break
        modes, stuck = found, np.concatenate([stuck, unmixed])
    return modes, searched, partition, sampler, folded


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
