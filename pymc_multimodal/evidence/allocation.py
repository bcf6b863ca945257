"""Which regions get more draws or more proposals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.evidence.masses import Weights

__all__ = ["FIRST_PROPOSALS", "MIN_PROPOSALS", "plan"]

# Standard error (nats) asked for of the log evidence of every region that matters, so that a small
# weight is not uncertain by a factor where `target_se` alone would allow that. Conventional: 10 %.
MAX_LOG_EVIDENCE_SE = 0.1
# Proposals of each region to begin with; and if a limit of the fit is reached before.
# Measured: examples/benchmarks/constants.py
FIRST_PROPOSALS, MIN_PROPOSALS = 1000, 100
# Proposals of each region from which on no more are added. Measured:
# examples/benchmarks/constants.py
MAX_PROPOSALS = 64_000
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
