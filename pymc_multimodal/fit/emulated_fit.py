"""The fit that an emulated posterior and its judged draws give."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation import region_draws
from pymc_multimodal.emulation import (
    EmulatedGenerator,
    EmulatedJump,
    Resampling,
    corrected_draws,
    region_of,
)
from pymc_multimodal.fit.emulated import exact_draws
from pymc_multimodal.fit.result import fit_without_chains
from pymc_multimodal.kernel import Kernel
from pymc_multimodal.search import MAX_MISSING_SHARE, missing_statuses
from pymc_multimodal.status import LimitReached, Status, counted

if TYPE_CHECKING:
    from pymc_multimodal.fit.emulated import Judged
    from pymc_multimodal.fit.result import Fit
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.search import Modes, Screening

__all__ = ["emulated_fit"]

# Steps on the emulated density for one draw. Conventional: with the acceptance of a poor mixture,
# 0.2, a draw repeats its predecessor once in 36 times.
STEPS = 16


def emulated_fit(
    run: Run, judged: Judged, screening: Screening | None = None, missing: float = 0.0
) -> Fit:
    """Return the fit of the true density.

    Parameters
    ----------
    run : Run
    judged : Judged
    screening : Screening, optional
        That of the search.
    missing : float
        Share of the starts whose modes the search may have missed (`missing_share`).

    Returns
    -------
    Fit
    """
    density, posterior, sample = run.density, judged.posterior, judged.sample
    region, weights = region_of(judged.posterior, sample), judged.weights
    draws = region_draws(sample, region, posterior.modes.locations, 0, run.rng("draws"))
    kernel, statuses = _kernel(run, judged, region)
    modes = _true_modes(run, judged, region)
    assert density.history is not None
    told = [_emulated_status(judged), *statuses, *judged.search_statuses]
    told += () if screening is None else screening.statuses
    if missing > MAX_MISSING_SHARE:
        weights, told = weights.without_errors(), missing_statuses(told, missing)
    return fit_without_chains(
        run,
        modes,
        draws,
        weights,
        kernel,
        told,
        evaluations=density.history.evaluations(density.names, outputs=density.outputs is not None),
        emulator=judged.found.emulator,
        screening=screening,
    )


def _true_modes(run: Run, judged: Judged, region: np.ndarray) -> Modes:
    """Return the modes with their true log density.

    If a limit is reached, the highest judged draw of a region stands for its mode.
    """
    posterior, sample = judged.posterior, judged.sample
    modes = replace(posterior.modes, statuses=())
    try:
        with run.recorded("judge"), run.limits(1.0, refuse=False):
            return replace(modes, log_density=run.density.logp(modes.locations))
    except LimitReached:
        x = modes.locations.copy()
        height = posterior.emulator.log_density(x)
    for k in range(len(modes)):
        rows = np.flatnonzero(region == k)
        if len(rows):
            best = rows[np.argmax(sample.logp[rows])]
            x[k], height[k] = sample.x[best], sample.logp[best]
    return replace(modes, locations=x, log_density=height)


def _kernel(run: Run, judged: Judged, region: np.ndarray) -> tuple[Kernel, list[Status]]:
    """Return the kernel of exact draws, or of resampled ones."""
    sample, posterior = judged.sample, judged.posterior
    generator = EmulatedGenerator(
        posterior.emulator, posterior.generator, float(posterior.weights.total)
    )
    if exact_draws(run):
        jump = EmulatedJump(posterior.partition, generator, STEPS)
        return Kernel(posterior.partition, generator, (jump,), (1,)), []
    weight, drawn = judged.weights.weight, None
    if not judged.verdict.reasons:
        drawn = corrected_draws(posterior, sample, weight, run.rng("corrected draws"))
    if drawn is not None:
        x, logp, share, own = drawn.x, drawn.log_density, drawn.share, drawn.region
        text = (
            f"draws are resampled from {counted(len(drawn), 'draw')} of the emulated posterior, "
            "each with the weight of the nearest draw that the true density judged; their log "
            "densities are emulated."
        )
    else:
        rows = np.flatnonzero(sample.ratio > 0)
        x, logp, share, own = sample.x[rows], sample.logp[rows], sample.ratio[rows], region[rows]
        # Each region as often as its weight says.
        total = np.bincount(own, share, minlength=len(weight))
        share = share * weight[own] / total[own]
        text = (
            f"draws are those of {counted(len(rows), 'evaluated point')}, resampled by their "
            "weights."
        )
    cumulative = np.cumsum(share)
    minus_log_q = generator.minus_log_q(x, run.rng("kernel"))
    move = Resampling(x, logp, minus_log_q, cumulative / cumulative[-1], own)
    status = Status(
        "weighted_draws",
        "emulation",
        text,
        'Emulation(draws="exact"), and limits that allow for one evaluation a draw, give exact '
        "draws.",
        level="info",
    )
    return Kernel(posterior.partition, generator, (move,), (1,)), [status]


def _emulated_status(judged: Judged) -> Status:
    verdict, found = judged.verdict, judged.found
    text = (
        f"{found.emulator.described}: emulated from {counted(len(found.data[0]), 'evaluation')}; "
        f"of {counted(len(judged.sample), 'draw')} of the emulated posterior, which the true "
        f"density judged, the effective size is {verdict.ess:.0%}, and the largest ratio "
        f"{verdict.largest:.1f} times the mean"
    )
    if verdict.reasons:
        return Status(
            "emulated",
            "emulation",
            f"{text}. The emulator is not precise ({verdict.reasons[0]}): errors of weights and "
            "log evidence are not known.",
            "Raise the limit (max_evals or max_seconds), or Emulation(budget=...).",
        )
    return Status(
        "emulated",
        "emulation",
        f"{text}. No chains were run.",
        "emulation=False fits without the emulator, and needs many more evaluations.",
        level="info",
    )
