"""What a result is made of: by the steps of a fit, or by Laplace's approximation of the modes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from pymc_multimodal.approximation import region_draws, region_weights
from pymc_multimodal.evidence import Weights, reported, unmixed_status
from pymc_multimodal.fit.choose_kernel import choose_kernel, stored_ratios
from pymc_multimodal.fit.state import known
from pymc_multimodal.kernel import MAX_JUMPS, Kernel, make_kernel
from pymc_multimodal.proposals import RegionalMixture, laplace
from pymc_multimodal.regions import (
    ChainDiagnostics,
    NearestMode,
    RegionDraws,
    diagnostics_of,
    first_parameters,
    unknown_spread,
)
from pymc_multimodal.search import highest_point, modes_of
from pymc_multimodal.status import RAISE_LIMIT, Status
from pymc_multimodal.target.cells import Cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.challenge import ChallengeResult
    from pymc_multimodal.fit.run import Run
    from pymc_multimodal.fit.state import State
    from pymc_multimodal.regions import Partition
    from pymc_multimodal.search import Modes

__all__ = ["Answer", "answer_of", "laplace_answer", "sample_answer"]

# Draws of each region from its normal approximation. Chains of the kept draws start there.
# Conventional.
LAPLACE_DRAWS = 16
# Effective draws for each mode below which a sample says less of the weights than Laplace's
# approximation. Measured: with ten products of Student-t densities in 50 dimensions a sample of few
# effective draws gave one mode 0.76 for 0.12, Laplace's approximation is within a factor of four.
MIN_EFFECTIVE_DRAWS = 4.0


@dataclass(frozen=True)
class Answer:
    """Regions, weights and kernel, in the order of the regions of the fit.

    Attributes
    ----------
    cells : Cells or None
        Where the density is symmetric.
    partition : Partition
    modes : Modes
    draws : RegionDraws
    chains : ChainDiagnostics
    weights : Weights
    kernel : Kernel
    challenge : ChallengeResult or None
    statuses : tuple of Status
        With the numbers of the regions.
    """

    cells: Cells | None
    partition: Partition
    modes: Modes
    draws: RegionDraws
    chains: ChainDiagnostics
    weights: Weights
    kernel: Kernel
    challenge: ChallengeResult | None
    statuses: tuple[Status, ...]

    def take(self, order: np.ndarray) -> Answer:
        """Renumber the regions: new region i is old region ``order[i]``.

        The cells and the partition stay as they are; see `Orbits`.
        """
        rank = np.argsort(order)
        return replace(
            self,
            modes=self.modes.take(order),
            draws=self.draws.take(order),
            chains=self.chains.take(order),
            weights=self.weights.take(order),
            kernel=self.kernel.take(order),
            challenge=None if self.challenge is None else self.challenge.take(order),
            statuses=tuple(
                s if s.mode is None else replace(s, mode=int(rank[s.mode])) for s in self.statuses
            ),
        )


# ------------------------------------------------------------------ by the steps


def answer_of(state: State, run: Run) -> Answer:
    """Return what the steps have found.

    Parameters
    ----------
    state : State
        With weights.
    run : Run

    Returns
    -------
    Answer
    """
    if state.ends_early:
        return _early_answer(state, run)
    division, records = known(state.division), known(state.chains)
    chains, unmixed = diagnostics_of(records, run.settings.local), unknown_spread(records)
    kernel, kernel_statuses = _kernel(state, run)
    statuses = [
        *division.modes.statuses,
        *division.partition.statuses,
        *(
            unmixed_status(int(k), records.ess[k], records.records[k].logp.shape[1])
            for k in np.flatnonzero(unmixed)
        ),
        *chains.statuses,
        *known(state.weights).statuses,
        *(state.cross_check.statuses if state.cross_check is not None else ()),
        *known(state.samples).fitted.statuses,
        *(state.challenge_result.statuses if state.challenge_result is not None else ()),
        *(state.generator.fallbacks if state.generator is not None else ()),
        *device_statuses(state.devices),
        *kernel_statuses,
    ]
    return Answer(
        cells=division.cells,
        partition=division.partition,
        modes=division.modes,
        draws=known(state.draws),
        chains=chains,
        weights=reported(state.final_weights, unmixed, records.negligible),
        kernel=kernel,
        challenge=state.challenge_result,
        statuses=tuple(statuses),
    )


def device_statuses(devices: tuple[str, ...]) -> tuple[Status, ...]:
    """Say which GPUs networks used; nothing if they stayed on the CPU."""
    if not devices:
        return ()
    return (
        Status("device", "proposals",
               f"networks were trained or drawn from on the device {' and '.join(devices)}.",
               "Network(device='cpu') keeps them on the CPU.", level="info"),
    )  # fmt: skip


def _early_answer(state: State, run: Run) -> Answer:
    """Return what a precise first answer has found."""
    division, found, weights = known(state.division), known(state.approximation), state.weights
    kernel, statuses = state.kernel, state.kernel_statuses
    if kernel is None:
        generator = found.generator
        kernel = make_kernel(
            division.partition, division.pilot.parameters, generator, attempts=MAX_JUMPS
        )
    return Answer(
        cells=division.cells,
        partition=division.partition,
        modes=division.modes,
        draws=known(state.draws),
        chains=ChainDiagnostics.unknown(division.partition.n_regions),
        weights=known(weights),
        kernel=kernel,
        challenge=None,
        statuses=(
            *division.modes.statuses,
            *division.partition.statuses,
            *known(weights).statuses,
            found.status,
            *statuses,
        ),
    )


def _kernel(state: State, run: Run) -> tuple[Kernel, Sequence[Status]]:
    """Return the kernel; where a limit left it out, one of the regional proposals.

    Such a kernel is chosen without evaluations.
    """
    if state.kernel is not None:
        return state.kernel, state.kernel_statuses
    weights, draws, samples = state.final_weights, known(state.draws), known(state.samples)
    generator = state.generator or RegionalMixture(samples.fitted.densities, weights.weight)
    kernel = make_kernel(known(state.division).partition, known(state.chains).parameters, generator)
    target, rng = state.target(run.density), run.rng("kernel")
    proposed = stored_ratios(kernel, samples, weights, rng)
    return choose_kernel(target, kernel, draws, weights, rng, proposed=proposed, repeat=False)


# ------------------------------------------------------------------ by the modes alone


def laplace_answer(state: State, run: Run) -> Answer:
    r"""Return Laplace's approximation of the modes, without an evaluation of the density.

    The log evidence of a mode at x with the inverse negative Hessian S is

    .. math:: \log \gamma(x) + \tfrac d2 \log 2 \pi + \tfrac12 \log |S|.

    No error of it is known. The kernel proposes from the normal approximations; its draws are exact
    in the limit of many.

    Parameters
    ----------
    state : State
    run : Run

    Returns
    -------
    Answer

    Raises
    ------
    FitError
        If the density is known at no point.
    """
    density, search = run.density, state.search
    if search.highest is None and density.hung is not None:
        raise density.hung
    if len(search.optima):
        modes = modes_of(density, search, run.settings.modes)
    elif state.exploration is not None:
        modes = state.exploration.modes
    else:
        modes = highest_point(search)
    cells = run.cells(search.optima, modes)
    partition = NearestMode(modes.locations, modes.scale, density.period)
    weights = _laplace_weights(modes, np.ones(len(modes)) if cells is None else cells.images)
    densities = [
        laplace(x, scale, density.period)
        for x, scale in zip(modes.locations, modes.scale, strict=True)
    ]
    generator = RegionalMixture(densities, weights.weight)
    return Answer(
        cells=cells,
        partition=partition,
        modes=modes,
        draws=_normal_draws(modes, run),
        chains=ChainDiagnostics.unknown(len(modes)),
        weights=weights,
        kernel=_kernel_of_modes(partition, generator, modes, run),
        challenge=None,
        statuses=(*modes.statuses, _laplace_status(modes)),
    )


def sample_answer(state: State, run: Run) -> Answer | None:
    """Return what the sample of the first answer says; None if it says nothing.

    It says nothing if it has fewer than four effective draws for each mode. The regions are those
    of the nearest modes. Errors are given if the sample is precise, though no chain has confirmed
    it.

    Parameters
    ----------
    state : State
    run : Run

    Returns
    -------
    Answer or None
    """
    found = state.approximation
    if found is None or not found.sample.ratio.any():
        return None
    density, modes, sample = run.density, found.modes, found.sample
    partition = NearestMode(modes.locations, modes.scale, density.period)
    region, weights = region_weights(partition, sample)
    few = found.verdict.ess * len(sample) < MIN_EFFECTIVE_DRAWS * len(modes)
    if few or not (weights.weight > 0).all():
        return None
    k, n_grad = len(modes), density.dim if density.has_gradient else 0
    if not found.verdict.precise:
        weights = weights.without_errors()
    rng = run.rng("first answer")
    return Answer(
        cells=run.cells(state.search.optima, modes),
        partition=partition,
        modes=modes,
        draws=region_draws(sample, region, modes.locations, n_grad, rng),
        chains=ChainDiagnostics.unknown(k),
        weights=weights,
        kernel=_kernel_of_modes(partition, found.generator, modes, run),
        challenge=None,
        statuses=(*modes.statuses, found.unconfirmed_status),
    )


def _kernel_of_modes(
    partition: NearestMode, generator: RegionalMixture, modes: Modes, run: Run
) -> Kernel:
    """Return a kernel of the most jumps; its local moves are not adapted."""
    parameters = first_parameters(run.density, modes.scale)
    return make_kernel(partition, parameters, generator, attempts=MAX_JUMPS)


def _laplace_weights(modes: Modes, images: np.ndarray) -> Weights:
    """Weights by Laplace's approximation, with unknown errors."""
    k, d = modes.locations.shape
    log_z = modes.log_mass + 0.5 * d * np.log(2 * np.pi) + np.log(images)
    weight = np.exp(log_z - logsumexp(log_z))
    if modes.runaway:
        log_z = np.full(k, np.nan)
    unknown = np.full(k, np.nan)
    return Weights(
        weight=weight,
        weight_se=unknown,
        log_evidence=log_z,
        log_evidence_se=unknown,
        interval=np.full((k, 2), np.nan),
        total=float(logsumexp(log_z)),
        total_se=float("nan"),
        pareto_k=unknown,
        from_draws=unknown,
        from_proposals=unknown,
        bounds=np.full((k, 2), np.nan),
        iterations=tuple(log_z[:, None]),
    )


def _normal_draws(modes: Modes, run: Run) -> RegionDraws:
    """Draws of the normal approximations; their log densities are not known."""
    k, d = modes.locations.shape
    noise = run.rng("laplace").standard_normal((k, LAPLACE_DRAWS, d))
    x = modes.locations[:, None] + np.einsum("kij,knj->kni", modes.scale, noise)
    n_grad = d if run.density.has_gradient else 0
    return RegionDraws(
        x=tuple(run.density.wrap(x)[:, None]),
        logp=tuple(np.full((k, 1, LAPLACE_DRAWS), np.nan)),
        grad=tuple(np.full((k, 1, LAPLACE_DRAWS, n_grad), np.nan)),
        centre=modes.locations,
        ess=np.full(k, np.nan),
    )


def _laplace_status(modes: Modes) -> Status:
    cause = (
        "a limit was reached before the regions were weighed: weights and log evidence are Laplace "
        "approximations at the modes, and their errors are not known."
    )
    if modes.runaway:
        cause = (
            "a limit was reached before the one region was sampled, and no optimum is known: the "
            "log evidence is not known, and the region's weight of 1 says nothing."
        )
    return Status("laplace", "fit", cause, RAISE_LIMIT)
