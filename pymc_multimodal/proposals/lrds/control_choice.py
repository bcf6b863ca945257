"""Whether a control is trained, for which reference, and whether it is kept."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.proposals.acceptance import expected_acceptance
from pymc_multimodal.proposals.lrds.control_fit import fit_control
from pymc_multimodal.status import FitError, Status, first_line

if TYPE_CHECKING:
    from pymc_multimodal.proposals.lrds.chain import ReverseChain
    from pymc_multimodal.proposals.lrds.control import ControlTraining
    from pymc_multimodal.proposals.lrds.pool import SplitDraws
    from pymc_multimodal.proposals.lrds.settings import LRDSSettings
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["TrainedChain", "add_control", "failed_training"]

_log = logging.getLogger("pymc.multimodal")

# Nats by which the median log ratio of a region exceeds that of all draws where the reference
# misses the region: proposals are e^5 = 150 times too rare there.
# Measured: examples/benchmarks/constants.py
MISSED_LOG_RATIO = 5.0
# Least expected acceptance of the alternative reference, in units of that of the first one, at
# which the alternative is trained first. Measured: examples/benchmarks/constants.py
MIN_RELATIVE_ACCEPTANCE = 0.6
# Fewest evaluations for which a training is started. Measured: examples/benchmarks/constants.py
MIN_EVALUATIONS = 2000
# Share of ends of the chain with a finite density below which a status says so. Conventional.
MIN_FINITE_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class TrainedChain:
    """A chain with a control, or without where none serves better.

    Attributes
    ----------
    chain : ReverseChain
    statuses : tuple of Status
    training : ControlTraining or None
        None where no control was trained, or its training failed.
    """

    chain: ReverseChain
    statuses: tuple[Status, ...]
    training: ControlTraining | None = None


def add_control(
    settings: LRDSSettings,
    chain: ReverseChain,
    alternative: ReverseChain | None,
    draws: SplitDraws,
    density: LogDensity | None,
    rng: np.random.Generator,
) -> TrainedChain:
    """Add a control to a chain where its reference is not good enough, and training improves it.

    What a mixture of many components has wrong varies from component to component, and is harder
    to learn than what one Gaussian for each region has wrong. Therefore an alternative reference
    that is nearly as good is trained first.

    Parameters
    ----------
    settings : LRDSSettings
    chain : ReverseChain
        The reference alone.
    alternative : ReverseChain or None
        The chain of a reference with fewer components.
    draws : SplitDraws
    density : LogDensity or None
    rng : numpy.random.Generator

    Returns
    -------
    TrainedChain
    """
    held_out = draws.held_out
    rows = held_out.choose_rows(len(held_out.x), rng)
    log_ratio = chain.log_ratio(held_out.x, held_out.logp, rng)
    statuses = _missed_regions(log_ratio, held_out.region, float(np.median(log_ratio[rows])))
    acceptance = expected_acceptance(log_ratio[rows])
    budget = _evaluations(settings, acceptance, density)
    if not budget:
        return TrainedChain(chain, statuses)
    candidates = [chain]
    if alternative is not None:
        log_ratio = alternative.log_ratio(held_out.x, held_out.logp, rng)
        if expected_acceptance(log_ratio[rows]) > MIN_RELATIVE_ACCEPTANCE * acceptance:
            candidates = [alternative, chain]
    try:
        best, training = _first_improvement(
            settings, candidates, draws, density, acceptance, budget, rng
        )
    except FitError:
        raise
    except (ImportError, RuntimeError, MemoryError) as error:
        _log.debug("training of the control failed", exc_info=True)
        return TrainedChain(chain, (*statuses, failed_training("control", first_line(error))))
    after = training.acceptance[1]
    if best is None:
        statuses += (_useless_training(acceptance, after),)
    if training.finite_share < MIN_FINITE_SHARE:
        statuses += (_ends_outside(training.finite_share),)
    return TrainedChain(best or chain, statuses, training)


def failed_training(what: str, cause: str) -> Status:
    """Make the status of a training that was not possible."""
    return Status(
        "control", "proposals", f"no {what} was trained: {cause}.",
        "The Gaussian mixture serves alone; draws stay exact.",
    )  # fmt: skip


def _evaluations(settings: LRDSSettings, acceptance: float, density: LogDensity | None) -> int:
    """Density evaluations that a training may take; 0 if none is due."""
    network = settings.network
    if not settings.train or acceptance >= network.min_acceptance:
        return 0
    if density is None:
        # The loss "kl" is an average over paths of the chain, at whose ends nothing is known.
        most = 0 if settings.loss == "kl" else network.evaluations
    else:
        most = 0 if density.exhausted() else min(network.evaluations, density.spent())
    return most if most >= MIN_EVALUATIONS else 0


def _first_improvement(
    settings: LRDSSettings,
    candidates: list[ReverseChain],
    draws: SplitDraws,
    density: LogDensity | None,
    acceptance: float,
    max_evaluations: int,
    rng: np.random.Generator,
) -> tuple[ReverseChain | None, ControlTraining]:
    """Train candidates in turn, until one is expected to have more jumps accepted.

    Returns
    -------
    chain : ReverseChain or None
        The trained chain whose expected acceptance exceeds `acceptance`.
    training : ControlTraining
        Of the last chain that was trained.
    """
    for number, candidate in enumerate(candidates):
        if number and density is not None and density.exhausted():
            break
        control, training = fit_control(
            candidate, draws, density, settings.network, settings.loss, max_evaluations, rng
        )
        if control is not None and training.acceptance[1] > acceptance:
            return candidate.with_control(control), training
    return None, replace(training, kept=False)


def _missed_regions(log_ratio: np.ndarray, region: np.ndarray, middle: float) -> tuple[Status, ...]:
    """Statuses of the regions that a reference hardly ever goes to.

    The log ratios of their draws are far above `middle`, the median log ratio of all draws by
    their weights, however small the weight of the region.
    """
    found = []
    for k in np.unique(region):
        excess = np.median(log_ratio[region == k]) - middle
        if excess > MISSED_LOG_RATIO:
            found.append(
                Status(
                    "reference", "proposals",
                    "the reference of the diffusion sampler misses this region: the log ratios of "
                    f"its draws are {excess:.0f} above those of the others.",
                    "Its proposals come from the defensive share, draws stay exact; leave out "
                    "components=, or raise it.",
                    mode=int(k),
                )
            )  # fmt: skip
    return tuple(found)


def _useless_training(before: float, after: float) -> Status:
    return Status(
        "control", "proposals",
        "training did not improve the diffusion sampler (expected acceptance "
        f"{before:.2f} before, {after:.2f} after): its reference serves alone.",
        "Draws stay exact; ControlNetwork(evaluations=..., steps=...) trains longer.",
        level="info",
    )  # fmt: skip


def _ends_outside(finite_share: float) -> Status:
    return Status(
        "outside", "proposals",
        f"the model has a finite density at only {finite_share:.0%} of the ends of the paths of "
        "the diffusion sampler.",
        "The other ends are rejected, draws stay exact; transform a variable with sharp bounds "
        "inside of a mode.",
        level="info",
    )  # fmt: skip
