"""The stages in order, and nothing else."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.adaptation import LocalSampling
from pymc_multimodal.borders import connect_pieces, cross_check
from pymc_multimodal.challenge import Challenge, Court, Verdict
from pymc_multimodal.clock import Clock
from pymc_multimodal.generators import LRDS, Hybrid, RegionalMixture, resolve
from pymc_multimodal.generators.gaussian import laplace
from pymc_multimodal.kernel import Kernel, by_weight, count_jumps
from pymc_multimodal.local import LocalDraws, LocalSampler
from pymc_multimodal.modes import ModeFinder, Modes
from pymc_multimodal.orbits import Orbits, broken_status, fold_pilot, spread_statuses
from pymc_multimodal.pilot import explore
from pymc_multimodal.refine import refine
from pymc_multimodal.regions import Regions, Relabelled, mixing_groups, segment
from pymc_multimodal.starts import ModeSearch
from pymc_multimodal.status import FitError, Status
from pymc_multimodal.symmetry import FoldedDensity, Symmetry
from pymc_multimodal.weights import Weighing, Weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pymc_multimodal.density import Density
    from pymc_multimodal.generators import Generator, GeneratorConfig, RegionDensity
    from pymc_multimodal.generators.base import RegionFit
    from pymc_multimodal.regions import Partition
    from pymc_multimodal.trajectory import Cloud

__all__ = ["Fit", "FitConfig", "fit_density"]

_log = logging.getLogger("pymc.multimodal")

# Draws that the classifier of the regions is trained on.
MAX_TRAINING = 4000


@dataclass(frozen=True)
class FitConfig:
    """Settings of a whole fit; each stage's own settings live beside the stage.

    Parameters
    ----------
    generator : GeneratorConfig, optional
        By default `Hybrid`, and `LRDS` for densities without a gradient.
    modes : ModeSearch
    regions : Regions
    local : LocalSampling
    challenge : Challenge or bool
        How the fit is challenged by a tempered search; False leaves the challenge out.
    target_se : float
        Standard error asked for of every mode weight.
    max_evals : int, optional
        Density evaluations after which the fit stops refining.
    max_seconds : float, optional
        Seconds after which the fit stops refining.
    random_seed : int
    symmetry : Symmetry or bool
        Exchangeable components and signs, of which one image is fitted for all; True looks for
        them, False does without.
    """

    generator: GeneratorConfig | None = None
    modes: ModeSearch = field(default_factory=ModeSearch)
    regions: Regions = field(default_factory=Regions)
    local: LocalSampling = field(default_factory=LocalSampling)
    challenge: Challenge | bool = field(default_factory=Challenge)
    target_se: float = 0.01
    max_evals: int | None = None
    max_seconds: float | None = None
    random_seed: int = 0
    symmetry: Symmetry | bool = True

    def __post_init__(self) -> None:
        if self.generator is not None:
            object.__setattr__(self, "generator", resolve(self.generator))
        if self.challenge is True:
            object.__setattr__(self, "challenge", Challenge())
        kinds = {"modes": ModeSearch, "regions": Regions, "local": LocalSampling}
        if self.challenge is not False:
            kinds["challenge"] = Challenge
        for name, kind in kinds.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise TypeError(
                    f"{name}={value!r} is a {type(value).__name__}; give a {kind.__name__}(...)."
                )
        if not isinstance(self.symmetry, bool | Symmetry):
            raise TypeError(f"symmetry={self.symmetry!r} must be True, False or a Symmetry(...).")
        for name in ("target_se", "max_evals", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Real):
                raise TypeError(f"{name}={value!r} must be a number.")
        if not 0 < self.target_se < 1:
            raise ValueError(
                f"target_se={self.target_se} is the standard error asked for of mode weights "
                "and must lie between 0 and 1."
            )
        for name in ("max_evals", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value} must be positive, or None for no limit.")

    def generator_for(self, density: Density) -> GeneratorConfig:
        """Return the generator asked for, or the default for such a density."""
        return self.generator or (Hybrid() if density.has_gradient else LRDS())


@dataclass(frozen=True, repr=False)
class Fit:
    """Result of a fit: everything needed to draw from the posterior and to judge the draws.

    Regions are numbered by weight, heaviest first. A fit is plain data: it can be pickled,
    and used again with the same model through ``fit=``.

    Attributes
    ----------
    config : FitConfig
    names : tuple of str
        Unconstrained coordinates.
    modes : Modes
    local : LocalDraws
    weights : Weights
    kernel : Kernel
    verdict : Verdict or None
        What the challenge found; None where there was none.
    statuses : tuple of Status
    n_logp_evals, n_grad_evals : int
        Evaluations spent by the fit: points at which the log density, and its gradient with
        it, were computed.
    seconds : dict
        Wall-clock seconds of each stage.
    orbits : Orbits or None
        Where the density is symmetric: how the regions fitted stand for all modes.
    """

    config: FitConfig
    names: tuple[str, ...]
    modes: Modes
    local: LocalDraws
    weights: Weights
    kernel: Kernel
    verdict: Verdict | None
    statuses: tuple[Status, ...]
    n_logp_evals: int
    n_grad_evals: int
    seconds: dict[str, float]
    orbits: Orbits | None = None

    def __repr__(self) -> str:
        """Say in one line what was found; the arrays are in the attributes."""
        w = self.weights
        return (
            f"<Fit of {len(self.names)} coordinates: {self.n_modes} modes, log evidence "
            f"{w.total:.3f}±{w.total_se:.3f}, {self.n_logp_evals} evaluations>"
        )

    @property
    def n_modes(self) -> int:
        """Number of regions."""
        return len(self.modes)

    def label(self, x: np.ndarray) -> np.ndarray:
        """Region of each row of unconstrained points, shape (n,)."""
        return (self.orbits or self.kernel.partition).label(x)

    @property
    def images(self) -> np.ndarray:
        """Number of modes, equal but for their labels, that each mode stands for, shape (K,)."""
        if self.orbits is None or self.orbits.listed:
            return np.ones(self.n_modes, dtype=int)
        return self.orbits.images

    def target(self, density: Density) -> Density:
        """Return what the kernel samples: the density, folded where it is symmetric."""
        return density if self.orbits is None else FoldedDensity(density, self.orbits.cells)

    def shown(self, cloud: Cloud, rng: np.random.Generator) -> Cloud:
        """Turn the kernel's points into draws: random images, with their own modes."""
        return cloud if self.orbits is None else self.orbits.scatter(cloud, rng)

    def local_draws(self, k: int) -> np.ndarray:
        """Draws inside region k, shape (n, d)."""
        x = self.local.x[k]
        return x.reshape(-1, x.shape[-1])

    def generate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Fast draws of the learned approximation, without the correction that makes them exact.

        Parameters
        ----------
        n : int
        rng : numpy.random.Generator

        Returns
        -------
        array of shape (n, d)
            Unconstrained points. As close to the posterior as the generator is; draws of
            `pm.sample` are corrected, these are not.
        """
        x = self.kernel.generator.generate(n, rng)
        return x if self.orbits is None else self.orbits.cells.scatter(x, rng)

    def starts(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Independent starting points for n chains: local draws allocated by weight."""
        return by_weight(self.local, self.weights, n, rng)[0]

    def check_density(self, density: Density) -> None:
        """Raise if the density is not the one this fit was made for.

        Raises
        ------
        FitError
            If coordinates differ, or the log density at the modes has changed.
        """
        if density.names != self.names:
            raise FitError(
                f"fit= was made for a model with coordinates {self.names[:8]}, this model has "
                f"{density.names[:8]}. Fit this model anew."
            )
        now = density.logp(self.modes.locations)
        if not np.allclose(now, self.modes.log_density, rtol=1e-6, atol=1e-6):
            raise FitError(
                "fit= was made before the model or its data changed: the log density at the "
                f"first mode was {self.modes.log_density[0]:.6g} and is {now[0]:.6g} now. "
                "Fit again."
            )


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
    folded: Density
    local: LocalDraws
    weights: Weights
    fitted: RegionFit
    statuses: tuple[Status, ...] = ()
    verdict: Verdict | None = None


