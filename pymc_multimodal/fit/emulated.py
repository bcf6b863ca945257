"""The fit of an expensive density: that of its emulator, judged and weighed by true evaluations."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation import FirstAnswer, Verdict, WeightedSample, judge
from pymc_multimodal.emulation import (
    Emulated,
    EmulatedPosterior,
    Emulation,
    Plan,
    Price,
    emulate,
    emulate_surface,
    evaluated,
    integrate,
    joined_draws,
    judged_draws,
    judged_weights,
    missing_draws,
    plan_evaluations,
    plan_surface,
    price_of,
    refine,
    region_of,
    with_emulated_errors,
)
from pymc_multimodal.search import ModeSearch, begin_search, modes_of
from pymc_multimodal.status import LimitReached, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymc_multimodal.evidence import Weights
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.search import Search, StartDistribution
    from pymc_multimodal.status import Status

__all__ = [
    "Judged",
    "exact_draws",
    "judge_outputs",
    "judge_surface",
    "price_density",
]

# Error asked for of the emulated posterior's weights, relative to that asked for of the true
# posterior's: it adds to the error of the judged draws, and costs no evaluations. Conventional.
EMULATED_SE = 0.4
# Attempts: a verdict against the emulator adds the judged draws to its points, and as many
# evaluations again. Conventional.
ATTEMPTS = 3
# Judged draws of a later attempt, in units of the evaluations beside the design. Conventional: the
# emulator knows the draws that were judged before, so that ratios vary less.
LATER_JUDGED = 0.33
# What forbids to end the fit: as for the first answer, but with smaller effective sizes, since the
# emulated posterior was found by tempering, and not by the modes alone. Measured:
# examples/benchmarks/simulators.py
# Tail indices up to 0.7 are those of which importance sampling is reliable (Vehtari et al. 2024).
RULES = FirstAnswer(min_ess=0.35, min_mode_ess=0.3, max_pareto_k=0.7)
# Dimensions up to which a log density is emulated by its values. Measured:
# examples/benchmarks/simulators.py
MAX_SURFACE_DIM = 8
# Evaluations below which nothing is emulated. Conventional: a design of twenty points and as many
# judged draws.
LEAST_PLAN = 50
# Evaluations below which a limit leaves no room for a fit without emulation. Measured:
# examples/benchmarks/simulators.py
ROOM_WITHOUT = 5_000
# Evaluations that a limit has to leave for exact draws: those of four chains of a thousand draws.
# Conventional.
ROOM_OF_DRAWS = 4_000
# Effective size of the judged draws, where the planned evaluations allow. Conventional: the log
# evidence then has a standard error of a seventeenth of the ratios' spread.
MIN_EFFECTIVE = 350.0
# Judged draws at first, at most: as many as have this effective size if it is nine tenths of them.
# Conventional.
FIRST_JUDGED = 400
# Largest sample of judged draws in units of the planned one, where their error is too large.
# Conventional.
MAX_GROWTH = 4.0
# Further judged draws of modes whose own draws alone speak against them, as a part of all so far.
# Conventional: of 25 to 50 draws, a tail index has a standard error of a half or more.
DOUBTED_SHARE = 0.5
# Why the errors of half of the judged draws are not stated.
NOT_COMPARED = "a limit left no second sample to compare the first with"


@dataclass(frozen=True, eq=False)
class Judged:
    """An emulated posterior, and what the true density says of it.

    Attributes
    ----------
    found : Emulated
    posterior : EmulatedPosterior
    sample : WeightedSample
        The judged draws.
    verdict : Verdict
    weights : Weights
        By the judged draws; their errors are unknown if the verdict is not good.
    search_statuses : tuple of Status
        What the search of the true density says of itself, if there was one.
    """

    found: Emulated
    posterior: EmulatedPosterior
    sample: WeightedSample
    verdict: Verdict
    weights: Weights
    search_statuses: tuple[Status, ...] = ()


def price_density(run: Run) -> float | None:
    """Measure the time of one evaluation; a dear density keeps its evaluations from then on.

    Parameters
    ----------
    run : Run

    Returns
    -------
    float or None
        Seconds; None if the density is cheap or noisy, or an emulation was not asked for.

    Raises
    ------
    ValueError
        If outputs were named, and the density was not made from a model.
    """
    density, settings = run.density, run.settings.emulation
    if not isinstance(settings, Emulation) or not run.settings.may_end_early:
        return None
    named = settings.outputs is not None
    if named and density.split is None:
        raise ValueError(
            f"Emulation(outputs={settings.outputs!r}) names variables of a PyMC model, and this "
            "density was not made from one. Leave `outputs` out."
        )
    asked = named or settings.despite_gradient
    if density.prior is None or (density.has_gradient and not asked):
        return None
    if _room(run) < LEAST_PLAN:
        run.note_cut()
        return None
    measured: Price | None = None
    # A run that was killed afterwards knows it.
    if not run.made("price"):
        with suppress(LimitReached, ModelError), run.recorded("price"):
            with run.limits(1.0, refuse=False):
                measured = price_of(density, run.rng("price"))
    least = 0.0 if named else settings.min_seconds
    [seconds] = density.log.once("price", lambda: (_if_dear(measured, least),))
    if np.isnan(seconds):
        return None
    if density.history is None:
        density.keep_history()
    return seconds


def _if_dear(price: Price | None, least: float) -> float:
    """Return the seconds of one evaluation; NaN if it is not dear.

    Values that differ from one evaluation to the next are noise, which has a status of its own.
    """
    if price is None or not price.repeatable or price.least < least:
        return float("nan")
    return price.seconds


def judge_outputs(run: Run, seconds: float) -> Judged | None:
    """Emulate the outputs of the simulator, and judge the emulated posterior.

    Parameters
    ----------
    run : Run
    seconds : float
        Of one evaluation.

    Returns
    -------
    Judged or None
        None if there is no simulator whose outputs are seen, if it has outputs at few points of the
        prior, or at none of the judged draws, or if these speak against the emulator and the limits
        leave room for a fit without it.

    Raises
    ------
    ModelError
        If the outputs that were named cannot be emulated.
    """
    density, settings = run.density, run.settings.emulation
    assert isinstance(settings, Emulation)
    with run.uncounted():
        model = None if density.split is None else density.split(settings.outputs)
    if model is None:
        _recall(run)
        return None
    has_gradient, function = density.has_gradient, density.function
    with run.uncounted():
        density.expose_outputs(model)
        density.start_workers()
    _recall(run)
    plan = plan_evaluations(seconds, len(model.inputs), settings, _room(run))
    _tell(run, plan)
    starts = begin_search(density, ModeSearch(), False, run.rng("begin")).distribution

    def begin(rng: np.random.Generator) -> Emulated | None:
        return emulate(density, starts, plan, rng, _reporter(run))

    judged = _until_good(run, plan, starts, begin)
    if judged is None:
        with run.uncounted():
            density.hide_outputs(function, has_gradient=has_gradient)
            if run.seconds_left > 0:
                density.start_workers()
    return judged


def judge_surface(run: Run, search: Search, seconds: float, screened: int = 0) -> Judged | None:
    """Emulate the log density by the points of the search, and judge the emulated posterior.

    Parameters
    ----------
    run : Run
    search : Search
        That has ended.
    seconds : float
        Of one evaluation.
    screened : int
        Evaluations of the screening, which are part of the planned ones.

    Returns
    -------
    Judged or None
        As for `judge_outputs`; None, too, if there is no proper mode.
    """
    density, settings = run.density, run.settings.emulation
    modes = modes_of(density, search, run.settings.modes)
    if (
        density.dim > MAX_SURFACE_DIM
        or _room(run) < LEAST_PLAN
        or modes.runaway
        or search.symmetry is not None
        or density.history is None
    ):
        return None
    assert isinstance(settings, Emulation)
    before = run.evals - screened
    plan = plan_surface(seconds, density.dim, settings, before, _room(run) + screened)
    plan = plan.without(screened)
    _tell(run, plan)

    def begin(rng: np.random.Generator) -> Emulated | None:
        assert density.history is not None
        known = density.history.evaluations(density.names, outputs=False)
        emulator = emulate_surface(
            modes, search.distribution, density.period, known.x, known.logp, rng
        )
        if emulator is None:
            return None
        begun = Emulated(emulator, np.inf, 0, (known.x, known.outputs, known.logp))
        return refine(density, begun, search.distribution, plan, rng, _reporter(run))

    judged = _until_good(run, plan, search.distribution, begin)
    return None if judged is None else replace(judged, search_statuses=modes.statuses)


def _tell(run: Run, plan: Plan) -> None:
    """Report the plan, and what the draws after the fit cost."""
    text = plan.described(run.density.n_workers if run.density.shared else 1)
    if exact_draws(run):
        text += '. Each draw then costs one evaluation, and none with Emulation(draws="weighted")'
    run.report("plan", text)


def exact_draws(run: Run) -> bool:
    """Whether draws are exact: as asked, or as the limits allow."""
    settings = run.settings.emulation
    assert isinstance(settings, Emulation)
    if settings.draws is not None:
        return settings.draws == "exact"
    if run.room_of_draws() >= ROOM_OF_DRAWS:
        return True
    run.note_cut()
    return False


def _recall(run: Run) -> None:
    """Take evaluations of an earlier fit into the history, after a look at one of them."""
    for given in (run.settings.evaluations, run.known):
        if given is not None and run.density.history is not None:
            run.density.recall(given)


def _room(run: Run) -> float:
    with run.limits(1.0, refuse=False):
        return run.density.room()


def _reporter(run: Run) -> Callable[[str], None]:
    return lambda text: run.report("emulate", f"emulating: {text}")


def _until_good(
    run: Run,
    plan: Plan,
    starts: StartDistribution,
    begin: Callable[[np.random.Generator], Emulated | None],
) -> Judged | None:
    """Emulate, integrate and judge until the verdict is good, or a limit is near."""
    density, judged = run.density, None
    found: Emulated | None = None
    new = plan.refinement + plan.judged
    further = replace(plan, refinement=new // 4)
    judging, later = plan, plan.with_judged(int(LATER_JUDGED * new))
    last = run.evals + ATTEMPTS * plan.total
    for _ in range(ATTEMPTS):
        try:
            with (
                run.recorded("emulate"),
                run.limits(1.0, refuse=False),
                run.ended("The emulation"),
            ):
                rng = run.rng("emulate")
                if found is None:
                    found = begin(rng)
                else:
                    found = refine(density, found, starts, further, rng, _reporter(run))
            if found is None:
                return None
            # True evaluations follow: after a limit in seconds there are none.
            with run.recorded("integrate"), run.ended("The integration", 0.0):
                run.report("integrate", "integrating the emulated posterior")
                target_se = EMULATED_SE * run.settings.target_se
                rng = run.rng("integrate")
                posterior = integrate(density, found, starts, target_se, rng)
            if posterior is None:
                return None
            with run.recorded("judge"), run.limits(1.0, refuse=False), run.ended("The judging"):
                run.report("judge", "true evaluations of emulated draws")
                judged = _judge(run, judging, found, posterior)
        except LimitReached:
            run.note_cut()
            break
        if judged is None or not judged.verdict.reasons:
            return judged
        if min(_room(run), last - run.evals) < new // 2:
            break
        found, judging = found.with_points(*_judged_points(run, judged.sample)), later
    if _room(run) < ROOM_WITHOUT:
        run.note_cut()
        return judged
    run.report(
        "plan",
        "the emulator is not precise enough: the fit goes on without it, from the points that are "
        "known. That takes many more evaluations; max_evals and max_seconds limit them",
    )
    return None


def _judge(run: Run, plan: Plan, found: Emulated, posterior: EmulatedPosterior) -> Judged | None:
    """Evaluate draws of the emulated posterior; more, if their error is the only complaint.

    None if the density is zero at the first half of them.
    """
    density, rng, target_se = run.density, run.rng("judge"), run.settings.target_se
    room = int(min(density.room(), max(plan.judged, plan.total - run.evals)))
    n = max(2, min(plan.judged, FIRST_JUDGED, room) // 2)
    sample = first = judged_draws(density, posterior, posterior.counts(n), rng)
    if not first.ratio.any():
        return None

    def extended(sample: WeightedSample, counts: np.ndarray) -> WeightedSample:
        return joined_draws(posterior, sample, judged_draws(density, posterior, counts, rng), rng)

    early, _ = _verdict(run, posterior, first, first)
    # Half of the draws may be enough to refuse an emulator.
    compared = bool(early.reasons) and not early.doubted
    with suppress(LimitReached):
        if not compared:
            sample = extended(first, posterior.counts(n))
            compared = True
    verdict, weights = _verdict(run, posterior, sample, first)
    by_mass = len(sample)
    if verdict.doubted and compared:
        counts = np.zeros_like(sample.counts)
        counts[list(verdict.doubted)] = int(DOUBTED_SHARE * by_mass) // len(verdict.doubted)
        with suppress(LimitReached):
            sample = extended(sample, counts) if counts.any() else sample
            verdict, weights = _verdict(run, posterior, sample, first, by_mass)
    if not compared:
        verdict = replace(verdict, reasons=(*verdict.reasons, NOT_COMPARED))
    missing = missing_draws(weights, target_se)
    factor = max(missing, MIN_EFFECTIVE / max(verdict.ess * len(sample), 1.0))
    more = int(len(sample) * (min(factor, MAX_GROWTH) - 1.0))
    # The modes are evaluated at the end.
    planned = plan.total - run.evals - len(posterior.modes)
    more = min(more, int(min(density.room(), planned)))
    if not verdict.reasons and more > 0:
        # What was judged is an answer, should a limit in seconds end this.
        with suppress(LimitReached):
            sample, by_mass = extended(sample, posterior.counts(more)), by_mass + more
            verdict, weights = _verdict(run, posterior, sample, first, by_mass)
    weights = with_emulated_errors(weights, posterior)
    if verdict.reasons:
        weights = weights.without_errors()
    return Judged(found, posterior, sample, verdict, weights)


def _judged_points(run: Run, sample: WeightedSample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of the judged draws, their outputs and log densities; they are known."""
    x = sample.x[np.isfinite(sample.x).all(axis=1)]
    logp, y = evaluated(run.density, x)
    return x, y, logp


def _verdict(
    run: Run,
    posterior: EmulatedPosterior,
    sample: WeightedSample,
    first: WeightedSample,
    by_mass: int | None = None,
) -> tuple[Verdict, Weights]:
    """Judge a sample of which so many draws are spread by mass, all of them by default.

    Further draws of small modes do not make the effective number of the others smaller.
    """
    regions = region_of(posterior, sample), region_of(posterior, first)
    least = RULES.min_ess * (1.0 if by_mass is None else by_mass / len(sample))
    rules = replace(RULES, min_ess=least)
    verdict = judge(sample, first, *regions, rules, run.settings.target_se)
    return verdict, judged_weights(sample, posterior)
