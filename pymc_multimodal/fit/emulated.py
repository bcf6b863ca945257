"""The fit of an expensive density: that of its emulator, judged and weighed by true evaluations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pymc_multimodal.approximation import FirstAnswer, Verdict, WeightedSample, judge, region_draws
from pymc_multimodal.emulation import (
    Emulated,
    EmulatedGenerator,
    EmulatedJump,
    EmulatedPosterior,
    Emulation,
    Plan,
    Resampling,
    emulate,
    emulated_density,
    joined_draws,
    judged_draws,
    judged_weights,
    plan_evaluations,
    price_of,
    refine,
    region_of,
)
from pymc_multimodal.fit.result import Fit
from pymc_multimodal.fit.settings import FitConfig
from pymc_multimodal.kernel import Kernel
from pymc_multimodal.proposals import Hybrid
from pymc_multimodal.search import ModeSearch, begin_search
from pymc_multimodal.status import LimitReached, ModelError, Status, counted

if TYPE_CHECKING:
    from pymc_multimodal.evidence import Weights
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.target.density import Density

__all__ = ["fit_by_emulation"]

FitDensity: TypeAlias = Callable[["Density", FitConfig], Fit]

# Error asked for of the emulated posterior's weights, relative to that asked for of the posterior's:
# it adds to the error of the judged draws, and costs no evaluations. Conventional.
EMULATED_SE = 0.4
# What ends the fit of the emulated posterior: less than is asked of the posterior's own, since large
# samples are cheap, and its draws are judged. Conventional.
EMULATED_ANSWER = FirstAnswer(min_ess=0.2, min_mode_ess=0.1, max_pareto_k=0.7, max_ratio=100.0)
# Attempts: a verdict against the emulator adds the judged draws to its points, and as many
# evaluations again. Conventional.
ATTEMPTS = 3
# Evaluations below which a limit leaves no room for a fit without emulation. Measured:
# examples/benchmarks/simulators.py
ROOM_WITHOUT = 5_000
# Evaluations that a limit has to leave for exact draws: those of four chains of a thousand draws.
# Conventional.
ROOM_OF_DRAWS = 4_000
# Steps on the emulated density for one draw: twice the jumps of its own kernel, and at most.
# Conventional.
STEPS_PER_JUMP, MAX_STEPS = 2, 32
# Climbs on the emulated density, from draws of the emulated posterior. Conventional: a mode of weight
# 0.05 is found with a probability of 99.8 %.
STARTS = 128
# Largest sample of judged draws in units of the planned one, where their error is too large.
# Conventional.
MAX_GROWTH = 4.0


@dataclass(frozen=True, eq=False)
class _Judged:
    """An emulator, the fit of its posterior, and what the true density says of that."""

    found: Emulated
    fit: Fit
    posterior: EmulatedPosterior
    sample: WeightedSample
    verdict: Verdict

    @property
    def weights(self) -> Weights:
        """Weights by the judged draws."""
        return judged_weights(self.sample, region_of(self.posterior, self.sample), self.posterior)


def fit_by_emulation(run: Run, fit_density: FitDensity) -> Fit | None:
    """Fit an expensive density by way of an emulator of its simulator's outputs.

    Parameters
    ----------
    run : Run
    fit_density : callable
        Fits a cheap density.

    Returns
    -------
    Fit or None
        None if the density is cheap, or has no simulator whose outputs are seen, or if the judged
        draws speak against the emulator and a fit without it is possible.

    Raises
    ------
    ValueError
        If outputs were named, and the density was not made from a model.
    ModelError
        If the outputs that were named cannot be emulated.
    """
    density, settings = run.density, run.settings.emulation
    if not isinstance(settings, Emulation) or not run.settings.may_end_early:
        return None
    if density.prior is None or (density.has_gradient and settings.outputs is None):
        return None
    with run.recorded("price"):
        try:
            with run.limits(1.0, refuse=False):
                seconds = price_of(density, run.rng("price"))
        except (LimitReached, ModelError):
            return None
    if seconds < settings.min_seconds and settings.outputs is None:
        return None
    density.keep_history()
    if density.split is None:
        if settings.outputs is not None:
            raise ValueError(
                f"Emulation(outputs={settings.outputs!r}) needs a density made from a PyMC model."
            )
        return None
    model = density.split(settings.outputs)
    if model is None:
        return None
    has_gradient, function = density.has_gradient, density.function
    density.expose_outputs(model)
    plan = plan_evaluations(seconds, len(model.inputs), settings, _room(run))
    run.report("plan", plan.described(density.workers))
    judged = _emulate_and_judge(run, plan, fit_density)
    if judged is not None:
        return _result(run, judged)
    density.outputs, density.function, density.has_gradient = None, function, has_gradient
    density.close()
    return None


def _room(run: Run) -> float:
    with run.limits(1.0, refuse=False):
        return run.density.room()


def _emulate_and_judge(run: Run, plan: Plan, fit_density: FitDensity) -> _Judged | None:
    """Emulate, fit the emulated density, and judge, until the verdict is good or a limit reached."""
    density, judged = run.density, None
    distribution = begin_search(
        density, ModeSearch(), symmetry=False, rng=run.rng("begin")
    ).distribution
    found: Emulated | None = None
    for attempt in range(ATTEMPTS):
        step_plan = plan if attempt == 0 else replace(plan, refinement=plan.total // 2)
        try:
            with run.recorded("emulate"), run.limits(1.0, refuse=False):
                rng, report = run.rng("emulate"), _reporter(run)
                if found is None:
                    found = emulate(density, distribution, step_plan, rng, report)
                else:
                    found = refine(density, found, distribution, step_plan, rng, report)
            with run.recorded("emulated fit"):
                run.report("emulated fit", "fitting the emulated posterior")
                posterior, fit = _fit_emulated(run, found, fit_density)
            with run.recorded("judge"), run.limits(1.0, refuse=False):
                run.report("judge", "true evaluations of emulated draws")
                judged = _judge(run, plan, found, posterior, fit)
        except LimitReached:
            break
        if not judged.verdict.reasons:
            return judged
        rows = np.isfinite(judged.sample.x).all(axis=1)
        x = judged.sample.x[rows]
        logp, y = density.logp_and_outputs(x)
        found = found.with_points(x, y, logp)
        if _room(run) < plan.total // 2:
            break
    return judged if _room(run) < ROOM_WITHOUT else None


def _reporter(run: Run) -> Callable[[str], None]:
    return lambda text: run.report("emulate", f"emulating the simulator: {text}")


def _fit_emulated(
    run: Run, found: Emulated, fit_density: FitDensity
) -> tuple[EmulatedPosterior, Fit]:
    """Fit the emulated density, of which evaluations cost next to nothing."""
    settings = run.settings
    cheap = emulated_density(run.density, found.emulator)
    seconds = None
    if settings.max_seconds is not None:
        seconds = max(run.seconds_left, 0.1)
    fit = fit_density(
        cheap,
        FitConfig(
            generator=Hybrid(),
            modes=ModeSearch(starts=_some(found.particles, run), screening=0),
            regions=settings.regions,
            local=settings.local,
            first_answer=EMULATED_ANSWER,
            challenge=False,
            emulation=False,
            target_se=EMULATED_SE * settings.target_se,
            max_seconds=seconds,
            random_seed=int(run.rng("emulated fit").integers(2**62)),
            symmetry=False,
        ),
    )
    generator = fit.kernel.generator
    return (
        EmulatedPosterior(found.emulator, fit.kernel.partition, fit.weights, fit.draws, generator),
        fit,
    )


def _some(particles: np.ndarray, run: Run) -> np.ndarray:
    """Choose particles as starts of climbs, shape (n, d)."""
    rng = run.rng("starts")
    return particles[rng.permutation(len(particles))[:STARTS]]


def _judge(
    run: Run, plan: Plan, found: Emulated, posterior: EmulatedPosterior, fit: Fit
) -> _Judged:
    """Evaluate draws of the emulated posterior; more, if their error is the only complaint."""
    density, rng = run.density, run.rng("judge")
    room = int(min(density.room(), max(plan.judged, plan.total - run.evals)))
    first = judged_draws(density, posterior, max(2, min(plan.judged, room) // 2), rng)
    second = judged_draws(density, posterior, max(2, min(plan.judged, room) // 2), rng)
    sample = joined_draws(posterior, first, second, rng)
    verdict = _verdict(run, posterior, sample, first)
    more = int(len(sample) * (min(verdict.missing, MAX_GROWTH) - 1.0))
    more = min(more, int(min(density.room(), plan.total - run.evals)))
    if not verdict.reasons and verdict.missing > 1.0 and more > 0:
        sample = joined_draws(posterior, sample, judged_draws(density, posterior, more, rng), rng)
        verdict = _verdict(run, posterior, sample, first)
    return _Judged(found, fit, posterior, sample, verdict)


def _verdict(
    run: Run, posterior: EmulatedPosterior, sample: WeightedSample, first: WeightedSample
) -> Verdict:
    settings = run.settings.first_answer
    rules = settings if isinstance(settings, FirstAnswer) else FirstAnswer()
    regions = region_of(posterior, sample), region_of(posterior, first)
    return judge(sample, first, *regions, rules, run.settings.target_se)


# ------------------------------------------------------------------ the result


def _result(run: Run, judged: _Judged) -> Fit:
    """Make the fit of the true density."""
    density, fit, sample = run.density, judged.fit, judged.sample
    region, weights = region_of(judged.posterior, sample), judged.weights
    if judged.verdict.reasons:
        weights = weights.without_errors()
    k = judged.posterior.partition.n_regions
    draws = region_draws(sample, region, fit.modes.locations, 0, run.rng("draws"))
    kernel, statuses = _kernel(run, judged, region)
    with run.limits(1.0, refuse=False):
        heights = density.logp(fit.modes.locations)
    modes = replace(fit.modes, log_density=heights, statuses=())
    order = np.argsort(-weights.weight, kind="stable")
    assert density.history is not None
    return Fit(
        config=replace(run.settings, generator=Hybrid()),
        names=density.names,
        modes=modes.take(order),
        draws=draws.take(order),
        chains=fit.chains.take(order),
        weights=weights.take(order),
        kernel=kernel.take(order),
        challenge=None,
        screening=None,
        statuses=(
            _emulated_status(judged),
            *statuses,
            *run.statuses(float(np.max(weights.weight_se)) if k > 1 else 0.0, complete=True),
        ),
        n_logp_evals=run.evals,
        n_grad_evals=run.gradient_evals,
        seconds=run.seconds(),
        evaluations=density.history.evaluations(density.names, outputs=True),
        emulator=judged.found.emulator,
    )


def _kernel(run: Run, judged: _Judged, region: np.ndarray) -> tuple[Kernel, list[Status]]:
    """Return the kernel of exact draws, or of resampled ones."""
    fit, sample, posterior = judged.fit, judged.sample, judged.posterior
    generator = EmulatedGenerator(
        posterior.emulator, posterior.generator, float(posterior.weights.total)
    )
    settings = run.settings.emulation
    assert isinstance(settings, Emulation)
    wanted = settings.draws
    if wanted is None:
        wanted = "exact" if run.room_of_draws() >= ROOM_OF_DRAWS else "weighted"
    if wanted == "exact":
        attempts = min(STEPS_PER_JUMP * max(fit.kernel.jumps, 1), MAX_STEPS)
        jump = EmulatedJump(posterior.partition, generator, attempts)
        return Kernel(posterior.partition, generator, (jump,), (1,)), []
    rows = np.flatnonzero(sample.ratio > 0)
    share = np.cumsum(sample.ratio[rows])
    x = sample.x[rows]
    move = Resampling(
        x,
        sample.logp[rows],
        generator.minus_log_q(x, run.rng("kernel")),
        share / share[-1],
        region[rows],
    )
    status = Status(
        "weighted_draws",
        "emulation",
        f"draws are those of {counted(len(rows), 'evaluated point')}, resampled by their weights.",
        'Emulation(draws="exact"), and limits that allow for one evaluation a draw, give exact '
        "draws.",
        level="info",
    )
    return Kernel(posterior.partition, generator, (move,), (1,)), [status]


def _emulated_status(judged: _Judged) -> Status:
    verdict, found = judged.verdict, judged.found
    text = (
        f"the {counted(len(found.emulator.processes), 'output')} of the simulator were emulated "
        f"from {counted(len(found.data[0]), 'evaluation')}; of "
        f"{counted(len(judged.sample), 'draw')} of the emulated posterior, which the true density "
        f"judged, the effective size is {verdict.ess:.0%}, and the largest ratio "
        f"{verdict.largest:.1f} times the mean"
    )
    if verdict.reasons:
        return Status(
            "emulated",
            "emulation",
            f"{text}. The emulator is not precise ({verdict.reasons[0]}): the errors of the weights "
            "and of the log evidence are not known.",
            "Raise the limit, or Emulation(budget=...).",
        )
    return Status(
        "emulated",
        "emulation",
        f"{text}. No chains were run.",
        "emulation=False does without the emulator, and needs many more evaluations.",
        level="info",
    )