def _fit(
    density: Density, config: FitConfig, tick: Callable[[str, str], None], clock: Clock
) -> Fit:
    seeds = np.random.default_rng(config.random_seed).spawn(10)
    tick("modes", "searching for modes")
    finder = ModeFinder(density, config.modes, seeds[0], config.symmetry)
    rounds = _rounds(density, config, clock, seeds, tick, finder)
    # Before the first round is complete there is nothing to give; from then on there always is.
    done: _Round = next(rounds)
    with clock.interruptible():
        while (after := next(rounds, None)) is not None:
            done = after
    folded, local, weights, verdict = done.folded, done.local, done.weights, done.verdict
    if verdict is not None:
        weights = weights.widened(verdict.gap)

    orbits = Orbits.of(folded, done.partition, done.modes)
    if orbits is not None and (
        finder.broken or folded.broken or not orbits.holds(density, local, seeds[9])
    ):
        alone = _fit(density, replace(config, symmetry=False), tick, clock)
        return replace(alone, statuses=(broken_status(), *alone.statuses))
    share = orbits.images if orbits is not None and orbits.listed else 1
    order = np.argsort(-weights.weight / share, kind="stable")
    rank = np.argsort(order)
    statuses = [*done.partition.statuses, *local.statuses, *weights.statuses]
    statuses += [*done.statuses, *done.fitted.statuses]
    statuses += verdict.statuses if verdict is not None else ()
    statuses = [s if s.mode is None else replace(s, mode=int(rank[s.mode])) for s in statuses]
    statuses = [*done.modes.statuses, *statuses]
    modes, local = done.modes.permuted(order), local.permuted(order)
    weights = weights.permuted(order)
    verdict = None if verdict is None else verdict.permuted(order)
    fitted = replace(done.fitted, densities=tuple(done.fitted.densities[i] for i in order))
    learner = config.generator_for(density)
    generator: Generator = RegionalMixture(fitted.densities, weights.weight)
    kernel = Kernel(Relabelled(done.partition, order), local.tuning, generator)
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
    return Fit(
        config=replace(config, generator=learner),
        names=density.names,
        modes=modes,
        local=local,
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
    searched = finder.search(clock.proceed)
    clock.lap("modes")
    learner = config.generator_for(density)
    court = Court(density, config.modes, config.challenge, clock, seeds[8])

    def refit(local: LocalDraws, previous: Sequence[RegionDensity | None]) -> RegionFit:
        return learner.fit_regions(local, density.period, seeds[3], previous)

    while True:
        modes, searched, partition, sampler, folded = _sample_regions(
            density, config, clock, seeds, tick, finder, searched, court.proofs
        )
        local = sampler.result()
        tick("weights", "fitting proposals")
        fitted = refit(local, sampler.jumps())
        clock.lap("generator")
        first = Weighing(folded, partition, fitted, seeds[4])
        for weighing, weights, local in refine(
            first, sampler, refit, config.target_se, clock.proceed, partial(tick, "weights")
        ):
            done = _Round(modes, partition, folded, local, weights, weighing.fitted)
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
        again = court.hear(
            tick, finder, searched, partition, weighing.fitted.densities, local, weights, folded
        )
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
) -> tuple[Modes, Modes, Partition, LocalSampler, Density]:
    """Cut and sample; where chains reach modes that the search missed, again.

    Some chains start at the points in `visit`. Returns the modes of the regions, all that
    were known before some were joined, and the density, folded where it is symmetric.
    """
    stuck = visit

    def fit_jumps(
        local: LocalDraws,
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
        if clock.proceed():
            connect_pieces(folded, partition, sampler, seeds[7])
        run()
        if clock.proceed() and connect_pieces(folded, partition, sampler, seeds[7]):
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
    equal = (found.locations[:, None] == known.locations[None]).all(axis=2)
    return equal.argmax(axis=1) if equal.any(axis=1).all() else None


def _relabel(labels: np.ndarray, same: np.ndarray | None, group: np.ndarray) -> np.ndarray:
    """Regions of points labelled by a later search, -1 where that cannot be said."""
    if same is None:
        return np.full(len(labels), -1)
    return np.where(labels >= 0, group[same[labels]], -1)
