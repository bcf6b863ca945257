"""Which regions get more draws or more proposals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.evidence.masses import LOG_EVIDENCE_FACTOR

if TYPE_CHECKING:
    from pymc_multimodal.evidence.masses import Weights

__all__ = [
    "FIRST_PROPOSALS",
    "MAX_LOG_EVIDENCE_SE",
    "MIN_PROPOSALS",
    "plan",
    "required_share",
]

# Standard error (nats) asked for of the log evidence of every region that matters, so that a small
# weight is not uncertain by a factor where `target_se` alone would allow that. Conventional: 10 %.
MAX_LOG_EVIDENCE_SE = 0.1
# Proposals of each region to begin with; and if a limit of the fit is reached before.
# Measured: examples/benchmarks/constants.py
FIRST_PROPOSALS, MIN_PROPOSALS = 1000, 100
# Proposals of each region from which on no more are added. Measured:
# examples/benchmarks/constants.py
MAX_PROPOSALS = 64_000
# Error of a log evidence (nats) for which chains need all the effective draws that
# `LocalSampling.min_ess` asks for: that of one of two equal modes with a weight of 0.5 +- 0.01. And
# the least share of them. Measured: examples/benchmarks/calibration.py
FULL_ESS_SE, LEAST_SHARE = 0.04, 0.25
# One of the two parts of a variance is lowered if it exceeds the other one divided by this.
# Measured: examples/benchmarks/constants.py
BALANCE = 3


def plan(
    weights: Weights,
    n_draws: np.ndarray,
    n_proposals: np.ndarray,
    target_se: float,
    max_draws: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the regions that get more draws or more proposals: as many again as there are.

    Draws or proposals are added where they contribute most to an error that is too large.

    Parameters
    ----------
    weights : Weights
    n_draws : array of int, shape (K,)
        Draws of each chain of a region so far.
    n_proposals : array of int, shape (K,)
        Proposals of each region so far.
    target_se : float
        Standard error asked for of every weight.
    max_draws : int
        Draws of a chain from which on no more are added.

    Returns
    -------
    more_draws, more_proposals : arrays of bool, shape (K,)
        If both are False everywhere, the weights are precise enough, or cannot become more precise.
    """
    short = weights.needs(target_se, MAX_LOG_EVIDENCE_SE)
    by_draws, by_proposals = weights.from_draws, weights.from_proposals
    more_draws = short & (by_draws > by_proposals / BALANCE) & (n_draws < max_draws)
    more_proposals = short & (by_proposals > by_draws / BALANCE) & (n_proposals < MAX_PROPOSALS)
    return more_draws, more_proposals


def required_share(weight: np.ndarray, target_se: float) -> np.ndarray:
    """Part of `LocalSampling.min_ess` that the weights need of each region, shape (K,).

    An error s of the log evidence of a region of weight w is one of ``w (1 - w) s`` of its weight,
    and of ``w s`` of the log evidence of the posterior.

    Parameters
    ----------
    weight : array of shape (K,)
        Guesses are enough.
    target_se : float
        Standard error asked for of every weight.
    """
    w = np.maximum(weight, 1e-300)
    by_total = LOG_EVIDENCE_FACTOR * target_se / w
    half = np.minimum(w, 0.5)
    # The weight of a single region has no error.
    by_weight = target_se / (half * (1.0 - half)) if len(w) > 1 else by_total
    error = np.minimum(np.minimum(by_weight, by_total), MAX_LOG_EVIDENCE_SE)
    return np.clip((FULL_ESS_SE / error) ** 2, LEAST_SHARE, 1.0)
