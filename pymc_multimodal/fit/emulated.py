"""The fit of an expensive density: that of its emulator, judged and weighed by true evaluations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

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
    evaluated,
    integrate,
    joined_draws,
    judged_draws,
    judged_weights,
    plan_evaluations,
    price_of,
    refine,
    region_of,
)
from pymc_multimodal.fit.result import Fit
from pymc_multimodal.kernel import Kernel
from pymc_multimodal.proposals import Hybrid
from pymc_multimodal.regions import ChainDiagnostics
from pymc_multimodal.search import ModeSearch, begin_search
from pymc_multimodal.status import LimitReached, ModelError, Status, counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymc_multimodal.evidence import Weights
    from pymc_multimodal.fit.run import Run

__all__ = ["fit_by_emulation"]

# Error asked for of the emulated posterior's weights, relative to that asked for of the posterior's:
# it adds to the error of the judged draws, and costs no evaluations. Conventional.
EMULATED_SE = 0.4
# Attempts: a verdict against the emulator adds the judged draws to its points, and as many
# evaluations again. Conventional.
ATTEMPTS = 3
# Evaluations below which a limit leaves no room for a fit without emulation. Measured:
# examples/benchmarks/simulators.py
ROOM_WITHOUT = 5_000
# Evaluations that a limit has to leave for exact draws: those of four chains of a thousand draws.
# Conventional.
ROOM_OF_DRAWS = 4_000
# Steps on the emulated density for one draw. Conventional: with the acceptance of a poor mixture,
# 0.2, a draw repeats its predecessor once in 36 times.
STEPS = 16
# Effective size of the judged draws, where the planned evaluations allow. Conventional: that which
# is asked of draws before their quantiles are trusted (Vehtari et al. 2021).
MIN_EFFECTIVE = 400.0
# Largest sample of judged draws in units of the planned one, where their error is too large.
# Conventional.
MAX_GROWTH = 4.0


@dataclass(frozen=True, eq=False)
class _Judged:
    """An emulator, the fit of its posterior, and what the true density says of that."""

    found: Emulated
    posterior: EmulatedPosterior
    sample: WeightedSample
    verdict: Verdict

    @property
    def weights(self) -> Weights:
        """Weights by the judged draws."""
        return judged_weights(self.sample, region_of(self.posterior, self.sample), self.posterior)


def fit_by_emulation(run: Run) -> Fit | None:
    """Fit an expensive density by way of an emulator of its simulator's outputs.

    Parameters
    ----------
    run : Run

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
    judged = _emulate_and_judge(run, plan)
    if judged is not None:
        return _result(run, judged)
    density.outputs, density.function, density.has_gradient = None, function, has_gradient
    density.close()
    return None


def _room(run: Run) -> float:
    with run.limits(1.0, refuse=False):
        return run.density.room()


def _emulate_and_judge(run: Run, plan: Plan) -> _Judged | None:
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
            with run.recorded("integrate"):
                run.report("integrate", "integrating the emulated posterior")
                posterior = integrate(
                    density, found, distribution, EMULATED_SE * run.settings.target_se, rng
                )
            if posterior is None:
                return None
            with run.recorded("judge"), run.limits(1.0, refuse=False):
                run.report("judge", "true evaluations of emulated draws")
                judged = _judge(run, plan, found, posterior)
        except LimitReached:
            break
        if not judged.verdict.reasons:
            return judged
        rows = np.isfinite(judged.sample.x).all(axis=1)
        x = judged.sample.x[rows]
        logp, y = evaluated(density, x)
        found = found.with_points(x, y, logp)
        if _room(run) < plan.total // 2:
            break
    return judged if _room(run) < ROOM_WITHOUT else None


def _reporter(run: Run) -> Callable[[str], None]:
    return lambda text: run.report("emulate", f"emulating the simulator: {text}")


def _judge(run: Run, plan: Plan, found: Emulated, posterior: EmulatedPosterior) -> _Judged:
    """Evaluate draws of the emulated posterior; more, if their error is the only complaint."""
    density, rng = run.density, run.rng("judge")
    room = int(min(density.room(), max(plan.judged, plan.total - run.evals)))
    first = judged_draws(density, posterior, max(2, min(plan.judged, room) // 2), rng)
    second = judged_draws(density, posterior, max(2, min(plan.judged, room) // 2), rng)
    sample = joined_draws(posterior, first, second, rng)
    verdict = _verdict(run, posterior, sample, first)
    factor = max(verdict.missing, MIN_EFFECTIVE / max(verdict.ess * len(sample), 1.0))
    more = int(len(sample) * (min(factor, MAX_GROWTH) - 1.0))
    more = min(more, int(min(density.room(), plan.total - run.evals)))
    if not verdict.reasons and more > 0:
        sample = joined_draws(posterior, sample, judged_draws(density, posterior, more, rng), rng)
        verdict = _verdict(run, posterior, sample, first)
    return _Judged(found, posterior, sample, verdict)


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
    density, posterior, sample = run.density, judged.posterior, judged.sample
    region, weights = region_of(judged.posterior, sample), judged.weights
    if judged.verdict.reasons:
        weights = weights.without_errors()
    k = posterior.partition.n_regions
    draws = region_draws(sample, region, posterior.modes.locations, 0, run.rng("draws"))
    kernel, statuses = _kernel(run, judged, region)
    with run.limits(1.0, refuse=False):
        heights = density.logp(posterior.modes.locations)
    modes = replace(posterior.modes, log_density=heights, statuses=())
    order = np.argsort(-weights.weight, kind="stable")
    assert density.history is not None
    return Fit(
        config=replace(run.settings, generator=Hybrid()),
        names=density.names,
        modes=modes.take(order),
        draws=draws.take(order),
        chains=ChainDiagnostics.unknown(k),
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
    sample, posterior = judged.sample, judged.posterior
    generator = EmulatedGenerator(
        posterior.emulator, posterior.generator, float(posterior.weights.total)
    )
    settings = run.settings.emulation
    assert isinstance(settings, Emulation)
    wanted = settings.draws
    if wanted is None:
        wanted = "exact" if run.room_of_draws() >= ROOM_OF_DRAWS else "weighted"
    if wanted == "exact":
        jump = EmulatedJump(posterior.partition, generator, STEPS)
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
